"""Public data sets: where each one is found, and where its tutorial looks for it."""

import shlex
from dataclasses import dataclass
from urllib.parse import quote

from emseg.datasets.cremi_files import CLEFTS, NEURONS, RAW
from emseg.errors import UserError

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Archive:
    """A zip archive, the folder into which it is unpacked, and its volumes.

    If no page gives a shape (None), labels have the shapes of the images, in order.
    """

    url: str
    folder: str
    shape: Shape | None
    images: tuple[str, ...]  # uint8
    labels: tuple[str, ...]  # integers


@dataclass(frozen=True)
class PublicFile:
    """A file that is used as it is, under its name in the folder.

    For HDF5, `keys` are the data sets that are used, the image first. The SHA-256, if known.
    """

    url: str
    name: str
    keys: tuple[str, ...] = ()
    sha256: str | None = None


ARCHIVES = {
    "snemi": Archive(
        url="http://rhoana.rc.fas.harvard.edu/dataset/snemi.zip",
        folder="datasets/SNEMI",
        shape=(100, 1024, 1024),
        images=("train-input.tif", "test-input.tif"),
        labels=("train-labels.tif",),
    ),
    "cremi": Archive(
        url="http://rhoana.rc.fas.harvard.edu/dataset/cremi.zip",
        folder="datasets/corrected",
        shape=None,
        images=tuple(f"im_{sample}.h5" for sample in ("A", "B", "C", "A+", "B+", "C+")),
        labels=tuple(f"syn_{sample}.h5" for sample in "ABC"),
    ),
}
# The SHA-256 in other programs that fetch these files (torch_em, for one).
_LABELLED = {
    "A": "4c563d1b78acb2bcfb3ea958b6fe1533422f7f4a19f3e05b600bfa11430b510d",
    "B": "887e85521e00deead18c94a21ad71f278d88a5214c7edeed943130a1f4bb48b8",
    "C": "2874496f224d222ebc29d0e4753e8c458093e1d37bc53acd1b69b19ed1ae7052",
}


def _cremi(name: str, sha256: str | None) -> PublicFile:
    keys = (RAW, NEURONS, CLEFTS) if sha256 else (RAW,)
    return PublicFile(f"https://cremi.org/static/data/{quote(name)}", name, keys, sha256)


_WEIGHTS = "https://huggingface.co/cyd0806/dbmim-neuron-segmentation/resolve/main/weights/"
# Files that are fetched one by one: their folder, and the files.
FILES = {
    "cremi-official": (
        "datasets/cremi",
        [
            *(_cremi(f"sample_{at}_20160501.hdf", sha256) for at, sha256 in _LABELLED.items()),
            *(_cremi(f"sample_{at}+_20160601.hdf", None) for at in "ABC"),
        ],
    ),
    "dbmim-weights": (
        "datasets/dbmim/weights",
        [
            PublicFile(_WEIGHTS + name, name)
            for name in (
                "publicem_dbmim_r17/pretrained_latest.pt",
                "publicem_dbmim_r17/finetuned_latest.pt",
                "fullem_mixedmask_dbmim_r33/pretrained_latest.pt",
                "fullem_mixedmask_dbmim_r33/finetuned_latest.pt",
            )
        ],
    ),
}
# Data that no program fetches: the folder, and what the user must do.
INSTRUCTIONS = {
    "nisb": (
        "datasets/nisb/base",
        "NISB has terabytes; by hand, from its public bucket: aws s3 sync s3://nisb/base {folder} "
        "--endpoint-url https://s3.nexus.mpcdf.mpg.de --no-sign-request (emseg synth nisb {folder} "
        "writes small cubes in its layout)",
    ),
    "full-em": (
        "datasets/dbmim/full_em",
        "full-em is half a terabyte, for those who agree to its terms; by hand: agree on "
        "https://huggingface.co/datasets/cyd0806/EM_pretrain_data, hf auth login, hf download "
        "cyd0806/EM_pretrain_data --repo-type dataset --include '*.zip' --local-dir {folder} "
        "(the same command goes on where it broke off), unzip each into the folder of its group "
        "there, fafb, fib25, kasthuri, mitoem or mb_moc, and see with emseg inspect which data set "
        "is the image",
    ),
    "ac3ac4": (
        "datasets/ssns",
        "AC3 and AC4 are fetched and made by emseg prepare ac3ac4 {folder}",
    ),
    "kasthuri15": (
        "datasets/ssns",
        "Kasthuri15 is a .vsv, which VAST alone reads; by hand: wget "
        "https://lichtman.rc.fas.harvard.edu/vast/Thousands_6nm_spec_lossless.vsv, open it in VAST "
        "(https://lichtman.rc.fas.harvard.edu/vast/), export sections as PNG or TIFF, images into "
        "kasthuri15/train/raw, kasthuri15/unlabelled/raw and kasthuri15/test/raw below {folder}, "
        "segments into kasthuri15/train/labels and kasthuri15/test/labels, then emseg prepare "
        "kasthuri15 {folder} (emseg synth ac3ac4 {folder} writes small volumes in its layout)",
    ),
}


def instructions(name: str, folder: str | None) -> UserError:
    """The line that says what to do for a data set of INSTRUCTIONS, with the user's folder."""
    usual, steps = INSTRUCTIONS[name]
    return UserError(steps.format(folder=shlex.quote(folder or usual)))
