"""What `_target_` may name: every leaf of ours, kinds of torch and monai, and nothing that acts."""

import importlib
import inspect
import pkgutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.optim.lr_scheduler
from torch import nn

import emseg
from emseg.config.choices import conf_folder, tutorials_folder
from emseg.config.construction import resolve
from emseg.config.leaves import KINDS, OURS, REFUSED, is_allowed
from emseg.config.reading import read_yaml
from emseg.errors import UserError

KIND = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
# Calls by which a module takes code or files from elsewhere.
TAKES = ("torch.load(", "torch.hub", "hf_hub_download", "_from_url", "optional_import(", "jit.load")
# That is imported for what is there, and called for nothing but shapes.
HARMLESS = {"optional_import("}


def _targets(node: Any) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "_target_":
            yield value
        elif isinstance(value, dict | list):
            yield from _targets(value)


FILES = [*conf_folder().rglob("*.yaml"), *tutorials_folder().rglob("*.yaml")]
SHIPPED = sorted({target for file in FILES for target in _targets(read_yaml(file))})


@pytest.mark.parametrize("target", SHIPPED)
def test_every_leaf_that_is_shipped_is_allowed(target: str) -> None:
    assert is_allowed(resolve(target, key="leaf"))


def test_no_module_of_ours_is_allowed_that_is_not_there() -> None:
    folder = Path(emseg.__file__).parent
    for module in OURS:
        assert [*folder.glob(module.removeprefix("emseg.").replace(".", "/") + ".py")], module


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.Conv3d",
        "torch.nn.Sequential",
        "torch.nn.ReLU",
        "torch.nn.MSELoss",
        "torch.optim.RMSprop",
        "torch.optim.lr_scheduler.OneCycleLR",
        "monai.networks.nets.UNet",
        "monai.networks.nets.SwinUNETR",
        "monai.networks.nets.BasicUNet",
        "monai.networks.blocks.Convolution",
        "monai.networks.layers.GaussianFilter",
        "monai.losses.DiceLoss",
        "monai.optimizers.Novograd",
        "monai.optimizers.WarmupCosineSchedule",
    ],
)
def test_kinds_of_others_are_allowed_under_any_of_their_names(target: str) -> None:
    found = resolve(target, key="leaf")
    assert resolve(f"{found.__module__}.{found.__qualname__}", key="leaf") is found


@pytest.mark.parametrize(
    "target",
    [
        # functions that read, write, fetch, start or evaluate
        "torch.nn.modules.module.torch.load",
        "torch.nn.modules.module.functools.partial",
        "torch.nn.modules.module.warnings.warn",
        "torch.nn.parallel.data_parallel",
        "torch.nn.utils.parametrize.register_parametrization",
        "torch.nn.functional.relu",
        "torch.optim.swa_utils.update_bn",
        "torch.hub.load",
        "torch.package.PackageImporter",
        "torch.utils.cpp_extension.load",
        "torch.distributed.launch.main",
        "monai.bundle.load",
        "monai.bundle.ConfigParser",
        "monai.bundle.run",
        "monai.utils.optional_import",
        "monai.utils.load_submodules",
        "monai.config.print_config",
        "monai.apps.download_url",
        "monai.data.PersistentDataset",
        "monai.networks.utils.convert_to_torchscript",
        "monai.networks.trt_compiler.trt_compile",
        "monai.networks.nets.resnet.resnet10",
        "monai.networks.nets.ResNetFeatures",
        "monai.networks.nets.TorchVisionFCModel",
        "monai.networks.nets.densenet.load_state_dict_from_url",
        "monai.networks.layers.gmm.GaussianMixtureModel",
        "monai.losses.PerceptualLoss",
        "monai.optimizers.LearningRateFinder",
        "pytorch_lightning.Trainer",
        "pytorch_lightning.cli.LightningCLI",
        "pytorch_lightning.utilities.migration.migrate_checkpoint",
        # what is ours and no leaf
        "emseg.cli.main",
        "emseg.load_run",
        "emseg.stages.run",
        "emseg.runs.run_folder.subprocess.run",
        "emseg.volumes.write_volume",
        "emseg.volumes.atomic.discard",
        "emseg.blocks.child.ChildWorker",
        "emseg.config.load",
        "emseg.training.checkpoints.read_checkpoint",
        "emseg.training.callbacks.checkpoint_callbacks",
        "emseg.data.dataset.PatchDataset",
        # no class or function, or a method of one
        "torch.nn.modules",
        "torch.nn.Module.load_state_dict",
        "torch.nn.Module.apply",
        "emseg.models.rsunet.RSUNet.forward",
        "emseg.training.masked.torch.load",
        "emseg.models",
        "emseg_evil.Net",
        "emseg.config.leaves.OURS",
        "builtins.eval",
        "os.system",
        None,
        3,
    ],
)
def test_what_acts_is_refused(target: Any) -> None:
    with pytest.raises(UserError, match=r"^leaf\._target_: .* is no network") as caught:
        resolve(target, key="leaf")
    assert "\n" not in str(caught.value)


def _everything(package: types.ModuleType) -> Iterator[Any]:
    """Every class and function that the package's modules name, once."""
    names = [package.__name__]
    names += [one.name for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    seen = set()
    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for found in vars(module).values():
            if (inspect.isclass(found) or inspect.isroutine(found)) and id(found) not in seen:
                seen.add(id(found))
                yield found


def _allowed_of(package: str) -> list[Any]:
    return [one for one in _everything(importlib.import_module(package)) if is_allowed(one)]


@pytest.mark.parametrize(
    ("package", "least"),
    [
        ("torch.nn", 100),
        ("torch.optim", 20),
        ("monai.losses", 20),
        ("monai.networks", 100),
        ("monai.optimizers", 3),
    ],
)
def test_all_that_is_allowed_of_a_package_is_of_the_kinds(package: str, least: int) -> None:
    allowed = _allowed_of(package)
    assert len(allowed) >= least
    assert [one for one in allowed if not issubclass(one, KIND)] == []
    homes = tuple(module.removesuffix("*") for modules in KINDS.values() for module in modules)
    ours = [one for one in allowed if not f"{one.__module__}.".startswith(homes)]
    assert ours == []


@pytest.mark.parametrize("package", ["monai.networks", "monai.losses", "monai.optimizers"])
def test_no_module_is_allowed_that_takes_files_or_code_from_elsewhere(package: str) -> None:
    for module in {one.__module__ for one in _allowed_of(package)}:
        source = inspect.getsource(importlib.import_module(module))
        lines = [line for line in source.splitlines() if ">>>" not in line]
        taking = {call for line in lines for call in TAKES if call in line} - HARMLESS
        if module == "monai.networks.nets.swin_unetr":  # an example in a docstring
            taking -= {"torch.load("}
        assert taking == set(), module


@pytest.mark.parametrize("module", REFUSED)
def test_what_is_refused_by_name_is_there(module: str) -> None:
    found = [one for one in vars(importlib.import_module(module)).values() if inspect.isclass(one)]
    assert [one for one in found if one.__module__ == module and issubclass(one, nn.Module)]


def test_who_says_to_be_made_elsewhere_is_not_believed() -> None:
    class Pretender(nn.Module):
        pass

    Pretender.__module__, Pretender.__qualname__ = "torch.nn.modules.conv", "Pretender"
    assert not is_allowed(Pretender)
    assert is_allowed(Pretender, allow=["torch.nn"])


def test_a_target_elsewhere_is_not_imported() -> None:
    import sys

    sys.modules.pop("this", None)
    with pytest.raises(UserError, match="--allow PREFIX"):
        resolve("this.s", key="leaf")
    assert "this" not in sys.modules
