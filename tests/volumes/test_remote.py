"""Volumes at URLs, read from a server of this machine."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from url_server import Handler, serving

from emseg.cli import main
from emseg.config import load
from emseg.config.schema_data import VolumeConfig
from emseg.datasets.synth import synth
from emseg.errors import UserError
from emseg.runs.artifacts import contents, same_contents
from emseg.stages.patterns import expand, image_name
from emseg.stages.sources import open_sources
from emseg.volumes import identity, open_volume, read_attributes, remote, write_volume

RAW = np.random.default_rng(0).integers(1, 255, (20, 24, 32), np.uint8)
PLACE = {"voxel_size": (40.0, 8.0, 8.0), "offset": (400.0, 80.0, 16.0)}


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EMSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    monkeypatch.setattr(Handler, "asked", [])
    monkeypatch.setattr(Handler, "failing", {})
    remote._CONTEXTS.clear()
    with serving(tmp_path) as address:
        yield address
    remote._CONTEXTS.clear()


def chunks() -> list[str]:
    """The chunks that were asked for since the last call."""
    names = [path for path in Handler.asked if re.search(r"/c/|/\d+\.\d|\d-\d", path)]
    Handler.asked.clear()
    return names


def ome(name: str = "vol.zarr") -> None:
    """The volume as OME-Zarr, its array called main."""
    write_volume(name, RAW, axes="zyx", **PLACE)
    facts = read_attributes(name)
    options = {"attributes": facts, "dimension_names": "zyx", "overwrite": True}
    group = zarr.open_group(name)
    group.create_array("main", data=RAW, chunks=(10, 12, 16), **options)


def precomputed(channels: int = 1) -> None:
    """The volume in two scales: the second has each second voxel of x."""
    tensorstore = pytest.importorskip("tensorstore")
    stack = np.stack([RAW + channel for channel in range(channels)])
    for key, step in (("8_8_40", 1), ("16_8_40", 2)):
        scale = {"key": key, "resolution": [8 * step, 8, 40], "encoding": "raw"}
        scale |= {"size": [32 // step, 24, 20], "chunk_size": [16 // step, 12, 10]}
        spec = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{Path.cwd()}/pre/"}
        many = {"type": "image", "num_channels": channels, "data_type": "uint8"}
        spec |= {"multiscale_metadata": many}
        spec |= {"scale_metadata": scale | {"voxel_offset": [2 // step, 10, 10]}}
        made = tensorstore.open(spec, create=True).result()
        made[...] = stack[..., ::step].T


@pytest.mark.parametrize("version", [2, 3])
def test_values_and_place_are_those_of_the_local_volume(url, version):
    ome()
    zarr.save_array("plain.zarr/raw", RAW, zarr_format=version)
    for name in ("vol.zarr", "vol.zarr/main", "vol.zarr:main", "plain.zarr/raw"):
        here, there = open_volume(name), open_volume(f"{url}/{name}")
        np.testing.assert_array_equal(there[...], here[...])
        for fact in ("shape", "axes", "voxel_size", "offset", "dtype", "channels", "attributes"):
            assert getattr(there, fact) == getattr(here, fact)
        assert there.location == f"{url}/{here.location}"
        np.testing.assert_array_equal(open_volume(there.location)[...], RAW)


def test_a_scale_is_named_behind_the_address(url):
    group = zarr.create_group("many.zarr", zarr_format=2)
    group["0"], group["1"] = RAW, RAW[:, ::2, ::2]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scales = [
        {"path": str(at), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for at, scale in enumerate([[40, 8, 8], [40, 16, 16]])
    ]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": scales}]
    assert open_volume(f"{url}/many.zarr").voxel_size == (40, 8, 8)
    second = open_volume(f"{url}/many.zarr/1")
    assert (second.shape, second.voxel_size) == ((20, 12, 16), (40, 16, 16))


@pytest.mark.parametrize("shards", [None, (10, 12, 16)])
def test_only_the_chunks_of_a_region_are_asked_for_and_once(url, shards):
    inner = (10, 12, 16) if shards is None else (5, 6, 8)
    made = zarr.create_array("a.zarr/raw", shape=RAW.shape, dtype="u1", chunks=inner, shards=shards)
    made[...] = RAW
    volume = open_volume(f"{url}/a.zarr/raw")
    assert chunks() == []
    np.testing.assert_array_equal(volume.read((0, 0, 0), (5, 6, 8)), RAW[:5, :6, :8])
    assert {*chunks()} == {"/a.zarr/raw/c/0/0/0"}
    for again in (volume, open_volume(f"{url}/a.zarr/raw"), pickle.loads(pickle.dumps(volume))):
        np.testing.assert_array_equal(again.read((0, 0, 0), (5, 6, 8)), RAW[:5, :6, :8])
        assert chunks() == []


def test_a_server_that_ignores_ranges_is_refused(url, monkeypatch):
    monkeypatch.setattr(Handler, "ranges", False)
    made = zarr.create_array(
        "a.zarr", shape=RAW.shape, dtype="u1", chunks=(5, 6, 8), shards=(20, 24, 32)
    )
    made[...] = RAW
    volume = open_volume(f"{url}/a.zarr")
    with pytest.raises(UserError, match="http.*/c/0/0/0' is sent whole"):
        volume.read((0, 0, 0), (5, 6, 8))


def test_a_volume_that_was_made_anew_is_read_anew(url):
    zarr.save_array("a.zarr/raw", RAW, zarr_format=3)
    np.testing.assert_array_equal(open_volume(f"{url}/a.zarr/raw")[...], RAW)
    before = identity(f"{url}/a.zarr/raw")
    assert before == identity(f"{url}/a.zarr/raw")
    shutil.rmtree("a.zarr")
    zarr.save_array("a.zarr/raw", RAW[:, ::-1], zarr_format=3, attributes={"made": 2})
    np.testing.assert_array_equal(open_volume(f"{url}/a.zarr/raw")[...], RAW[:, ::-1])
    after = identity(f"{url}/a.zarr/raw")
    assert after["state"]["raw/zarr.json"] != before["state"]["raw/zarr.json"]
    assert "Last-Modified" in after["state"]


def test_an_absent_chunk_is_the_fill_value(url):
    zarr.create_array("a.zarr", data=RAW, chunks=(10, 12, 16), zarr_format=2)
    Path("a.zarr/0.0.0").unlink()
    volume = open_volume(f"{url}/a.zarr")
    expected = RAW.copy()
    expected[:10, :12, :16] = 0
    for count in (8, 0):
        np.testing.assert_array_equal(volume[...], expected)
        assert len(chunks()) == count


@pytest.mark.parametrize("status", [500, 403, 429, 0])
def test_a_server_that_fails_is_an_error_and_no_zeros(url, status):
    ome()
    volume = open_volume(f"{url}/vol.zarr")
    Handler.failing["/c/0/0/0"] = status
    for _ in range(2):
        Handler.asked.clear()
        with pytest.raises(UserError, match="vol.zarr/main/c/0/0/0', tried 4 times"):
            volume.read((0, 0, 0), (5, 6, 8))
        assert Handler.asked == ["/vol.zarr/main/c/0/0/0"] * 4
    Handler.failing.clear()
    np.testing.assert_array_equal(volume[...], RAW)


@pytest.mark.parametrize("name", ["vol.zarr/zarr.json", "main/zarr.json"])
def test_metadata_that_cannot_be_had_are_an_error(url, name):
    ome()
    Handler.failing[name] = 500  # of the group it would hide the voxel size
    for location in ("vol.zarr", "vol.zarr/main"):
        with pytest.raises(UserError, match="tried 4 times"):
            open_volume(f"{url}/{location}")


def test_what_is_not_there_is_an_error(url):
    ome()
    for location in ("gone.zarr", "vol.zarr/gone"):
        with pytest.raises(UserError, match="there is no zarr array at 'http"):
            open_volume(f"{url}/{location}")
    with pytest.raises(UserError, match="there is no 'info'"):
        open_volume(f"precomputed://{url}/gone")
    with pytest.raises(UserError, match="cannot open 'http://127.0.0.1:1/a.zarr'|tried 4 times"):
        open_volume("http://127.0.0.1:1/a.zarr")


@pytest.mark.parametrize("channels", [1, 2])
def test_a_precomputed_volume_is_zyx(url, channels):
    precomputed(channels)
    volume = open_volume(f"precomputed://{url}/pre")
    assert (volume.axes, volume.voxel_size, volume.offset) == ("zyx", *PLACE.values())
    assert (volume.channels or 1, volume.shape) == (channels, RAW.shape)
    expected = RAW if channels == 1 else np.stack([RAW, RAW + 1])
    np.testing.assert_array_equal(volume[...], expected)
    assert volume.location == f"precomputed://{url}/pre:8_8_40"
    coarse = open_volume(f"precomputed://{url}/pre:16_8_40")
    assert coarse.voxel_size == (40, 8, 16)
    np.testing.assert_array_equal(coarse[...], expected[..., ::2])
    with pytest.raises(UserError, match="no scale '4_4_40' .allowed: 8_8_40, 16_8_40"):
        open_volume(f"precomputed://{url}/pre:4_4_40")


def test_a_precomputed_segmentation_has_64_bits(url):
    tensorstore = pytest.importorskip("tensorstore")
    ids = RAW.astype(np.uint64) << 40
    scale = {"resolution": [8, 8, 40], "encoding": "compressed_segmentation", "size": [32, 24, 20]}
    scale |= {"chunk_size": [16, 16, 16], "compressed_segmentation_block_size": [8, 8, 8]}
    spec = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{Path.cwd()}/seg/"}
    many = {"type": "segmentation", "num_channels": 1, "data_type": "uint64"}
    spec |= {"multiscale_metadata": many, "scale_metadata": scale}
    tensorstore.open(spec, create=True).result()[...] = ids.T[..., np.newaxis]
    volume = open_volume(f"precomputed://{url}/seg")
    assert (volume.dtype, volume.offset) == (np.uint64, (0, 0, 0))
    np.testing.assert_array_equal(volume[...], ids)


def test_a_precomputed_volume_is_read_once_and_errors_are_told(url):
    precomputed()
    volume = open_volume(f"precomputed://{url}/pre")
    for count in (1, 0):
        np.testing.assert_array_equal(volume.read((0, 0, 0), (5, 6, 8)), RAW[:5, :6, :8])
        assert len(chunks()) == count
        volume = pickle.loads(pickle.dumps(volume))
    for start, status in zip((0, 10), (403, 500), strict=True):
        Handler.failing["18-34_10-22_10-20" if start == 0 else "18-34_10-22_20-30"] = status
        with pytest.raises(UserError, match="cannot read 'precomputed://.*pre'"):
            volume.read((start, 0, 16), (start + 5, 6, 20))
    Handler.failing["info"] = 500
    with pytest.raises(UserError, match="cannot open 'precomputed://.*pre'"):
        open_volume(f"precomputed://{url}/pre")


def test_identity_is_stable_and_no_bytes_are_compared(url):
    ome()
    precomputed()
    for location in (f"{url}/vol.zarr/main", f"precomputed://{url}/pre"):
        chunks()
        found = identity(location)
        assert found == identity(location)
        assert found["path"] in location and found["shape"] == [20, 24, 32]
        hashes = contents([location])
        assert chunks() == []
        with pytest.raises(UserError, match="--verify cannot compare the bytes of 'http|'precomp"):
            same_contents({"contents": hashes}, [location])


READ = """
import os, sys
from emseg.errors import UserError
from emseg.volumes import open_volume

volume = open_volume(sys.argv[1])
print(int(volume.read((0, 0, 0), (5, 6, 8)).sum()), flush=True)
if os.fork() == 0:
    try:
        print(int(volume.read((10, 0, 0), (15, 6, 8)).sum()), flush=True)
    except UserError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


def test_another_process_reads_it_and_a_forked_one_reads_zarr(url):
    ome()
    precomputed()
    parts = [str(int(RAW[first : first + 5, :6, :8].sum())) for first in (0, 10)]
    for location in (f"{url}/vol.zarr", f"precomputed://{url}/pre"):
        command = [sys.executable, "-c", READ, location]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
        here, forked = ended.stdout.splitlines()
        assert here == parts[0]
        assert forked == parts[1] or (location != f"{url}/vol.zarr" and "data.preload" in forked)


@pytest.mark.parametrize("package", ["fsspec", "aiohttp", "tensorstore"])
def test_missing_packages_are_named(url, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    location = f"precomputed://{url}/pre" if package == "tensorstore" else f"{url}/a.zarr"
    with pytest.raises(UserError, match=r"pip install 'emseg\[remote\]'"):
        open_volume(location)


@pytest.mark.parametrize("url", ["s3://bucket/a.zarr", "gs://bucket/a.zarr"])
def test_missing_packages_of_buckets_are_named(url, monkeypatch):
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install 'emseg\[buckets\]'"):
        open_volume(url)


def test_nothing_is_written_to_a_url(url):
    with pytest.raises(UserError, match=f"cannot write '{url}/a.zarr': .* only read"):
        write_volume(f"{url}/a.zarr", RAW, axes="zyx")
    with pytest.raises(UserError, match=f"cannot write '{url}/folder'"):
        synth("snemi", f"{url}/folder")
    assert not [*Path().glob("http*")]


def test_the_command_line_takes_volumes_alone(url, capsys):
    ome()
    config = Path("c.yaml")
    config.write_text(json.dumps({"experiment_name": "a", "optimization": {"max_epochs": 1}}))
    overrides = [f"data.test.image={url}/vol.zarr/main", "data.test.path=folder"]
    (volume,) = load(config, mode="test", overrides=overrides).root.data.test.values()
    ((_, one),) = expand("", volume, "test")
    assert one.image == f"{url}/vol.zarr/main"
    assert image_name(one.image) == "vol"
    for flag in ("--checkpoint", "--input"):
        words = ["--config", "c.yaml", "--mode", "decode", flag, f"{url}/a.zarr"]
        assert main(words) == 2
        assert f"{flag} '{url}/a.zarr': URLs are of volumes" in capsys.readouterr().err
    assert main(["inspect", f"{url}/vol.zarr"]) == 0
    assert "20 x 24 x 32" in capsys.readouterr().out


def test_image_and_label_of_a_test_lie_on_one_another(url, capsys):
    ome()
    precomputed()
    config = VolumeConfig(image="main", path=f"{url}/vol.zarr", label=f"precomputed://{url}/pre")
    (source,) = open_sources({"": config}, split="test")
    np.testing.assert_array_equal(source.label[...], source.image[...])
    assert (source.name, source.truth_first) == ("vol", (0, 0, 0))
    assert source.region()["image"] == f"{url}/vol.zarr:main" and source.is_in([source.region()])
    assert capsys.readouterr().err == ""
