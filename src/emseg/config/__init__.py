"""Configuration: one tutorial YAML becomes a typed tree whose leaves are built by name."""

from emseg.config.construction import build
from emseg.config.loaded import Loaded, dump, load
from emseg.config.targets import check_targets

__all__ = ["Loaded", "build", "check_targets", "dump", "load"]
