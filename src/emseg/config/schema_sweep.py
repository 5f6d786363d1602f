"""The typed config of a grid of decoders."""

from dataclasses import dataclass, field
from typing import Any, Literal

from emseg.config.limits import is_name, require


@dataclass(kw_only=True)
class SweepConfig:
    """Every combination of the values in `grid`, whose keys are arguments of the decoder.

    `best` names the scores whose mean over the volumes selects the best combinations; file names
    begin with `name`. `tables` adds the files of a published evaluation.
    """

    name: str = "sweep"
    grid: dict[str, list[Any]] = field(default_factory=dict)
    best: dict[str, Literal["minimize", "maximize"]] = field(default_factory=dict)
    tables: Literal["dbmim"] | None = None

    def __post_init__(self) -> None:
        require(is_name(self.name), "name", self.name, "a name for a file")
        for key, values in self.grid.items():
            require(len(values) > 0, f"grid.{key}", values, "at least one value")
            twice = [value for value in values if values.count(value) > 1]
            require(not twice, f"grid.{key}", values, "values that differ")
