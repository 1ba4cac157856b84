"""What every block of the config has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]
Longitude = Annotated[float, Field(ge=-180, le=180)]
LATITUDES = (-80, 84)
"""Where there are UTM zones."""
Latitude = Annotated[float, Field(ge=LATITUDES[0], le=LATITUDES[1])]


class Block(BaseModel):
    """A block of the config: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
