"""What stands on the page, and the page itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Picture:
    """A picture with its title; `ratio` is its width over its height, in nm."""

    title: str
    source: str
    ratio: float = 1.0


@dataclass(frozen=True)
class ErrorRow:
    """A merger or a split: what it is, what it costs, and where it is to be seen.

    `voxel` counts in the image's file, `position` is in nm; both are empty if its parts do not
    touch.
    """

    kind: str
    what: str
    cost: str
    voxel: str = ""
    position: str = ""
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class VolumePart:
    """What the page says of one volume; `legend` are the colours (CSS) of errors in sections."""

    name: str
    facts: Mapping[str, str]
    sections: Sequence[Picture]
    errors: Sequence[ErrorRow]
    legend: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """All that stands on the page.

    `scores` are by volume, `meanings` say what the scores are, `facts` are of the run, `config` is
    its text, and `made_of` identifies what the page was made of.
    """

    title: str
    scores: Mapping[str, Mapping[str, float]]
    meanings: Mapping[str, str]
    volumes: Sequence[VolumePart]
    facts: Mapping[str, str]
    config: str
    made_of: str = ""


def render(report: Report) -> str:
    """The page: HTML that needs no other file and no network."""
    # Imported here, as all that only a report needs.
    from jinja2 import Environment

    text = resources.files("emseg.report").joinpath("page.html").read_text()
    return Environment(autoescape=True).from_string(text).render(report=report)


def is_of(text: str, made_of: str) -> bool:
    """Whether a page was made of what `made_of` identifies."""
    return f'name="made-of" content="{made_of}"' in text
