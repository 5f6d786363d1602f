"""Results and ledgers that somebody edited: one line, or made anew, and never a traceback."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from emseg.blocks.grid import Block
from emseg.errors import UserError
from emseg.runs.folder_store import FolderStore
from emseg.runs.run_folder import find_record
from emseg.stages.decode_job import DecodeJob, open_prediction
from emseg.stages.study_file import check_study_file, open_study
from emseg.stages.sweep_rows import rows_of
from emseg.volumes import PartialVolume, open_volume, write_volume
from stages.nearest_facts import FACTS

# What may stand where something else is expected.
WRONG = (None, True, -1, 1.5, "x", [], [1], {}, {"a": None}, [[1, 2]], 10**30)

BINARY = {"_target_": "emseg.decoding.binary.binary"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def one_line(function, *arguments, **named):
    """The message of the UserError, or None where there is none."""
    try:
        function(*arguments, **named)
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return None


@pytest.mark.parametrize(
    "name", ["channels", "offsets", "edge_side", "activation", "step", "heads"]
)
def test_attributes_of_a_prediction(name):
    values = np.zeros((3, 2, 3, 4), np.float32)
    refused = 0
    for wrong in WRONG:
        facts = FACTS | {name: wrong}
        write_volume("p.h5", values, axes="czyx", voxel_size=None, attributes=facts)
        told = one_line(open_prediction, DecodeJob(Path("p.h5"), BINARY, None))
        assert told is None or ("p.h5" in told and name in told)
        refused += told is not None
    assert refused >= len(WRONG) - 2


@pytest.mark.parametrize("name", ["kind", "fingerprint", "channels", "offsets", "step"])
def test_a_prediction_that_lacks_an_attribute(name):
    values = np.zeros((3, 2, 3, 4), np.float32)
    facts = {key: value for key, value in FACTS.items() if key != name}
    write_volume("p.h5", values, axes="czyx", voxel_size=None, attributes=facts)
    assert one_line(open_prediction, DecodeJob(Path("p.h5"), BINARY, None))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "null", '"x"', "{}", "[" * 100_000, '{"format_version": 1}', "\0"]
)
def test_metrics_json(text):
    Path("metrics.json").write_text(text)
    assert "metrics.json" in one_line(find_record, Path(), "key")


def test_values_in_metrics_json():
    for wrong in WRONG:
        whole = {"format_version": 1, "records": {"key": wrong}}
        Path("metrics.json").write_text(json.dumps(whole))
        assert find_record(Path(), "key") is None
        if not isinstance(wrong, dict):
            Path("metrics.json").write_text(json.dumps(whole | {"records": wrong}))
            assert "records" in one_line(find_record, Path(), "key")
    Path("metrics.json").write_bytes(b"\xff\xfe")
    assert "metrics.json" in one_line(find_record, Path(), "key")
    Path("metrics.json").unlink()
    Path("metrics.json").mkdir()
    assert "metrics.json" in one_line(find_record, Path(), "key")


DATA = np.random.default_rng(0).random((12, 4, 5), np.float32)


def partial_volume(name="a.h5", **facts):
    place = {"axes": "zyx", "voxel_size": None, "shape": DATA.shape, "dtype": "f4"}
    attributes = {"fingerprint": "f"} | facts
    return PartialVolume(name, chunks=(4, 4, 5), attributes=attributes, **place)


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_partial_volumes_of_others_begin_anew(name):
    about = Path(f"{name}.partial.json")
    partial_volume(name).write(0, DATA[:8])
    sound = json.loads(about.read_text())
    texts = ["", "[]", "null", "{}", "[" * 100_000]
    texts += [json.dumps(sound | {key: wrong}) for key in sound for wrong in WRONG]
    for text in texts:
        about.write_text(text)
        volume = partial_volume(name)
        assert volume.done() == 0
        volume.write(0, DATA[:8])
    volume.write(8, DATA[8:])
    np.testing.assert_array_equal(open_volume(volume.finish())[...], DATA)


def test_lines_of_ledgers_that_no_writer_wrote_are_no_rows():
    partial_volume().write(0, DATA[:8])
    (ledger,) = Path("a.h5.partial.cells").iterdir()
    first, second = ledger.read_bytes().splitlines()
    number, digest, seconds = json.loads(second)
    wrong = [[number, digest], [number, digest, seconds, 1], {}, "[" * 100_000, *WRONG]
    lines = [json.dumps(one).encode() for one in wrong]
    # Not that row, none of the volume, of other content, and cut short by a kill.
    for other in ([-1, digest, seconds], [7, digest, seconds], [number, "0" * 64, seconds]):
        lines.append(json.dumps(other).encode())
    lines += [b"", b"\xff\xfe", b"\0" * 100, second[:-1]]
    for line in lines:
        ledger.write_bytes(first + b"\n" + line + b"\n")
        assert partial_volume().missing() == [(4, 12)]
    ledger.write_bytes(first + b"\n" + second)
    assert partial_volume().missing() == [(4, 12)]
    ledger.write_bytes(first + b"\n" + second + b"\n")
    assert partial_volume().missing() == [(8, 12)]


@pytest.mark.parametrize("loss", ["missing", "cut", "other", "metadata"])
@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_a_lost_chunk_is_made_anew_and_never_0(name, loss):
    partial_volume(name).write(0, DATA[:8])
    first, second = sorted(Path(f"{name}.partial/main/c").rglob("*/0/0"))
    if loss == "missing":
        second.unlink()
    elif loss == "cut":
        second.write_bytes(second.read_bytes()[:10])
    elif loss == "other":
        second.write_bytes(first.read_bytes())
    else:
        Path(f"{name}.partial/main/zarr.json").write_text("{}")
    volume = partial_volume(name)
    assert volume.done() == (0 if loss == "metadata" else 4)
    volume.write(volume.done(), DATA[volume.done() :])
    np.testing.assert_array_equal(open_volume(volume.finish())[...], DATA)


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_a_chunk_that_is_lost_before_the_end_is_an_error(name):
    volume = partial_volume(name)
    volume.write(0, DATA)
    sorted(Path(f"{name}.partial/main/c").rglob("*/0/0"))[1].unlink()
    assert "makes the missing parts anew" in one_line(volume.finish)
    assert not Path(name).exists()
    again = partial_volume(name)
    assert again.done() == 4
    again.write(4, DATA[4:])
    np.testing.assert_array_equal(open_volume(again.finish())[...], DATA)


def test_chunks_of_zeros_are_not_lost_ones():
    volume = partial_volume("a.zarr")
    volume.write(0, DATA * 0)
    assert partial_volume("a.zarr").done() == 12
    assert not open_volume(volume.finish())[...].any()


def test_an_input_of_other_content_starts_anew():
    partial_volume(contents={"im.h5": "one"}).write(0, DATA[:8])
    assert partial_volume(contents={"im.h5": "one"}).done() == 8
    assert partial_volume(contents={"im.h5": "two"}).done() == 0


BLOCK = Block((0, 0, 0), (0, 0, 0), (2, 3, 4))


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_blocks_that_were_edited_are_not_done(kind):
    labels, facts = np.arange(24, dtype=np.uint32).reshape(2, 3, 4), {"first": np.arange(3)}
    store = FolderStore(Path("blocks"), purpose={})
    store.save(BLOCK, labels, facts)
    assert store.done(BLOCK)
    np.testing.assert_array_equal(store.facts(BLOCK, ["first"])["first"], facts["first"])
    path = next(Path("blocks").rglob(f"*.{kind}"))
    whole = path.read_bytes()
    for at in (0, 1, len(whole) // 2, len(whole) - 5, len(whole) - 1):
        for spoilt in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            path.write_bytes(spoilt)
            done = store.done(BLOCK)
            same = done and np.array_equal(store.labels(BLOCK), labels)
            assert not done or (same and (store.facts(BLOCK, ["first"])["first"] == range(3)).all())
    for other in (np.save, np.savez):
        with path.open("wb") as file:
            other(file, labels.astype(float))
        assert not store.done(BLOCK)


STUDY = {"direction": "minimize", "fingerprint": "f", "contents": {}, "searched": ["a"]}


def opened(path="s.sqlite3", verify=False, **changes):
    check_study_file(Path(path))
    return open_study(Path(path), "s", verify=verify, **STUDY | changes)


def completed():
    import optuna

    study = opened()
    told = {"sampled": {"a": 1}, "curve": [[None, 0.5]], "parameters": {"a": 1}}
    study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs=told))
    return study


@pytest.mark.parametrize("content", [b"", b"no study", b"SQLite format 3\0" + b"x" * 200, None])
def test_a_file_that_is_no_study(content):
    if content is None:
        with sqlite3.connect("s.sqlite3") as file:
            file.execute("create table studies (a)")
        file.close()
    else:
        Path("s.sqlite3").write_bytes(content)
    before = Path("s.sqlite3").read_bytes()
    assert "s.sqlite3" in one_line(check_study_file, Path("s.sqlite3"))
    assert Path("s.sqlite3").read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "update alembic_version set version_num = 'v99'",
        "update study_directions set direction = 'UP'",
        "drop table trial_values",
        "drop table study_user_attributes",
        "delete from study_directions",
        "update trials set state = 'MAYBE'",
        "update trial_user_attributes set value_json = '{'",
        "update trial_user_attributes set value_json = 'null'",
        "update trial_user_attributes set value_json = '[1]' where key = 'curve'",
        "update trial_user_attributes set value_json = '{}' where key = 'parameters'",
        "delete from study_user_attributes",
        "update study_user_attributes set value_json = '\"other\"' where key = 'fingerprint'",
    ],
)
def test_a_study_that_was_edited(statement):
    completed()
    with sqlite3.connect("s.sqlite3") as file:
        file.execute(statement)
    file.close()
    before = Path("s.sqlite3").read_bytes()
    assert "s.sqlite3" in one_line(opened)
    assert Path("s.sqlite3").read_bytes() == before


def test_a_study_whose_last_transaction_was_cut_off():
    completed()
    whole = list(map(str, opened().trials))
    journal = Path("s.sqlite3-journal")
    with closing(sqlite3.connect("s.sqlite3", isolation_level=None)) as file:
        file.execute("pragma cache_size = 1")
        file.execute("begin")
        file.execute("delete from trial_values")
        for number in range(300):
            file.execute("insert into trial_params (param_name) values (?)", [f"{number:1000}"])
        killed = [path.read_bytes() for path in (Path("s.sqlite3"), journal)]
    for path, content in zip((Path("s.sqlite3"), journal), killed, strict=True):
        path.write_bytes(content)
    assert list(map(str, opened().trials)) == whole


def test_a_study_is_of_one_truth():
    completed()
    assert one_line(opened, verify=True) is None
    assert one_line(opened, contents={"t": "1"}) is None
    assert "were changed since" in one_line(opened, verify=True, contents={"t": "1"})


def test_rows_of_a_sweep():
    for wrong in [w for w in WRONG if w != []]:
        for text in (json.dumps(wrong), json.dumps([wrong])):
            Path("rows.json").write_text(text)
            told = one_line(rows_of, [], [], Path("rows.json"), affinities=False)
            assert text == "{}" or "rows.json" in told


def test_an_hdf5_file_in_place_of_a_prediction():
    with h5py.File("p.h5", "w") as file:
        file["main"] = np.zeros((3, 2, 3, 4), np.float32)
        file["main"].attrs["axes"] = "czyx"
    assert "not written by emseg" in one_line(
        open_prediction, DecodeJob(Path("p.h5"), BINARY, None)
    )
