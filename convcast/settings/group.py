"""Base class of the groups of settings, and types of values that several groups use."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

from convcast.variables import select

FieldName = Annotated[str, AfterValidator(lambda name: select((name,))[0].name)]

# JSON has no infinity; it is written as text, which is read as infinity again.
DurationOrForever = Annotated[
    float, Field(gt=0), PlainSerializer(lambda n: n if math.isfinite(n) else "inf", when_used="json")
]
"""A duration, which may be infinite."""


def check_unique(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Check that no number is repeated."""
    if len(set(numbers)) < len(numbers):
        raise ValueError("give each once")
    return numbers


class Group(BaseModel):
    """A table of settings; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
