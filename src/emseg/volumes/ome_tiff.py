"""OME-TIFF that is spread over several files, each of which names the others."""

from pathlib import Path
from xml.etree import ElementTree

from emseg.errors import UserError
from emseg.volumes.location import require_regular


def other_files(metadata: str | None, path: Path) -> list[Path]:
    """The files beside `path` that its OME metadata (XML) names planes of, each once.

    UserError for one that is missing: its planes would be, too.
    """
    if not metadata:
        return []
    root = ElementTree.fromstring(metadata)
    own = root.get("UUID")
    found: dict[Path, None] = {}
    for element in root.iter():
        name = element.get("FileName") if element.tag.endswith("UUID") else None
        # A file that was renamed still bears its own number.
        if name is None or element.text == own or path.name == name:
            continue
        other = path.parent / name
        try:
            require_regular(other)
        except UserError as error:
            raise UserError(f"'{path}' has planes in another file: {error}") from error
        found[other] = None
    return [*found]
