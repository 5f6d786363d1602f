"""The verb prepare: AC3 and AC4 from small archives of a server's, Kasthuri15 from exports."""

import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from emseg.cli import main
from emseg.datasets import prepare
from emseg.volumes import open_volume

HERE = Path("datasets/ssns")
SECTIONS = {"ac3": 21, "ac4": 18}
PLANE = (40, 48)
# As the archive has them: the images of AC3 count from 0, all else from 1, labels backwards.
NAMES = {
    "ac3": ("ac3_EM/Thousand_highmag_256slices_2kcenter_1k_inv_{:04d}.png", 0, "ac3_dbseg_images"),
    "ac4": ("ac4_EM/affinecropped4_inv_{:04d}.png", 1, "ac4_seg_daniel"),
}


def tissue(depth, seed=0):
    """Cells that change along z, dark where two of them meet along x."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 1, (12, 2)) * PLANE
    z, y, x = np.indices((depth, *PLANE))
    away = [
        np.hypot(y - cy - 1.5 * z * np.cos(k), x - cx - 1.5 * z * np.sin(k))
        for k, (cy, cx) in enumerate(centres)
    ]
    labels = (1000 * np.argmin(away, axis=0)).astype(np.uint32)  # 0 is one of them
    image = rng.integers(140, 180, labels.shape, np.uint8)
    image[:, :, 1:][labels[:, :, 1:] != labels[:, :, :-1]] = 50
    return image, labels


def png(array, form="PNG"):
    made = BytesIO()
    Image.fromarray(array).save(made, form)
    return made.getvalue()


def colours(ids):
    return np.stack([ids >> 16, ids >> 8, ids], axis=-1).astype(np.uint8)


def published(top="AC3AC4/", backwards=True):
    """The files of the archive by name."""
    files = {f"{top}readme.txt": b"x", f"__MACOSX/{top}ac3_EM/._a_0000.png": b"x"}
    for volume, (name, first, folder) in NAMES.items():
        image, labels = tissue(SECTIONS[volume], seed=len(volume) + first)
        for z, (section, ids) in enumerate(zip(image, labels, strict=True)):
            number = SECTIONS[volume] - z if backwards else z + 1
            files[top + name.format(z + first)] = png(section)
            files[f"{top}{folder}/{volume}_daniel_s{number:04d}.png"] = png(colours(ids))
    return files


def archive_of(files):
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


@pytest.fixture(autouse=True)
def package(server, monkeypatch):
    monkeypatch.setattr(prepare, "SECTIONS", SECTIONS)
    monkeypatch.setattr(prepare, "URL", server.url("AC3AC4Package.zip"))
    server.serve(archive_of(published()))


def check(path, image, labels):
    raw = open_volume(f"{path}:volumes/raw")
    np.testing.assert_array_equal(raw[...], image)
    assert (raw.axes, raw.voxel_size, str(raw.dtype)) == ("zyx", (30, 6, 6), "uint8")
    if labels is None:
        with pytest.raises(Exception, match="neuron_ids"):
            open_volume(f"{path}:volumes/labels/neuron_ids")
        return
    ids = open_volume(f"{path}:volumes/labels/neuron_ids")
    np.testing.assert_array_equal(ids[...], labels)
    assert (ids.axes, ids.voxel_size, str(ids.dtype)) == ("zyx", (30, 6, 6), "uint32")


def check_both(folder=HERE):
    for volume, (_, first, _) in NAMES.items():
        check(folder / f"{volume}.h5", *tissue(SECTIONS[volume], seed=len(volume) + first))


@pytest.mark.parametrize("backwards", [True, False])
def test_labels_are_put_where_they_fit_the_images(server, capsys, backwards):
    server.serve(archive_of(published(backwards=backwards)))
    assert main(["prepare", "ac3ac4"]) == 0
    check_both()
    order = "taken in the reverse of the images' order" if backwards else "taken in the images' or"
    assert capsys.readouterr().err.count(order) == 2
    there = {path.name for path in HERE.iterdir()}
    assert there == {"AC3AC4Package.zip", "AC3AC4Package.zip.sha256", "ac3.h5", "ac4.h5"}


def test_a_second_call_fetches_and_makes_nothing(server, capsys):
    assert main(["prepare", "ac3ac4", "mine"]) == 0
    check_both(Path("mine"))
    before = [Path(f"mine/{name}.h5").stat().st_mtime_ns for name in SECTIONS]
    assert main(["prepare", "ac3ac4", "mine"]) == 0
    assert capsys.readouterr().err.count("is up to date") == 2
    Path("mine/AC3AC4Package.zip").unlink()  # it may go
    assert main(["prepare", "ac3ac4", "mine"]) == 0
    recorded = Path("mine/AC3AC4Package.zip.sha256").read_text().split()[0]
    assert main(["prepare", "ac3ac4", "mine", "--sha256", recorded.upper()]) == 0
    assert capsys.readouterr().err.count("mine holds it already") == 2
    assert before == [Path(f"mine/{name}.h5").stat().st_mtime_ns for name in SECTIONS]
    assert len(server.seen) == 1
    # What is missing is fetched and made, the rest left.
    Path("mine/ac3.h5").unlink()
    assert main(["prepare", "ac3ac4", "mine"]) == 0
    check_both(Path("mine"))
    assert Path("mine/ac4.h5").stat().st_mtime_ns == before[1] and len(server.seen) == 2


def test_an_archive_that_was_fetched_by_hand_is_taken(server, refused):
    server.status = 503
    by_hand = f"mkdir -p {HERE} && cd {HERE} && wget {prepare.URL}"
    assert by_hand in refused("prepare", "ac3ac4")
    (HERE / "AC3AC4Package.zip").write_bytes(server.body)
    wanted = ("--sha256", "0" * 64)
    assert f"not the wanted {'0' * 64}" in refused("prepare", "ac3ac4", *wanted)
    assert main(["prepare", "ac3ac4"]) == 0
    check_both()


def test_volumes_of_another_origin_are_not_replaced(server, refused):
    HERE.mkdir(parents=True)
    assert main(["prepare", "ac3ac4", "mine"]) == 0
    with h5py.File(HERE / "ac4.h5", "w") as file:
        file["volumes/raw"] = np.zeros((2, 3, 4), np.uint8)
    assert "ac4.h5 is there, and was not made by prepare: move it" in refused("prepare", "ac3ac4")
    assert {path.name for path in HERE.iterdir()} == {"ac4.h5"}


def test_one_page_tiffs_and_stacks_and_palettes_are_read_too(server, capsys):
    files, kept = published(), {}
    for name, content in files.items():
        image = (
            Image.open(BytesIO(content)) if name.endswith(".png") and "MAC" not in name else None
        )
        if image is None or "ac3_EM" in name:
            kept[name] = content
        elif "ac4_EM" in name:
            kept[name.replace(".png", ".tif")] = png(np.asarray(image), "TIFF")
        else:  # A palette of each image's own.
            made = BytesIO()
            image.quantize(256, method=Image.Quantize.FASTOCTREE).save(made, "PNG")
            exact = np.asarray(Image.open(BytesIO(made.getvalue())).convert("RGB"))
            kept[name] = made.getvalue() if (exact == np.asarray(image)).all() else content
    assert sum(kept[name] != files[name] for name in kept if "daniel" in name) > 0
    server.serve(archive_of(kept))
    assert main(["prepare", "ac3ac4"]) == 0
    check_both()


def changed(drop=(), add=()):
    files = {name: v for name, v in published().items() if not any(d in name for d in drop)}
    return files | dict(add)


EXTRA = [(f"ac3_image_small/a_{z:03d}.png", png(np.zeros(PLANE, np.uint8))) for z in range(21)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (changed(drop=["ac3_EM/Thousand_highmag_256slices_2kcenter_1k_inv_0004"]), "section 4 is"),
        (changed(drop=["inv_0020.png"]), "has no stacks of 21 sections that may be the images of"),
        (changed(drop=["ac4_seg"]), "may be the labels of AC4, but AC3AC4/ac3_EM/"),
        (changed(add=EXTRA), "has 2 stacks of 21 sections that may be the images of AC3, but"),
        ({"readme.txt": b"x"}, "the images of AC3, but no images"),
        (
            changed(add=[("AC3AC4/ac4_EM/affinecropped4_inv_0003.png", b"no image")]),
            "AC3AC4/ac4_EM/affinecropped4_inv_0003.png'",
        ),
        (
            changed(
                add=[(f"AC3AC4/{NAMES['ac4'][0].format(17)}", png(np.zeros((9, 48), np.uint8)))]
            ),
            "affinecropped4_inv_0017.png' is uint8 (9, 48), 'affinecropped4_inv_0001.png'",
        ),
        (
            changed(
                add=[(f"AC3AC4/{NAMES['ac4'][0].format(17)}", png(np.zeros(PLANE, np.uint16)))]
            ),
            "affinecropped4_inv_0017.png' is uint16",
        ),
        (
            changed(
                add=[
                    (name, png(np.zeros(PLANE, np.uint16)))
                    for name in published()
                    if "ac4_EM" in name
                ]
            ),
            "affinecropped4_inv_*.png holds uint16: an image is grey, uint8",
        ),
    ],
)
def test_an_archive_that_is_not_the_published_one_is_refused(server, refused, files, message):
    server.serve(archive_of(files))
    assert message in refused("prepare", "ac3ac4")
    assert not list(HERE.glob("*ac4.h5*"))


def export(part, kind, arrays, name="s{:03d}.tif", form="TIFF", start=7):
    room = HERE / "kasthuri15" / part / kind
    room.mkdir(parents=True, exist_ok=True)
    for z, array in enumerate(arrays):
        (room / name.format(z + start)).write_bytes(png(array, form))


def test_kasthuri15_is_made_of_what_was_exported(server, refused, capsys):
    image, labels = tissue(12)
    export("train", "raw", image)
    export("train", "labels", labels.astype(np.uint16), "seg_{}.png", "PNG", start=8)
    export("unlabelled", "raw", np.stack([image] * 3, axis=-1), "im{}.png", "PNG")
    assert main(["prepare", "kasthuri15"]) == 0
    assert "test/raw, which is not there" in capsys.readouterr().err.splitlines()[-1]
    check(HERE / "kasthuri15_train.h5", image, labels)
    check(HERE / "kasthuri15_unlabelled.h5", image, None)
    assert not (HERE / "kasthuri15_test.h5").exists()
    # One multi-page file is a stack, too; what is there stays.
    room = HERE / "kasthuri15" / "test"
    for kind, array in (("raw", image), ("labels", labels[::-1].astype(np.uint8))):
        (room / kind).mkdir(parents=True)
        pages = [Image.fromarray(section) for section in array]
        pages[0].save(room / kind / "all.tif", save_all=True, append_images=pages[1:])
    assert main(["prepare", "kasthuri15"]) == 0
    assert capsys.readouterr().err.count("is up to date") == 2
    check(HERE / "kasthuri15_test.h5", image, labels.astype(np.uint8))
    # Exported anew, it is made anew.
    export("unlabelled", "raw", 255 - image, "im{}.png", "PNG")
    assert main(["prepare", "kasthuri15"]) == 0
    check(HERE / "kasthuri15_unlabelled.h5", 255 - image, None)
    export("unlabelled", "raw", image, "other{}.png", "PNG")
    assert "unlabelled/raw is to hold one stack of sections" in refused("prepare", "kasthuri15")
    shutil.rmtree(HERE / "kasthuri15" / "unlabelled")
    (HERE / "kasthuri15" / "train" / "raw" / "s018.tif").unlink()
    line = refused("prepare", "kasthuri15")
    assert "raw:s*.tif has the shape (11, 40, 48), its labels " in line
    assert "seg_*.png (12, 40, 48)" in line
    check(HERE / "kasthuri15_train.h5", image, labels)


def test_kasthuri15_without_an_export_is_fetched_by_hand(server, refused, capsys):
    line = refused("prepare", "kasthuri15", "my data")
    assert "Thousands_6nm_spec_lossless.vsv" in line and "kasthuri15/train/labels" in line
    assert "then emseg prepare kasthuri15 'my data'" in line and not Path("my data").exists()
    assert "--sha256 is for the archive" in refused("prepare", "kasthuri15", "--sha256", "0" * 64)
    assert "did you mean 'ac3ac4'" in refused("prepare", "ac3ac5")
