"""What the page knows of the server: who answers, whether it is ready, and if not, why not."""

from dataclasses import dataclass

from sawyer.types import STAGES, ServerInfo
from ui import texts


@dataclass(frozen=True)
class Connection:
    """``info`` is None until the server has answered once. ``notice`` is a sentence to show, or empty."""

    info: ServerInfo | None = None
    notice: str = ""

    @property
    def ready(self) -> bool:
        return self.info is not None and self.info.ready

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that can be asked, or all of them while the server has not said."""
        return tuple(self.info.stages) if self.info and self.info.stages else STAGES

    @property
    def examples(self) -> tuple[str, ...]:
        return tuple(self.info.examples) if self.info and self.info.examples else texts.EXAMPLES
