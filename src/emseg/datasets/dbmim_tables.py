"""A sweep as files and columns of dbMiM's own evaluation, for users of its scripts.

Columns of its other methods (`min_boundary`, `score_mode`, `rag_quantile`, `z_threshold`,
`xy_threshold`) are left out, and so are times that a sweep does not measure separately.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from emseg import __version__
from emseg.decoding.agglomeration.section_fragments import GRID_SPACING
from emseg.errors import UserError, unknown_name
from emseg.evaluation.means import Row, best_of, means_of, with_values

FILES = "cremi_segmentation"
AFFINITY_SCORES = ("affinity_dice", "affinity_iou")
# Its columns by our names: arguments of the decoder, and scores. Its scores come from scikit-image,
# which calls our recall precision.
ARGUMENTS = {"backend": "backend", "threshold": "thresholds", "waterz_scoring": "merge_function"}
SCORES = {
    "adapted_rand_error": "adapted_rand_skimage",
    "rand_precision": "adapted_rand_recall_skimage",
    "rand_recall": "adapted_rand_precision_skimage",
    **{name: name for name in ("voi_split", "voi_merge", "voi_sum", "n_pred", "n_gt", "n_voxels")},
}
WHOLE = ("n_pred", "n_gt", "n_voxels")
# The columns with a mean over the samples.
MEASURED = (
    *("adapted_rand_error", "rand_fscore", "rand_precision", "rand_recall"),
    *("voi_split", "voi_merge", "voi_sum", *AFFINITY_SCORES, "postprocess_sec"),
)
CALIBRATION = tuple(f"calibration_{name}" for name in ("bias_z", "bias_y", "bias_x", "temperature"))
# More settings of its fragments: pixels between the seeds of a grid, and the boundary threshold.
FRAGMENTS = {"seed_distance": GRID_SPACING, "boundary_threshold": 0.5}


def check_publishable(
    decoding: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    *,
    name: str,
    scores: Collection[str],
    axes: Collection[str],
    selected: bool,
) -> None:
    """Refuses a sweep that lacks something for a column of the tables.

    Args:
        decoding: the decoder's arguments.
        grid: the values that are tried, by argument.
        name: `sweep.name`.
        scores: the names of the scores that a row will have.
        axes: the axes of each volume.
        selected: whether a choice of the network's channels is set.

    Raises:
        UserError: it lacks something; the line names it.
    """
    where = "sweep.tables=dbmim"
    if name == FILES:
        raise UserError(f"sweep.name is {FILES}, and {where} writes files of that name: change it")
    fixed = decoding.get("fragments") == "sections" and "fragments" not in grid
    if not (fixed and {*ARGUMENTS.values()} <= decoding.keys()):
        raise UserError(f"{where} is for decoding=agglomerate_sections: its columns are of that")
    if None in (decoding.get("biases"), *grid.get("biases", ())):
        raise UserError(
            f"{where} has columns of biases: decoding.biases and the grid's are [0, 0, 0] for none"
        )
    for score in SCORES.values():
        if score not in scores:
            raise unknown_name("score", score, scores, where=f"{where}, from evaluation.metrics")
    if selected or {*axes} != {"zyx"}:
        raise UserError(
            f"{where} has columns of biases along z, y and x: it takes volumes stored zyx, and no "
            "inference.model.select_channel or head"
        )


def published_tables(
    rows: Sequence[Row],
    decoding: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    *,
    own: Row,
    samples: Sequence[Row],
    settings: Row,
) -> dict[str, Any]:
    """The content of each file by its name, tables and JSON.

    `cremi_segmentation_records.json` and `cremi_segmentation_metrics.csv` (the rows),
    `cremi_affinity_stats.csv` (a row for each sample and calibration) and
    `cremi_segmentation_summary.json`: its settings, means by combination (`per_backend_threshold`)
    and by threshold alone (`per_threshold`), `best_by_voi_sum` and `best_by_adapted_rand` over the
    combinations that all samples have, and `configured`, for the config's own arguments.

    Args:
        rows: the rows of the sweep.
        decoding: the decoder's arguments.
        grid: the values that were tried, by argument.
        own: the columns of the config's own combination.
        samples: the facts to be listed for each sample.
        settings: more facts at the beginning of the summary.
    """
    searched = {key.partition(".")[0] for key in grid}

    def combination(row: Row) -> Row:
        names = (name for name in row if name == "sample" or name.partition(".")[0] in searched)
        return published({name: row[name] for name in names}, decoding)

    records = [combination(row) | measured(row) for row in rows if "failure" not in row]
    about = ("sample", "affinity_variant", *CALIBRATION, *AFFINITY_SCORES)
    overlaps = [{name: row[name] for name in about} for row in records]
    affinities = [row for at, row in enumerate(overlaps) if row not in overlaps[:at]]
    summary = settings | {
        "decoding": decoding,
        "grid": grid,
        "emseg": __version__,
        "num_records": len(records),
        "sample_records": samples,
        "affinity_records": affinities,
        "failures": [
            combination(row) | {"error": row["failure"]} for row in rows if "failure" in row
        ],
        **summarized(records, own=published(own, decoding), n=len(samples)),
    }
    return {
        f"{FILES}_records.json": records,
        f"{FILES}_metrics.csv": records,
        "cremi_affinity_stats.csv": affinities,
        f"{FILES}_summary.json": summary,
    }


def published(row: Row, decoding: Mapping[str, Any]) -> Row:
    """The columns that identify the sample and combination of a row, without scores.

    Arguments of a grid without a column in the tables have their own names.
    """
    calibration = [row.get(f"biases.{axis}", b) for axis, b in enumerate(decoding["biases"])]
    calibration.append(row.get("temperature", decoding.get("temperature", 1.0)))
    known = {"sample", *ARGUMENTS.values(), "temperature"}
    more = {k: v for k, v in row.items() if k not in known and k.partition(".")[0] != "biases"}
    sample = {"sample": row["sample"]} if "sample" in row else {}
    return (
        sample
        | {"affinity_variant": variant_name(calibration)}
        | dict(zip(CALIBRATION, calibration, strict=True))
        | {name: row.get(ours, decoding[ours]) for name, ours in ARGUMENTS.items()}
        | FRAGMENTS
        | more
    )


def measured(row: Row) -> Row:
    """The scores of a row under their names in the tables, with their computing time."""
    scores = {name: row[ours] for name, ours in SCORES.items()}
    scores |= {name: int(scores[name]) for name in WHOLE}
    more = {"rand_fscore": 1 - scores["adapted_rand_error"], "postprocess_sec": row["seconds"]}
    return {name: row[name] for name in AFFINITY_SCORES if name in row} | more | scores


def variant_name(calibration: Sequence[float]) -> str:
    """The tables' name for biases along z, y, x and a temperature; `pred` if without effect."""
    if list(calibration) == [0, 0, 0, 1]:
        return "pred"
    z, y, x, t = (
        f"{number:.2f}" if float(f"{number:.2f}") == number else str(number)
        for number in calibration
    )
    return f"bias_z{z}_y{y}_x{x}_t{t}"


def summarized(records: Sequence[Row], *, own: Row, n: int) -> dict[str, Any]:
    """The means of the rows over `n` samples, and the best of them; `own` is the config's."""
    scores = [name for name in MEASURED if all(name in row for row in records)]
    beside = {"sample", *MEASURED, *WHOLE}
    columns = list(dict.fromkeys(name for row in records for name in row if name not in beside))
    means = means_of(records, columns, scores)
    ascending = sorted(records, key=lambda row: row["threshold"])
    return {
        "per_threshold": means_of(ascending, ["threshold"], scores),
        "per_backend_threshold": means,
        "best_by_voi_sum": best_of(means, "voi_sum", "minimize", n=n),
        "best_by_adapted_rand": best_of(means, "adapted_rand_error", "minimize", n=n),
        "configured": with_values(means, own, n=n),
    }
