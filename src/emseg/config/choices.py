"""The choices of a config, composed by Hydra from every group's file, without the tutorial."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emseg.config.chain import Choice
from emseg.config.leaves import CODE_READ
from emseg.config.reading import read_yaml
from emseg.errors import UserError


def conf_folder() -> Path:
    """The folder of the shipped choices, in a wheel or in a checkout."""
    return _shipped("conf")


def tutorials_folder() -> Path:
    """The folder of the shipped tutorials, in a wheel or in a checkout."""
    return _shipped("tutorials")


def list_groups(folders: Sequence[Path]) -> dict[str, set[str]]:
    """The choices of every group (`optimization/optimizer`) in the conf folders.

    Raises:
        UserError: a folder is missing, or a choice is no regular file.
    """
    groups: dict[str, set[str]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no conf folder {folder}")
        for file in folder.glob("*/**/*.yaml"):
            if not file.is_file():
                raise UserError(f"{file} is no file that can be read")
            groups.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    return groups


def compose_choices(folders: Sequence[Path], choices: dict[str, Choice]) -> dict[str, Any]:
    """The chosen files, each at its key, as plain containers with interpolations unresolved.

    If two folders have the same file, the earlier one wins. There is no primary config: Hydra looks
    for one in a folder that it reads itself, so it gets a folder without any.
    """
    first, *rest = [str(folder.resolve()) for folder in folders]
    paths = ",".join(
        json.dumps(f"{_Choices.scheme()}://{folder}", ensure_ascii=False)
        for folder in (first, *rest)
    )
    overrides = [f"hydra.searchpath=[{paths}]"]
    for group, choice in choices.items():
        value = f"[{','.join(choice)}]" if isinstance(choice, list) else choice
        overrides.append(f"+{group}={value}")
    GlobalHydra.instance().clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with initialize_config_dir(str(Path(__file__).parent), version_base="1.3"):
                composed = compose(overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        raise UserError(f"{first}: {' '.join(str(cause).split())}") from error
    plain = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(plain, dict)
    for kind, keys in CODE_READ.items():
        plain[kind] = keys | plain.get(kind, {})
    return plain


class _Choices(FileConfigSource):
    """A folder of choices, read as tutorials are."""

    @staticmethod
    def scheme() -> str:
        return "emseg"

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        body = OmegaConf.create(read_yaml(path))
        with path.open(encoding="utf-8-sig") as file:
            header = ConfigSource._get_header_dict(file.read(512))
        return ConfigResult(provider=self.provider, path=self.path, config=body, header=header)


Plugins.instance().register(_Choices)


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parents[1] / name
