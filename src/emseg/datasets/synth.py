"""Synthetic data sets with the layouts of the recipes' data sets: the verb synth."""

from contextlib import nullcontext
from pathlib import Path

from emseg.runs.run_folder import say, working_in
from emseg.synthetic.layouts import LAYOUTS, write_layout


def synth(layout: str, folder: str) -> None:
    """Writes a synthetic data set.

    Args:
        layout: a name in `LAYOUTS`.
        folder: where the files go; files with the same names are replaced.

    Raises:
        UserError: there is no such layout, or the folder cannot be written to.
    """
    to = Path(folder)
    # Before the folder is created: an unknown layout creates none.
    with working_in(to, f"emseg synth {layout}") if layout in LAYOUTS else nullcontext():
        write_layout(layout, to)
    say(f"{layout}: written to {folder}")
