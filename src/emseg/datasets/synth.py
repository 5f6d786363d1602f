"""Synthetic data sets in the layouts of the recipes' own: the verb synth."""

from contextlib import nullcontext
from pathlib import Path

from emseg.runs.run_folder import say, working_in
from emseg.synthetic.layouts import LAYOUTS, write_layout


def synth(layout: str, folder: str) -> None:
    """Writes a synthetic data set.

    Args:
        layout: a name in `LAYOUTS`.
        folder: where the files go; those of the same names are replaced.

    Raises:
        UserError: there is no such layout, or the folder cannot be written to.
    """
    to = Path(folder)
    # An unknown layout makes no folder.
    with working_in(to, f"emseg synth {layout}") if layout in LAYOUTS else nullcontext():
        write_layout(layout, to)
    say(f"{layout}: written to {folder}")
