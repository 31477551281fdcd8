"""What a server says of itself: its models, defaults and health."""

from typing import Literal

from pydantic import Field

from sawyer.types.common import Answer, Sampling, Stage


class ServerInfo(Answer):
    """``GET /v1/info``: what a page needs to know before the first question."""

    name: str = Field(description="the recipe's name")
    description: str = ""
    stages: list[Stage] = Field(description="stages that can be asked, in showing order; empty until ready")
    versions: dict[str, str | None] = Field(default_factory=dict, description="stage -> adapter version")
    refs: list[str] = Field(default_factory=list, description="versions that can be asked for by name, such as rlf@2")
    kind: Literal["chat", "summary"] = Field("chat", description="summary: an encoder-decoder that rewrites a text")
    template: str = Field("{text}", description="how a text is put to a model that summarises")
    parts: dict[str, float] = Field(default_factory=dict, description="parts of the reward -> weight, if several")
    ready: bool
    rewards: bool = Field(description="replies are scored")
    sampling: Sampling = Field(description="defaults of the sampling settings")
    context: int = Field(description="longest prompt plus reply, in tokens")
    max_tokens: int = Field(description="largest max_tokens accepted")
    examples: list[str] = Field(default_factory=list, description="questions to start from")


class Health(Answer):
    """``GET /healthz`` and ``GET /readyz``."""

    status: Literal["ok", "loading", "failed", "draining"]
    detail: str | None = None


class ModelCard(Answer):
    """One entry of ``GET /v1/models``; ``root`` names the version behind a moving name."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "sawyer"
    root: str | None = None


class ModelList(Answer):
    """``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
