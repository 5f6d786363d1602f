"""The choices of a config composed by Hydra: every group's file, and nothing of the tutorial."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emseg.config.chain import Choice, yaml_error
from emseg.config.leaves import CODE_READ
from emseg.errors import UserError


def conf_folder() -> Path:
    """The folder of the shipped choices, in a wheel or in a checkout."""
    return _shipped("conf")


def tutorials_folder() -> Path:
    """The folder of the shipped tutorials, in a wheel or in a checkout."""
    return _shipped("tutorials")


def list_groups(folders: Sequence[Path]) -> dict[str, set[str]]:
    """The choices of every group (`optimization/optimizer`) in the conf folders."""
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

    Earlier folders win where two have the same file. There is no primary config: Hydra looks for
    one in the first folder alone, and `base.yaml` may stand in another.
    """
    first, *rest = [str(folder.resolve()) for folder in folders]
    paths = ",".join(json.dumps(f"file://{folder}", ensure_ascii=False) for folder in rest)
    overrides = [f"hydra.searchpath=[{paths}]"]
    for group, choice in choices.items():
        value = f"[{','.join(choice)}]" if isinstance(choice, list) else choice
        overrides.append(f"+{group}={value}")
    GlobalHydra.instance().clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with initialize_config_dir(first, version_base="1.3"):
                composed = compose(overrides=overrides)
    except yaml.MarkedYAMLError as error:
        name = error.problem_mark.name if error.problem_mark else first
        raise yaml_error(name, error) from error
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        raise UserError(f"{first}: {' '.join(str(cause).split())}") from error
    plain = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(plain, dict)
    for kind, keys in CODE_READ.items():
        plain[kind] = keys | plain.get(kind, {})
    return plain


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parents[1] / name
