"""Formats that libsndfile does not read are named, and decoded where there is an ffmpeg."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.odd_audio import RATE, noise, with_serial

from mixstyle.cache.music.content_hash import content_hash
from mixstyle.cache.music.formats import LISTING_VERSION
from mixstyle.cache.music.listing import list_tracks
from mixstyle.cache.music.reader import UnreadableMusic, decoded_length, frames_at_44100, probe, read_window

FFMPEG = shutil.which("ffmpeg")
WEBM = b"\x1a\x45\xdf\xa3" + b"webm" * 500


@pytest.fixture
def only_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all there is of programs."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def write_program(folder: Path, code: str) -> None:
    """A program called ffmpeg that runs Python code."""
    program = folder / "ffmpeg"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"\n')
    program.chmod(0o755)


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableMusic) as caught:
        probe(path)
    return str(caught.value)


def test_what_looks_like_music_is_listed(tmp_path: Path) -> None:
    names = {"a.webm", "b.m4a", "c.M4B", "d.mka", "e.ape", "f.mp3"}
    for name in (*names, "cover.jpg", "list.txt", "notes.pdf"):
        (tmp_path / name).write_bytes(WEBM)
    assert set(list_tracks(tmp_path, "mixtures").sizes) == names
    assert set(list_tracks(tmp_path, "mixtures", 1).sizes) == {"b.m4a", "e.ape", "f.mp3"}
    assert LISTING_VERSION == 3


def test_without_ffmpeg_it_is_told_that_it_would_help(tmp_path: Path, only_path: Path) -> None:
    (tmp_path / "a.webm").write_bytes(WEBM)
    told = refusal(tmp_path / "a.webm")
    assert told.partition(":")[0] == "not music"
    assert "libsndfile" in told
    assert "ffmpeg" in told


def test_what_ffmpeg_writes_is_read_as_the_file(tmp_path: Path, only_path: Path) -> None:
    audio = noise(2 * RATE)
    soundfile.write(tmp_path / "decoded.au", audio, RATE, subtype="FLOAT", endian="BIG")
    # the header of a stream: how many bytes follow is not known
    stream = bytearray((tmp_path / "decoded.au").read_bytes())
    stream[8:12] = b"\xff\xff\xff\xff"
    (tmp_path / "decoded.au").write_bytes(stream)
    song = tmp_path / "- a [live].webm"
    song.write_bytes(WEBM)
    write_program(
        only_path,
        "import sys\n"
        f"name = {f'file:{song}'!r}\n"
        "asked = sys.argv[1:]\n"
        "if asked[asked.index('-i') + 1] != name or asked[-2:] != ['au', 'pipe:1']: sys.exit('asked otherwise')\n"
        f"sys.stdout.buffer.write(open({str(tmp_path / 'decoded.au')!r}, 'rb').read())\n",
    )
    info = probe(song)
    assert (info.rate, info.channels, info.frames, info.format) == (RATE, 2, 2 * RATE, "ffmpeg webm")
    np.testing.assert_array_equal(read_window(song, 1_000, 60_000), audio[1_000:60_000].T)
    np.testing.assert_array_equal(read_window(song, 0, 500), audio[:500].T)
    assert content_hash(song) != content_hash(tmp_path / "decoded.au")


@pytest.mark.parametrize(
    "code", ["import sys; sys.exit('file: no such codec\\x1b[31m')", "print('no audio at all')", "pass"]
)
def test_what_ffmpeg_does_not_read_either_is_told(tmp_path: Path, only_path: Path, code: str) -> None:
    write_program(only_path, code)
    (tmp_path / "a.webm").write_bytes(WEBM)
    told = refusal(tmp_path / "a.webm")
    assert (told.partition(":")[0], "libsndfile" in told, "; " in told) == ("not music", True, True)


@pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg on this machine")
@pytest.mark.parametrize("suffix", ["m4a", "webm", "mka"])
def test_the_machines_own_ffmpeg_gives_the_song(tmp_path: Path, suffix: str) -> None:
    t = np.arange(3 * RATE) / RATE
    audio = np.stack([0.4 * np.sin(2 * np.pi * f * t) for f in (440, 660)], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", audio, RATE)
    made = tmp_path / f"a.{suffix}"
    command = [str(FFMPEG), "-loglevel", "error", "-i", str(tmp_path / "a.wav"), "-b:a", "192k", str(made)]
    subprocess.run(command, check=True)
    frames = frames_at_44100(probe(made))
    assert abs(frames - len(audio)) <= 2_048  # two frames of a codec
    window = read_window(made, RATE, 2 * RATE)
    for channel, f in enumerate((440, 660)):  # whatever the codec's delay: the tone and its level
        spectrum = np.abs(np.fft.rfft(window[channel]))
        assert int(spectrum.argmax()) == f
        assert 2 * spectrum[f] / RATE == pytest.approx(0.4, abs=0.02)


def chained(folder: Path, seeds: tuple[int, int], serials: tuple[int, int]) -> tuple[Path, np.ndarray]:
    """Two recordings of 3 and 2 s in one Ogg, as `cat` joins them, and what their parts decode to."""
    data, parts = b"", []
    for seed, serial, seconds in zip(seeds, serials, (3, 2), strict=True):
        path = folder / f"part {seed} {serial}.ogg"
        soundfile.write(path, noise(seconds * RATE, seed=seed), RATE, format="OGG", subtype="VORBIS")
        parts.append(soundfile.read(path, dtype="float32")[0])
        data += with_serial(path.read_bytes(), serial)
    (folder / "chained.ogg").write_bytes(data)
    return folder / "chained.ogg", np.concatenate(parts)


@pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg here")
@pytest.mark.parametrize("serials", [(1, 2), (7, 7)])
def test_a_chained_ogg_is_decoded_to_its_end(tmp_path: Path, serials: tuple[int, int]) -> None:
    path, audio = chained(tmp_path, (0, 1), serials)
    info = probe(path)
    assert (info.rate, info.channels, info.format) == (RATE, 2, "ffmpeg ogg")
    # where one recording follows another, decoders do not agree on a block of Vorbis, of at most 2,048 samples
    assert abs(len(audio) - info.frames) <= 2_048
    np.testing.assert_allclose(read_window(path, 0, 100_000), audio[:100_000].T, atol=1e-4)  # two decoders
    end = read_window(path, info.frames - 60_000, info.frames)
    np.testing.assert_allclose(end, audio[-60_000:].T, atol=1e-4)
    assert decoded_length(path).lacks == ""
    path.write_bytes(path.read_bytes()[:-2_000])
    assert decoded_length(path).lacks.partition(":")[0] == "cut short"


@pytest.mark.parametrize("serials", [(1, 2), (7, 7)])
def test_a_chained_ogg_without_ffmpeg_is_told_as_such(
    tmp_path: Path, only_path: Path, serials: tuple[int, int]
) -> None:
    told = refusal(chained(tmp_path, (0, 1), serials)[0])
    assert told.partition(":")[0] == "chained Ogg"
    assert "ffmpeg" in told
