"""Where records come from: a data set of the hub, or a local file."""

from typing import Literal

from pydantic import Field

from sawyer.recipe.section import Positive, Spec


class DataSource(Spec):
    """One set of records: a Hugging Face dataset, or a local file or folder (``SAWYER_DATA`` is searched first)."""

    name: str = Field(min_length=1, description="hub id, or path of a file or folder; starter/… is in the package")
    split: str = Field("train", description="split of the dataset; for a folder, the stem of the file")
    subset: str | None = Field(None, description="configuration name of a hub dataset")
    revision: str | None = Field(None, description="commit, tag or branch of a hub dataset")
    format: Literal["auto", "hh", "guanaco", "scored"] = Field(
        "auto", description="auto reads the field names; the others are the layouts of well-known public sets"
    )
    fields: dict[str, str] = Field(default_factory=dict, description="our field name -> the source's field name")
    where: dict[str, list[str]] = Field(
        default_factory=dict, description="keep only records whose field (our name) holds one of these values"
    )
    template: str | None = Field(
        None, description="a prompt made of the record's fields (ppo, evaluate), such as 'Summarize: {text}'"
    )
    limit: Positive | None = Field(None, description="use at most this many records, after shuffling")
    weight: float = Field(1.0, gt=0.0, le=1000.0, description="share in a mixture (base), or repetitions (sft)")
    render: Literal["chat", "transcript", "text"] = Field(
        "chat", description="base only: how conversations become text (chat template, or A:/B: lines)"
    )
