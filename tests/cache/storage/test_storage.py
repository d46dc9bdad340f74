"""Files that are whole or not there, and the guard that keeps old and new apart."""

import subprocess
import sys
from pathlib import Path

import pytest

from mixstyle.cache.storage.atomic import atomic_write, locked, read_json, write_bytes, write_json
from mixstyle.cache.storage.fingerprint import differences, fingerprint, guard, read_settings
from mixstyle.pipeline.core.errors import MixstyleError


def test_atomic_write_leaves_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    write_bytes(path, b"old")

    def write() -> None:
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"new, cut sh")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write()
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_the_new_name_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"content")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename across file systems would not be atomic
    assert path.read_bytes() == b"content"


def test_json_of_equal_values_has_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": [0.1, None, "\udcff é"]})
    write_json(tmp_path / "b", {"y": [0.1, None, "\udcff é"], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"x": 1, "y": [0.1, None, "\udcff é"]}
    (tmp_path / "a").write_text("{")
    with pytest.raises(MixstyleError, match="a: cannot be read as JSON"):
        read_json(tmp_path / "a")


def test_a_lock_keeps_others_out_and_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import fcntl, os, sys, time\n"
        f"handle = os.open({str(tmp_path / '.lock')!r}, os.O_CREAT | os.O_RDWR)\n"
        "fcntl.flock(handle, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(MixstyleError, match="another `mixstyle separate` is writing"),
            locked(tmp_path, "mixstyle separate"),
        ):
            pytest.fail("got in")
        holder.kill()
        holder.wait()
        with locked(tmp_path, "mixstyle separate"):
            pass


def test_fingerprint_is_of_the_values() -> None:
    assert fingerprint({"a": Path("x/y"), "b": (1, 2)}) == fingerprint({"b": [1, 2], "a": "x/y"})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert differences({"a": 1, "gone": True}, {"a": 1, "b": {"c": 2}}) == [
        "b: (not set) -> {'c': 2}",
        "gone: True -> (not set)",
    ]


def test_guard_refuses_by_name_and_rebuilds_only_when_told(tmp_path: Path) -> None:
    path, output, tree = tmp_path / "settings.json", tmp_path / "out.bin", tmp_path / "out.zarr"
    old, new = {"clip_s": 10.0, "seed": 0, "listing": "aa"}, {"clip_s": 5.0, "seed": 0, "listing": "bb"}
    first = guard(path, old, stage="separate", rebuild=False, remove=[output, tree])
    output.write_bytes(b"made with old")
    tree.mkdir()
    (tree / "chunk").write_bytes(b"made with old")
    assert guard(path, old, stage="separate", rebuild=False, remove=[output]) == first
    assert guard(path, old, stage="separate", rebuild=True, remove=[output]) == first
    assert output.exists()  # --rebuild throws away only what was made otherwise

    with pytest.raises(MixstyleError, match=r"separate.clip_s: 10.0 -> 5.0; 12 files added\).*--rebuild") as error:
        guard(path, new, stage="separate", rebuild=False, remove=[output], notes={"listing": "12 files added"})
    assert "\n" not in str(error.value)
    assert "seed" not in str(error.value)
    assert read_settings(path) == old

    second = guard(path, new, stage="separate", rebuild=True, remove=[output, tree])
    assert second != first
    assert not output.exists()
    assert not tree.exists()
    assert read_settings(path) == new


def test_guard_refuses_outputs_of_unknown_origin_and_unknown_versions(tmp_path: Path) -> None:
    path, output = tmp_path / "settings.json", tmp_path / "out.bin"
    output.write_bytes(b"?")
    with pytest.raises(MixstyleError, match=r"holds out.bin but no settings.json.*--rebuild"):
        guard(path, {"a": 1}, stage="separate", rebuild=False, remove=[output])
    guard(path, {"a": 1}, stage="separate", rebuild=True, remove=[output])
    assert not output.exists()
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(MixstyleError, match="version 2 is unknown"):
        guard(path, {"a": 1}, stage="separate", rebuild=False)
    with pytest.raises(MixstyleError, match="version 2 is unknown"):
        read_settings(path)
