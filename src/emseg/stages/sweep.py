"""Sweep mode: predict once, score and report every combination of some decoder arguments."""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emseg import __version__
from emseg.config.schema import SweepConfig
from emseg.datasets.dbmim_tables import AFFINITY_SCORES, check_publishable, published_tables
from emseg.errors import UserError, unknown_name
from emseg.evaluation.means import Row, best_of, means_of, with_values, write_table
from emseg.runs.artifacts import write_json
from emseg.runs.run_folder import say
from emseg.stages.scores import build_metrics, score_names, try_decoders
from emseg.stages.search_space import own_values, swept_argument, with_parameters
from emseg.stages.session import Session, rehearsed_sources
from emseg.stages.sources import Source, require_truth
from emseg.stages.sweep_rows import ABOUT, Combination, flat, rows_of
from emseg.stages.test import infer_sources
from emseg.stages.trial import tasks_of


def sweep(session: Session, checkpoint: Path) -> dict[str, Any]:
    """The summary of a full grid on the test volumes; `sweep.grid` names arguments and values.

    Next to the predictions it writes `<name>_records.json`, a row for each volume and combination,
    the same rows as `<name>_metrics.csv`, and `<name>_summary.json`: the mean of each combination
    over the volumes, as `best_by_<score>` the best of those with a score on all volumes, and as
    `configured` that of the config's own arguments, which are added to the grid. Existing rows are
    not computed again. If the decoder refuses a combination, its row has the reason (`failure`),
    and it has no mean. With `sweep.tables` the files of a published evaluation are written too.
    """
    root = session.loaded.root
    config = root.sweep
    chosen, own = combinations(config, root.decoding, session.loaded.allow)
    sources = rehearsed_sources(session)
    scores = _check(session, sources, chosen)
    with ExitStack() as locks:
        predictions = infer_sources(session, checkpoint, sources, locks)
        folder = next(iter(predictions.values())).parent
        records = folder / f"{config.name}_records.json"
        session.lock(records, locks)
        rows = rows_of(
            tasks_of(session, sources, predictions, root.evaluation.metrics),
            chosen,
            records,
            affinities=config.tables is not None,
            force=session.force,
            verify=session.verify,
        )
        columns = [name for row in rows for name in row if name not in {*ABOUT, *scores}]
        means, n = means_of(rows, [*dict.fromkeys(columns)], scores), len(sources)
        best = {f"best_by_{s}": best_of(means, s, way, n=n) for s, way in config.best.items()}
        configured = with_values(means, own, n=n)
        summary = {
            "samples": [source.name for source in sources],
            "decoding": root.decoding,
            "grid": config.grid,
            "metrics": root.evaluation.metrics,
            "combinations": means,
            **best,
            "configured": configured,
            "failures": [row for row in rows if "failure" in row],
            "emseg": __version__,
        }
        write_table(folder / f"{config.name}_metrics.csv", rows)
        write_json(folder / f"{config.name}_summary.json", summary)
        if config.tables is not None:
            _publish(rows, session, sources, own=own, checkpoint=checkpoint, folder=folder)
    for name, mean in best.items():
        say(f"best by {name.removeprefix('best_by_')}: {_shown(mean)}")
    say(f"as configured: {_shown(configured)}")
    print(f"results: {folder}")
    return summary


def combinations(
    config: SweepConfig, decoding: Mapping[str, Any], allow: Sequence[str]
) -> tuple[list[Combination], Row]:
    """The grid, with the decoder's swept argument separated, and the config's own columns.

    The config's own arguments are the last combination, unless the grid has them.
    """
    if not config.grid:
        raise UserError("sweep.grid is empty: name arguments of the decoder, each with its values")
    name = swept_argument(decoding, allow)
    grid = {key: values for key, values in config.grid.items() if key != name}
    swept = (name, sorted(config.grid[name])) if name in config.grid else None
    values = itertools.product(*grid.values())
    found: list[Combination] = [(dict(zip(grid, chosen, strict=True)), swept) for chosen in values]
    own = own_values(config.grid, decoding)
    if any(own[key] not in values for key, values in config.grid.items()):
        alone = swept and (swept[0], [own[swept[0]]])
        found.append(({key: own[key] for key in grid}, alone))
    return found, flat(own)


def _check(session: Session, sources: Sequence[Source], chosen: Sequence[Combination]) -> list[str]:
    """The names of the scores; raises the UserErrors that the sweep would raise later."""
    root, allow = session.loaded.root, session.loaded.allow
    require_truth(sources, "a sweep")
    names = score_names(build_metrics(root.evaluation.metrics, allow=allow))
    if root.sweep.tables is not None:
        check_publishable(
            root.decoding,
            root.sweep.grid,
            name=root.sweep.name,
            scores=names,
            axes=[source.image.axes for source in sources],
            selected=root.inference.model.selected is not None,
        )
        names += AFFINITY_SCORES
    for name in root.sweep.best:
        if name not in names:
            raise unknown_name("score", name, names, where="sweep.best")
    # Every value once; those of the swept argument with one combination.
    leaves = []
    for number, (arguments, swept) in enumerate(chosen):
        ends = [{swept[0]: value} for value in swept[1]] if swept else [{}]
        tried = ends if number == 0 else ends[:1]
        leaves += [with_parameters(root.decoding, arguments | end) for end in tried]
    try_decoders(leaves, sources, root, allow=allow, key="sweep.grid")
    return names


def _publish(
    rows: Sequence[Row],
    session: Session,
    sources: Sequence[Source],
    *,
    own: Row,
    checkpoint: Path,
    folder: Path,
) -> None:
    root = session.loaded.root
    samples = [
        {
            "sample": source.name,
            "image": source.image.location,
            "label": source.label and source.label.location,
            "first": list(source.first),
            "shape": list(source.image.shape),
        }
        for source in sources
    ]
    settings = {
        "checkpoint": str(checkpoint),
        "window": asdict(root.inference.window),
        "border_mask": asdict(root.evaluation.border_mask),
    }
    tables = published_tables(
        rows, root.decoding, root.sweep.grid, own=own, samples=samples, settings=settings
    )
    for name, content in tables.items():
        write = write_table if name.endswith(".csv") else write_json
        write(folder / name, content)


def _shown(mean: Row | None) -> str:
    if mean is None:
        return "not scored on all volumes"
    return ", ".join(
        f"{k}={v:.4f}" if isinstance(v, float) else f"{k}={v}" for k, v in mean.items()
    )
