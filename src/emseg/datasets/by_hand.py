"""Data sets too large to be anybody's next step: how they are fetched by hand."""

import shlex

from emseg.errors import UserError

# Where each goes, and what the user is to do.
BY_HAND = {
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


def by_hand(name: str, folder: str | None) -> UserError:
    """The line that says how to get it into `folder`, or to where its tutorial looks for it."""
    usual, way = BY_HAND[name]
    return UserError(way.format(folder=shlex.quote(folder or usual)))
