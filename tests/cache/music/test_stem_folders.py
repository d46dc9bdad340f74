"""Stems that exist already: folders as MUSDB18-HQ, MSST and Demucs write them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mixstyle.cache.music.listing import list_tracks
from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.cache.music.stem_folders import MixBlocks, hash_stems, probe_stems, read_stem_windows, stem_files
from mixstyle.cache.stem_store.manifest import SplitSettings, make_manifest
from mixstyle.pipeline.core.stems import STEMS

RATE = 44_100


def song(folder: Path, suffix: str = "wav", seed: int = 0, seconds: float = 1.0, **frames: int) -> Path:
    """A folder of four stems; `frames` overrides a stem's length."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, stem in enumerate(STEMS):
        rng = np.random.default_rng(10 * seed + i)
        audio = 0.1 * rng.standard_normal((frames.get(stem, round(seconds * RATE)), 2))
        soundfile.write(folder / f"{stem}.{suffix}", audio, RATE)
    return folder


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_windows_hold_the_stems_in_their_order(tmp_path: Path, suffix: str) -> None:
    song(tmp_path / "a song", suffix)
    soundfile.write(tmp_path / "a song" / "mixture.wav", np.ones((5, 2)), RATE)  # passed over, whatever it holds
    files = stem_files(tmp_path, "a song")
    assert tuple(files) == STEMS
    info = probe_stems(files)
    assert (info.rate, info.frames) == (RATE, RATE)
    (window,) = read_stem_windows(files, [(1_000, 30_000)])
    for i, stem in enumerate(STEMS):
        audio, _ = soundfile.read(tmp_path / "a song" / f"{stem}.{suffix}", dtype="float32")
        np.testing.assert_array_equal(window[i], audio[1_000:30_000].T)


def test_folders_are_found_in_any_tree(tmp_path: Path) -> None:
    song(tmp_path / "train" / "Band A - Song 1")
    song(tmp_path / "train" / "Band A - Song 2", "flac", seed=1)
    song(tmp_path / "test" / "Band B - Song 3", "mp3", seed=2)
    incomplete = song(tmp_path / "test" / "demo", seed=3)
    (incomplete / "drums.wav").rename(incomplete / "Drums.WAV")
    (incomplete / "bass.wav").unlink()
    (tmp_path / "test" / "empty").mkdir()
    listing = list_tracks(tmp_path, "stems")
    assert sorted(listing.sizes) == [
        "test/Band B - Song 3", "test/demo", "train/Band A - Song 1", "train/Band A - Song 2",
    ]  # fmt: skip
    manifest = make_manifest(listing, "stems", SplitSettings(0, 0.3, 0.3))
    assert manifest.grouped_by == "artist, by the song folders' names"
    groups = {track.path: track.group for track in manifest.tracks}
    assert groups["train/Band A - Song 1"] == groups["train/Band A - Song 2"] == "artist Band A"
    with pytest.raises(UnreadableMusic) as caught:
        stem_files(tmp_path, "test/demo")
    assert (caught.value.kind, "bass" in str(caught.value)) == ("missing stem", True)


def test_mixtures_beside_their_stems_are_grouped_by_the_artist_that_folders_name(tmp_path: Path) -> None:
    for number, name in enumerate(("train/Band A - Song 1", "test/Band A - Song 2", "train/Band B - Song 3")):
        folder = song(tmp_path / name, seed=number)
        mixture = np.sum([soundfile.read(folder / f"{stem}.wav")[0] for stem in STEMS], axis=0)
        soundfile.write(folder / "mixture.wav", mixture, RATE)

    def groups() -> tuple[str, dict[str, str]]:
        manifest = make_manifest(list_tracks(tmp_path, "mixtures"), "mixtures", SplitSettings(0, 0.3, 0.3))
        return manifest.grouped_by, {track.path: track.group for track in manifest.tracks}

    grouped_by, found = groups()
    assert grouped_by == "artist, by the song folders' names"
    assert found == {
        "train/Band A - Song 1/mixture.wav": "artist Band A",
        "test/Band A - Song 2/mixture.wav": "artist Band A",
        "train/Band B - Song 3/mixture.wav": "artist Band B",
    }
    soundfile.write(tmp_path / "train" / "song.wav", np.zeros((RATE, 2)), RATE)  # not all songs have such folders
    assert groups()[0] == "track"


def test_songs_of_the_same_four_stems_are_the_same(tmp_path: Path) -> None:
    one, two, other = song(tmp_path / "a"), song(tmp_path / "b"), song(tmp_path / "c", seed=1)
    (other / "vocals.wav").write_bytes((one / "vocals.wav").read_bytes())  # no voice in either, say
    hashes = [hash_stems(stem_files(tmp_path, name.name)) for name in (one, two, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    manifest = make_manifest(list_tracks(tmp_path, "stems"), "stems", SplitSettings(0, 0.3, 0.3))
    groups = {track.path: track.group for track in manifest.tracks}
    assert groups["a"] == groups["b"] != groups["c"]


def test_what_does_not_fit_together_is_told(tmp_path: Path) -> None:
    song(tmp_path / "six")
    soundfile.write(tmp_path / "six" / "piano.wav", np.zeros((RATE, 2)), RATE)
    with pytest.raises(UnreadableMusic) as caught:
        stem_files(tmp_path, "six")
    assert (caught.value.kind, "piano" in str(caught.value)) == ("extra stem", True)
    song(tmp_path / "uneven", drums=RATE - RATE // 5)
    with pytest.raises(UnreadableMusic) as caught:
        probe_stems(stem_files(tmp_path, "uneven"))
    assert (caught.value.kind, "drums" in str(caught.value)) == ("unequal stems", True)
    (song(tmp_path / "broken") / "other.wav").write_bytes(b"no music")
    with pytest.raises(UnreadableMusic) as caught:
        probe_stems(stem_files(tmp_path, "broken"))
    assert (caught.value.kind, "other" in str(caught.value)) == ("not music", True)
    with pytest.raises(UnreadableMusic) as caught:
        stem_files(tmp_path, "nowhere")
    assert (caught.value.kind, all(stem in str(caught.value) for stem in STEMS)) == ("missing stem", True)


def test_stems_a_few_samples_apart_are_as_long_as_the_shortest(tmp_path: Path) -> None:
    """As resamplers and codecs leave them: one sample, and two frames of MP3."""
    song(tmp_path / "a", seconds=2.0, bass=2 * RATE - 1, other=2 * RATE + 2304)
    files = stem_files(tmp_path, "a")
    assert probe_stems(files).frames == 2 * RATE - 1
    stems = [soundfile.read(file, dtype="float32")[0].T[:, : 2 * RATE - 1] for file in files.values()]
    (window,) = read_stem_windows(files, [(100, 2 * RATE - 1)])
    np.testing.assert_array_equal(window, np.stack(stems)[..., 100:])
    mix = np.concatenate(list(MixBlocks(files)), axis=1)
    np.testing.assert_allclose(mix, np.sum(stems, axis=0), atol=1e-6)  # four float32 numbers below 1


def test_the_better_of_two_files_of_a_stem_is_taken(tmp_path: Path) -> None:
    song(tmp_path / "a", "mp3", seed=1)
    song(tmp_path / "a", "flac", seed=2)
    assert {file.suffix for file in stem_files(tmp_path, "a").values()} == {".flac"}
    (tmp_path / "a" / "bass.flac").unlink()
    assert [file.suffix for file in stem_files(tmp_path, "a").values()] == [".flac", ".mp3", ".flac", ".flac"]
