"""Which files of a folder of music are songs, and which are parts of one."""

from pathlib import Path

import pytest

from mixstyle.cache.music.listing import list_tracks
from mixstyle.cache.music.stems_among_music import is_stem_folder, songs_and_stems

FOUR = ("bass", "drums", "other", "vocals")


@pytest.mark.parametrize(
    ("files", "songs", "mixed", "unmixed"),
    [
        ([*(f"a/{stem}.wav" for stem in FOUR), "a/mixture.wav"], ["a/mixture.wav"], ["a"], []),  # MUSDB18-HQ
        ([f"x/a/{stem}.mp3" for stem in FOUR], [], [], ["x/a"]),  # Demucs
        (["a/vocals.wav", "a/no_vocals.wav"], [], [], ["a"]),  # its --two-stems
        (["a/vocals.flac", "a/instrumental.flac"], [], [], ["a"]),  # MSST
        ([*(f"{stem}.wav" for stem in FOUR), "song.flac"], ["song.flac"], ["."], []),  # the folder itself
        (["A/Vocals.WAV", "A/Drums.wav"], [], [], ["A"]),
        (["a/Other.mp3", "a/b.mp3"], ["a/Other.mp3", "a/b.mp3"], [], []),  # a song of that name
        (["a/Piano.mp3", "a/Guitar.mp3"], ["a/Guitar.mp3", "a/Piano.mp3"], [], []),  # none of the four
        (["a/bass.wav", "b/drums.wav"], ["a/bass.wav", "b/drums.wav"], [], []),
        (["a/vocals.wav", "a/mixture.wav"], ["a/mixture.wav"], ["a"], []),  # one stem, beside its mixture
        (["a/mixture.wav", "a/b.wav"], ["a/b.wav", "a/mixture.wav"], [], []),
        (["a/bass.wav", "a/bass.mp3"], ["a/bass.mp3", "a/bass.wav"], [], []),  # one name
        (["a/bass.wav", "a/drums.wav", "a/more/c.wav"], ["a/more/c.wav"], [], ["a"]),  # a song below is none beside
    ],
)
def test_stems_are_told_from_songs(files: list[str], songs: list[str], mixed: list[str], unmixed: list[str]) -> None:
    found = songs_and_stems(files)
    assert (list(found.songs), list(found.mixed), list(found.unmixed)) == (songs, mixed, unmixed)


@pytest.mark.parametrize(
    ("files", "is_one"),
    [
        ([f"{stem}.wav" for stem in FOUR], True),
        (["mixture.wav", *(f"{stem}.wav" for stem in FOUR)], True),
        ([*(f"{stem}.mp3" for stem in FOUR), "guitar.mp3", "piano.mp3"], True),
        (["Vocals.flac", "Instrumental.flac"], True),
        (["vocals.wav", "no_vocals.wav"], True),
        (["bass.wav", "mixture.wav"], True),
        (["other.mp3"], False),  # a song of that name, alone or on an album
        (["bass.wav"], False),
        (["other.mp3", "b.mp3", "c.mp3"], False),
        (["vocals.wav", "vocals.mp3"], False),
        (["bass.m4a", "drums.m4a"], False),  # no stems are read in that format
        (["guitar.wav", "piano.wav"], False),
        ([], False),
    ],
)
def test_a_folder_of_stems_is_told_from_an_album(tmp_path: Path, files: list[str], is_one: bool) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    assert is_stem_folder(tmp_path) == is_one
    assert not is_stem_folder(tmp_path / "none")
    assert not any(is_stem_folder(tmp_path / name) for name in files)


def test_only_since_the_third_rule_the_stems_in_a_folder_are_no_tracks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in (*FOUR, "mixture"):
        (tmp_path / "a" / f"{name}.wav").write_bytes(b"")
    tracks = [set(list_tracks(tmp_path, "mixtures", version).sizes) for version in (1, 2, 3)]
    assert [len(found) for found in tracks] == [5, 5, 1]
    assert tracks[2] == {"a/mixture.wav"}
