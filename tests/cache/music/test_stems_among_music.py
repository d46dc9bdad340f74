"""Which files of a folder of music are songs, and which are parts of one."""

import pytest

from mixstyle.cache.music.stems_among_music import songs_and_stems

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
        (["a/bass.wav", "a/bass.mp3"], ["a/bass.mp3", "a/bass.wav"], [], []),  # one name
        (["a/bass.wav", "a/drums.wav", "a/more/c.wav"], ["a/more/c.wav"], [], ["a"]),  # a song below is none beside
    ],
)
def test_stems_are_told_from_songs(files: list[str], songs: list[str], mixed: list[str], unmixed: list[str]) -> None:
    found = songs_and_stems(files)
    assert (list(found.songs), list(found.mixed), list(found.unmixed)) == (songs, mixed, unmixed)
