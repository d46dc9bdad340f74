"""The teacher's own arithmetic and files; its networks, which nobody has here, are stood in for."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
import teacher
import torch
from torch import Tensor, nn


class Gain(nn.Module):
    """A network that multiplies its spectrogram."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


def test_masks_are_the_ratio_of_the_squared_magnitudes() -> None:
    mixture = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, 30_000)).astype(np.float32))
    vocals = teacher.vocals_of(mixture, [Gain(1.0), Gain(3.0)])
    # 1 / (1 + 9) in every bin, above the network's bins too; float32 STFT and back: 1e-5 of a peak of about 0.4
    assert torch.allclose(vocals, 0.1 * mixture, atol=1e-5)


def test_excerpts_lie_inside_the_track_and_do_not_overlap() -> None:
    starts = teacher.draw_starts("a/b.ogg", 100.0, 3, 11.8, seed=0)
    assert len(starts) == 3
    assert all(0 <= start <= 100 - 11.8 for start in starts)
    assert all(b - a >= 11.8 - 0.01 for a, b in itertools.pairwise(starts))  # rounded to 0.01 s
    assert starts == teacher.draw_starts("a/b.ogg", 100.0, 3, 11.8, seed=0)
    assert starts != teacher.draw_starts("a/c.ogg", 100.0, 3, 11.8, seed=0)
    assert len(teacher.draw_starts("a/b.ogg", 30.0, 3, 11.8, seed=0)) == 2
    assert teacher.draw_starts("a/b.ogg", 5.0, 3, 11.8, seed=0) == []


def test_an_excerpt_is_stereo_at_the_teachers_rate_from_its_start_on(tmp_path: Path) -> None:
    rate = 22_050
    tone = 0.5 * np.sin(2 * np.pi * 441 * np.arange(2 * rate) / rate)
    soundfile.write(tmp_path / "mono.wav", tone, rate, subtype="FLOAT")
    audio = teacher.read_excerpt(tmp_path / "mono.wav", 0.5, 1.0)
    assert audio.shape == (2, teacher.SAMPLE_RATE)
    wanted = 0.5 * np.sin(2 * np.pi * 441 * (0.5 + np.arange(teacher.SAMPLE_RATE) / teacher.SAMPLE_RATE))
    inner = slice(500, -500)  # the filter of resample_poly rings at the ends
    assert np.abs(audio[:, inner] - wanted[inner]).max() < 5e-3  # its ripple in the pass band is below 1%


def test_a_loud_excerpt_is_brought_below_full_scale(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.full((teacher.SAMPLE_RATE, 2), 2.0), teacher.SAMPLE_RATE, "FLOAT")
    assert np.abs(teacher.read_excerpt(tmp_path / "loud.wav", 0.0, 0.5)).max() == pytest.approx(teacher.PEAK)


def test_the_two_stems_written_give_the_excerpt_and_an_unlisted_folder_is_written_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vocals, rest = rng.uniform(-0.4, 0.4, (2, 2, 5000)).astype(np.float32)
    folder = tmp_path / "track@1.00"
    for _ in range(2):  # the second time as after a run that was stopped before its listing
        teacher.write_excerpt(folder, vocals, vocals + rest)
    parts = [soundfile.read(folder / f"{name}.flac")[0].T for name in ("vocals", "accompaniment")]
    assert np.abs(parts[0] - vocals).max() < 2 / 2**15  # 16 bits: half a step, and the float's own rounding
    assert np.abs(parts[0] + parts[1] - vocals - rest).max() < 3 / 2**15
    assert [path.name for path in tmp_path.iterdir()] == ["track@1.00"]


def test_a_listing_is_read_back_and_other_settings_are_refused(tmp_path: Path) -> None:
    path, settings = tmp_path / "teacher.json", {"excerpts": 3, "seconds": 11.8, "seed": 0}
    rows = {"b@1.00": {"name": "b@1.00", "vocals_db": -3.0}, "a@2.00": {"name": "a@2.00", "vocals_db": -30.0}}
    assert teacher.read_listing(path, settings) == {}
    teacher.write_listing(path, settings, rows)
    assert teacher.read_listing(path, settings) == rows
    with pytest.raises(teacher.TeacherError):
        teacher.read_listing(path, {**settings, "seed": 1})


def test_levels_and_files(tmp_path: Path) -> None:
    audio = np.ones((2, 100), np.float32)
    assert teacher.level_db(0.1 * audio, audio) == pytest.approx(-20.0)
    assert teacher.level_db(0 * audio, audio) == -80.0
    with pytest.raises(teacher.TeacherError):
        teacher.find_music(tmp_path)
    for name in ("a.OGG", "b.flac", "c.txt"):
        (tmp_path / name).touch()
    assert {path.name for path in teacher.find_music(tmp_path)} == {"a.OGG", "b.flac"}
