"""Audio files are what was written, sample by sample, and equal bytes for equal samples."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mixstyle.cache.music.writer import AudioForm, audio_writer
from mixstyle.pipeline.core.errors import MixstyleError


def write(path: Path, audio: np.ndarray, form: AudioForm) -> int:
    with audio_writer(path, audio.shape[1], form) as writer:
        for start in range(0, audio.shape[1], 700):
            writer.write(audio[:, start : start + 700])
    return writer.clipped


@pytest.mark.parametrize("name", ["wav", "flac"])
def test_24_bits_are_rounded_once(tmp_path: Path, name: str) -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, (2, 5_000)).astype(np.float32)
    assert write(tmp_path / f"a.{name}", audio, AudioForm.of(tmp_path / f"a.{name}")) == 0
    found, rate = soundfile.read(tmp_path / f"a.{name}")
    assert rate == 44_100
    assert np.abs(found.T - audio).max() <= 0.5 / 2**23 + 1e-12
    assert list(tmp_path.glob(".*")) == []


def test_16_bit_samples_stay_what_they_are(tmp_path: Path) -> None:
    audio = np.random.default_rng(1).integers(-(2**15), 2**15, (2, 3_000)) / 2**15
    write(tmp_path / "a.wav", audio.astype(np.float32), AudioForm())
    assert np.array_equal(soundfile.read(tmp_path / "a.wav")[0].T, audio)


def test_float_holds_what_24_bits_cut_off(tmp_path: Path) -> None:
    audio = np.array([[0.5, 1.0, 1.5], [-1.0, -1.25, 0.0]], np.float32)
    assert write(tmp_path / "a.wav", audio, AudioForm()) == 2
    assert np.abs(soundfile.read(tmp_path / "a.wav")[0]).max() <= 1
    assert write(tmp_path / "b.wav", audio, AudioForm(samples="float")) == 0
    assert np.array_equal(soundfile.read(tmp_path / "b.wav", dtype="float32")[0].T, audio)


@pytest.mark.parametrize("form", [AudioForm("flac"), AudioForm("wav", "float")])
def test_equal_samples_are_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: AudioForm) -> None:
    audio = np.random.default_rng(2).uniform(-1, 1, (2, 2_000)).astype(np.float32)
    write(tmp_path / "a", audio, form)
    if form.samples == "float":
        data = (tmp_path / "a").read_bytes()
        place = data.index(b"PEAK") + 12  # after the chunk's name, size and version: the time of writing
        assert data[place : place + 4] == bytes(4)
    write(tmp_path / "b", audio, form)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_more_than_4_gb_is_rf64(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with audio_writer(path, 1 << 30, AudioForm()) as writer:
        writer.write(np.full((2, 100), 0.25, np.float32))
    assert path.read_bytes()[:4] == b"RF64"
    assert soundfile.read(path)[0].shape == (100, 2)


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="shape"):  # three channels
        write(path, np.zeros((3, 10), np.float32), AudioForm())
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


def test_what_cannot_be_written_so_is_refused(tmp_path: Path) -> None:
    for make in (lambda: AudioForm("flac", "float"), lambda: AudioForm.of(tmp_path / "a.mp3")):
        with pytest.raises(MixstyleError) as caught:
            make()
        assert caught.value.code == "bad-option"
