"""Fuzz of what people bring: audio of every format and lists of music, damaged in any way, are used or refused."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.fuzz import CASES, case, damaged, drawn, edits, fuzzed, grown_bytes
from helpers.odd_audio import (
    RATE,
    id3v2,
    noise,
    without_data_size,
    without_first_frame,
    without_length,
    without_long_size,
    write_mp3,
)
from hypothesis import example, given
from hypothesis import strategies as st

from mixstyle.cache.music.content_hash import audio_bytes, content_hash, quick_hash
from mixstyle.cache.music.listing import list_tracks
from mixstyle.cache.music.reader import frames_at_44100, probe, read_what_is_there, resample_to_44100
from mixstyle.cache.stem_store.manifest import read_fma_tracks

FRAMES = RATE // 3
WINDOW = 4_410
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "rf64": ("RF64", "PCM_24"),
    "w64": ("W64", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "ALAC_16"),
}
"""Names' ends, with the format and the encoding of libsndfile."""


def intact(folder: Path, kind: str) -> bytes:
    """A third of a second of the format."""
    path = folder / f"whole.{kind.rpartition('.')[2]}"
    audio = noise(FRAMES)
    if kind == "webm":
        return bytes.fromhex("1a45dfa3") + np.random.default_rng(0).bytes(2_000)
    if kind.endswith("mp3"):
        data = write_mp3(path, audio, variable=True).read_bytes()
        return id3v2(300) + without_first_frame(data) if kind.startswith("bare") else data
    if kind in ("pipe.caf", "died.rf64"):
        with path.open("wb") as file:
            soundfile.write(file, audio, RATE, format="CAF" if kind == "pipe.caf" else "RF64", subtype="PCM_16")
        return without_long_size(path.read_bytes())
    if kind in ("pipe.flac", "died.wav"):
        soundfile.write(path, audio, RATE)
        return (without_length if kind == "pipe.flac" else without_data_size)(path.read_bytes())
    container, subtype = KINDS[kind]
    rate = 48_000 if subtype == "OPUS" else RATE
    with path.open("wb") as file:
        soundfile.write(file, audio, rate, format=container, subtype=subtype)
    return path.read_bytes()


def use(path: Path) -> None:
    """Reads a file as separating, listing and looking for duplicates do."""
    quick_hash(path, audio_bytes(path))
    content_hash(path)
    frames = frames_at_44100(probe(path))
    length = min(WINDOW, frames)
    for found in read_what_is_there(path, [(0, length), (frames - length, frames)]):
        assert found.audio.shape == (2, length)
        assert np.isfinite(found.audio).all()
        assert 0 <= found.there <= length
        assert (found.there < length) == bool(found.reason)


FORMATS = [*KINDS, "mp3", "bare.mp3", "pipe.flac", "pipe.caf", "died.wav", "died.rf64", "webm"]
RARE = {"float.wav", "rf64", "w64", "au", "caf", "pipe.caf", "died.rf64", "webm"}
"""Formats that few songs are in: their fuzz takes half a minute, and runs with the slow tests."""


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in RARE)) for kind in FORMATS])
def test_damaged_audio_is_used_or_refused_in_a_line(
    tmp_path: Path, kind: str, record_property: Callable[[str, object], None]
) -> None:
    whole, path, tried = intact(tmp_path, kind), tmp_path / f"damaged.{kind.rpartition('.')[2]}", 0
    path.write_bytes(whole)
    if kind != "webm":
        use(path)

    @fuzzed(30)
    @given(edits())
    def one(done: list[tuple[str, int, int, bytes]]) -> None:
        nonlocal tried
        tried += 1
        path.write_bytes(damaged(whole, done) or b"x")
        with case():
            use(path)

    one()
    record_property("tried", tried)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_damaged_audio_leaves_no_memory_in_use(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    kinds = ["wav", "flac", "ogg", "mp3", "aiff", "bare.mp3"]
    whole = {kind: intact(tmp_path, kind) for kind in kinds}
    resample_to_44100(np.zeros((2, 480), np.float32), 48_000)  # loads torch

    def one(number: int) -> None:
        kind = kinds[number % len(kinds)]
        path = tmp_path / f"damaged.{kind.rpartition('.')[2]}"
        # as it is at the front: other rates would load filters, which are kept
        path.write_bytes(whole[kind][:64] + damaged(whole[kind][64:], drawn(number)))
        with case():
            use(path)

    cases = max(900, CASES)
    # 600 cases read 20 MB of files and decode as much: what kept a quarter of that would be seen
    assert grown_bytes(one, 300, cases) < 10e6
    record_property("tried", cases)


LIST = b'path,artist,licence\na.wav,"A, B",CC0\n"b ""c"".wav",D,\n'
FMA = b'track_id,artist,track\n,id,license\n2,1,CC\n3,,\n"5",4,"a,\nb"\n'
ODD_TEXT = st.text(st.sampled_from('",\n\r\0#\ufeffpath;a/.é~\u2028 '), max_size=40)


@pytest.mark.parametrize("name", ["list.csv", "list.txt", "tracks.csv"])
def test_damaged_lists_are_read_or_refused_in_a_line(
    tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    path, tried = tmp_path / name, 0
    (tmp_path / "a.wav").touch()
    text = {"list.csv": LIST, "list.txt": b"a.wav\n# note\n\nb.wav\n", "tracks.csv": FMA}[name]

    @fuzzed(150)
    @given(edits(), ODD_TEXT)
    @example([], "9" * 5_000 + ",1,\n")
    @example([], '"' + "a" * 200_000)
    @example([("cut", 0, 0, b"")], "path\n" + "../" * 2_000)
    def one(done: list[tuple[str, int, int, bytes]], more: str) -> None:
        nonlocal tried
        tried += 1
        path.write_bytes(damaged(text, done) + more.encode())
        with case():
            read_fma_tracks(path) if name == "tracks.csv" else list_tracks(path, "mixtures").digest

    one()
    record_property("tried", tried)
