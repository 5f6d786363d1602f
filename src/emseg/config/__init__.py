"""Configuration: one tutorial YAML becomes typed settings, and objects that are built by name."""

from emseg.config.construction import build
from emseg.config.loaded import Loaded, dump, load
from emseg.config.trial_build import check_targets

__all__ = ["Loaded", "build", "check_targets", "dump", "load"]
