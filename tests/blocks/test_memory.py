import os

import pytest

from emseg.blocks import memory
from emseg.blocks.memory import memory_within


@pytest.fixture
def groups(tmp_path, monkeypatch):
    def make(process: str, limits: dict[str, str]) -> None:
        (tmp_path / "cgroup").write_text(process)
        for name, limit in limits.items():
            (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "sys" / name).write_text(f"{limit}\n")
        monkeypatch.setattr(memory, "_GROUPS_OF_PROCESS", tmp_path / "cgroup")
        monkeypatch.setattr(memory, "_GROUPS", tmp_path / "sys")

    return make


def physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("process", "limits", "expected"),
    [
        ("0::/job/step\n", {"job/step/memory.max": "5000", "job/memory.max": "4000"}, 4000),
        ("0::/job\n", {"job/memory.max": "max", "memory.max": "7000"}, 7000),
        ("0::/not/there\n", {"memory.max": "7000"}, 7000),
        ("0::/\n", {}, None),
        ("0::/job\n", {"job/memory.max": "max"}, None),
        ("0::/job\n", {"job/memory.max": str(2**62)}, None),
        (
            "4:memory:/job\n3:cpu:/\n0::/\n",
            {"memory/job/memory.limit_in_bytes": "3000", "cpu/memory.limit_in_bytes": "1"},
            3000,
        ),
        ("4:cpu,memory:/job\n", {"memory/memory.limit_in_bytes": "6000"}, 6000),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_the_smallest_limit_counts(groups, process, limits, expected):
    groups(process, limits)
    assert memory_within(None) == (physical() if expected is None else expected)


def test_without_cgroups_it_is_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_GROUPS_OF_PROCESS", tmp_path / "none")
    assert memory_within(None) == physical()
