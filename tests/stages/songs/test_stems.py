"""`mixstyle stems`: files as Demucs names them, of all of the song, and how far they sum to it."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.small_separator import RATE, profile, song, write_songs

from mixstyle.cache.music.writer import AudioForm
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.songs.stems import write_stems
from mixstyle.stages.songs.whole_song import WholeSong


def test_stems_are_those_of_the_separator(tmp_path: Path) -> None:
    settings = profile(tmp_path, music := write_songs(tmp_path / "music", 2, seconds=1.2))
    written = write_stems(settings, [music], tmp_path / "out", AudioForm(samples="float"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["song 0", "song 1"]
    assert sorted(path.name for path in written[0].folder.iterdir()) == sorted(f"{stem}.wav" for stem in STEMS)
    separator = configured_separator(settings.separate, torch.device("cpu"))
    assert separator is not None
    mix = torch.from_numpy(soundfile.read(music / "song 0.flac", dtype="float32")[0].T.copy())
    expected = separator.separate([mix])[0].numpy()
    found = np.stack([soundfile.read(written[0].folder / f"{stem}.wav", dtype="float32")[0].T for stem in STEMS])
    # block by block: float32 sums of a network in other batches, -114 dBFS where its output is below 0.1
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)
    rest = mix.numpy() - expected.sum(0)
    told = 10 * math.log10(np.square(rest).sum() / np.square(mix.numpy()).sum())
    assert written[0].residual_db == pytest.approx(
        told, abs=1e-3
    )  # dB; powers of 52,920 float32 samples: sqrt(52920) 2^-24 = 1.4e-5 of them, 6e-5 dB


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    settings = profile(tmp_path, music := write_songs(tmp_path / "music", 1, seconds=1.2))
    (music / "none.flac").write_bytes(b"no music")
    with pytest.raises(MixstyleError) as caught:
        write_stems(settings, [music], tmp_path / "out", AudioForm("flac"))
    assert (caught.value.code, "none.flac" in str(caught.value)) == ("no-music", True)
    assert sorted(path.name for path in (tmp_path / "out" / "song 0").iterdir()) == sorted(f"{s}.flac" for s in STEMS)
    for songs, output, code in (
        ([tmp_path / "gone.wav"], tmp_path / "out", "not-found"),
        ([music], music / "song 0.flac", "cannot-write"),
        ([tmp_path / "out" / "song 0"], tmp_path / "out", "bad-option"),
    ):
        with pytest.raises(MixstyleError) as caught:
            write_stems(settings, songs, output, AudioForm())
        assert caught.value.code == code


def test_a_look_tells_mono_and_clipping(tmp_path: Path) -> None:
    stereo = song(1, 1.0)
    mono = np.repeat(stereo[:, :1], 2, axis=1)
    clipped = np.clip(8 * mono, -0.9, 0.9)
    looks = [WholeSong(torch.from_numpy(audio.T.copy())).look for audio in (stereo, mono, clipped)]
    assert [look.mono for look in looks] == [False, True, True]
    assert [look.clipped > 100 for look in looks] == [False, False, True]
    assert [look.frames for look in looks] == [RATE] * 3
    # of 44,100 samples: sqrt(44100) 2^-24 is 1.3e-5, half of which is left after the root
    assert looks[0].level.deviation == pytest.approx(stereo.mean(1).std(), rel=1e-5)
