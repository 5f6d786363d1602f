"""Random changes of training samples."""

from emseg.data.augment.boxes import CutBlur, CutNoise, Cutout
from emseg.data.augment.cells import CellShade
from emseg.data.augment.defects import (
    DropSlices,
    Fold,
    MissingParts,
    MissingSections,
    OutOfFocus,
    SectionBlur,
    ShiftSlices,
)
from emseg.data.augment.displaced_sections import LostSections, Misalignment, SectionShifts, Slip
from emseg.data.augment.geometry import Flip, Permute, Rot90
from emseg.data.augment.grey_values import Brightness, Contrast, Gamma, GaussianNoise, Grayscale
from emseg.data.augment.groups import OneOf, Pipeline
from emseg.data.augment.mixing import CopyPaste, Mixup
from emseg.data.augment.transform import (
    ImageTransform,
    RandomTransform,
    Sample,
    Size,
    Transform,
)
from emseg.data.augment.warps import Affine, Elastic, Rescale
