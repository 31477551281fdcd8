"""What every section of a recipe is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
LearningRate = Annotated[float, Field(gt=0.0, le=1.0)]


class Spec(BaseModel):
    """Base of every section: unknown keys are refused, nothing is mutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
