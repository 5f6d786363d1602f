"""Rows of scores: their means over volumes, the best mean, and a table of all rows."""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from emseg.volumes.atomic import replacing

Row = dict[str, Any]


def means_of(rows: Sequence[Row], columns: Sequence[str], scores: Sequence[str]) -> list[Row]:
    """The mean scores of the rows with equal columns, in order of appearance.

    Args:
        rows: those with a `failure` have no scores, and do not count.
        columns: names of what is equal in the rows of a mean.
        scores: names of what is averaged.

    Returns:
        Rows of the columns, the mean scores, and `n`, the number of rows averaged.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if "failure" not in row:
            groups.setdefault(json.dumps([row.get(name) for name in columns]), []).append(row)
    return [
        {name: group[0][name] for name in columns if name in group[0]}
        | {"n": len(group)}
        | {score: float(np.mean([row[score] for row in group])) for score in scores}
        for group in groups.values()
    ]


def best_of(means: Sequence[Row], score: str, way: str, *, n: int) -> Row | None:
    """The first of the best means; None if none of them is a number.

    Args:
        means: of `means_of`.
        score: the name of what is compared.
        way: `minimize`; else the largest is best.
        n: only means of so many rows count.
    """
    sound = [mean for mean in means if mean["n"] == n and not np.isnan(mean[score])]
    choose = min if way == "minimize" else max
    return choose(sound, key=lambda mean: mean[score]) if sound else None


def with_values(means: Sequence[Row], values: Row, *, n: int) -> Row | None:
    """The mean of `n` rows that has these values in its columns, or None."""
    found = (mean for mean in means if mean["n"] == n and values.items() <= mean.items())
    return next(found, None)


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Writes the rows as CSV, with all columns of any row; the file is complete or not there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as partial:
        partial.write_text(text.getvalue())
