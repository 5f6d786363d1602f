"""Configuration: one tutorial YAML becomes typed settings, and objects that are built by name."""

from emseg.config.constructed import check_targets
from emseg.config.construction import build
from emseg.config.loaded import Loaded, dump, load

__all__ = ["Loaded", "build", "check_targets", "dump", "load"]
