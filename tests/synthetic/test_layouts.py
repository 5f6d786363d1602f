from pathlib import Path

import pytest

from emseg.errors import UserError
from emseg.synthetic.layouts import write_layout


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cannot write '[^\n]*file/below'[^\n]*$"):
        write_layout("demo", tmp_path / "file" / "below")
