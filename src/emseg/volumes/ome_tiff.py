"""OME-TIFF that is spread over several files, each of which names the others."""

from pathlib import Path
from xml.etree import ElementTree

from emseg.errors import UserError
from emseg.volumes.location import require_regular


def other_files(metadata: str | None, path: Path) -> list[Path]:
    """The other files that the OME metadata (XML) of `path` names for planes, each once.

    UserError for a missing one: its planes would be missing too.
    """
    if not metadata:
        return []
    root = ElementTree.fromstring(metadata)
    own = root.get("UUID")
    found: dict[Path, None] = {}
    for element in root.iter():
        name = element.get("FileName") if element.tag.endswith("UUID") else None
        # A renamed file still has its own UUID.
        if name is None or element.text == own or path.name == name:
            continue
        other = path.parent / name
        try:
            require_regular(other)
        except UserError as error:
            raise UserError(f"'{path}' has planes in another file: {error}") from error
        found[other] = None
    return [*found]
