"""C code that is built at its first use: kept, built again where it is damaged, and never taken from others."""

import ctypes
import shutil
from pathlib import Path

import pytest

from mixstyle.cache.storage.compiled import NotCompiledError, compiled

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("CC", raising=False)
    return tmp_path / "caches" / "mixstyle" / "compiled"


def source(folder: Path, body: str = "return 42;") -> Path:
    path = folder / "answer.c"
    path.write_text(f"int answer(void) {{ {body} }}\n")
    return path


def answer(library: ctypes.CDLL) -> int:
    return library.answer()


@needs_compiler
def test_is_built_once_and_then_taken_from_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source(tmp_path)
    assert compiled(path, ["-O1"], answer) == 42
    (kept,) = cache.glob("*")
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler any more
    assert compiled(path, ["-O1"], answer) == 42
    for flags, body in ((["-O2"], "return 42;"), (["-O1"], "return 43;")):  # other options, another source
        with pytest.raises(NotCompiledError, match="gcc"):
            compiled(source(tmp_path, body), flags, answer)
    assert list(cache.glob("*")) == [kept]


@needs_compiler
def test_a_library_that_is_damaged_or_open_to_others_is_built_again(tmp_path: Path, cache: Path) -> None:
    path = source(tmp_path)
    compiled(path, [], answer)
    (kept,) = cache.glob("*")
    whole = kept.read_bytes()
    kept.unlink()  # this process has it mapped, and cutting it short in place would end the process
    kept.write_bytes(whole[: len(whole) // 2])
    kept.chmod(0o700)
    assert compiled(path, [], answer) == 42
    assert kept.read_bytes() == whole, "equal source, equal library"

    refused: list[int] = []

    def load(library: ctypes.CDLL) -> int:
        refused.append(1)
        return answer(library)

    kept.chmod(0o777)
    foreign = kept.stat().st_ino
    assert compiled(path, [], load) == 42
    assert len(refused) == 1
    assert kept.stat().st_ino != foreign
    assert kept.stat().st_mode & 0o077 == 0


@needs_compiler
def test_why_there_is_no_library(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotCompiledError, match="nothing"):
        compiled(source(tmp_path, "return nothing;"), [], answer)

    def refuse(library: ctypes.CDLL) -> int:
        raise OSError("wrong results")

    with pytest.raises(NotCompiledError, match="wrong results"):
        compiled(source(tmp_path), [], refuse)
    assert not list(cache.glob("*")), "what was refused is not kept"
    cache.rmdir()
    cache.write_text("no folder")
    assert compiled(source(tmp_path), [], answer) == 42, "a cache that cannot be written is no error"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotCompiledError, match="gcc"):
        compiled(source(tmp_path), [], answer)
