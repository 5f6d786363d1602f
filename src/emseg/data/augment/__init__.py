"""Random changes of training samples."""

from emseg.data.augment.boxes import CutBlur, CutNoise, Cutout
from emseg.data.augment.defects import (
    Grayscale,
    MissingParts,
    MissingSections,
    OutOfFocus,
    SectionBlur,
)
from emseg.data.augment.displaced_sections import LostSections, Misalignment, SectionShifts, Slip
from emseg.data.augment.fold import Fold
from emseg.data.augment.geometry import Flip, Permute, Rot90
from emseg.data.augment.grey_values import Brightness, Contrast, Gamma, GaussianNoise
from emseg.data.augment.mixing import CopyPaste, Mixup
from emseg.data.augment.scale import Rescale
from emseg.data.augment.slices import DropSlices, ShiftSlices
from emseg.data.augment.transform import OneOf, Pipeline, Sample, Size, Transform
from emseg.data.augment.warps import Affine, Elastic

__all__ = [
    "Affine",
    "Brightness",
    "Contrast",
    "CopyPaste",
    "CutBlur",
    "CutNoise",
    "Cutout",
    "DropSlices",
    "Elastic",
    "Flip",
    "Fold",
    "Gamma",
    "GaussianNoise",
    "Grayscale",
    "LostSections",
    "Misalignment",
    "MissingParts",
    "MissingSections",
    "Mixup",
    "OneOf",
    "OutOfFocus",
    "Permute",
    "Pipeline",
    "Rescale",
    "Rot90",
    "Sample",
    "SectionBlur",
    "SectionShifts",
    "ShiftSlices",
    "Size",
    "Slip",
    "Transform",
]
