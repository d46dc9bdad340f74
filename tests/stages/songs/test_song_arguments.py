"""One song where one is needed: what is none is told before the networks are loaded."""

import shlex
from pathlib import Path

import pytest
import soundfile
from helpers.small_separator import RATE, song

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.settings.profile import Settings, load_settings
from mixstyle.stages.songs.compare.stage import compare
from mixstyle.stages.songs.match.stage import MatchOutputs, match
from mixstyle.stages.songs.search.stage import search
from mixstyle.stages.songs.song_arguments import check_song, given_songs, music_of, stem_folders_passed_over


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """A folder with a song and with a folder of a song's stems."""
    (tmp_path / "music" / "stems").mkdir(parents=True)
    soundfile.write(tmp_path / "music" / "a.wav", song(0, 0.1), RATE)
    for number, name in enumerate(("bass", "drums")):
        soundfile.write(tmp_path / "music" / "stems" / f"{name}.wav", song(1 + number, 0.1), RATE)
    return tmp_path / "music"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a separator that is not there: to load it would be another error."""
    none = [f"separate.separator_checkpoint={tmp_path / 'none.ckpt'}", f"embed.index_dir={tmp_path / 'index'}"]
    return load_settings("cpu", none)


def test_a_folder_of_music_is_no_song(music: Path, settings: Settings, tmp_path: Path) -> None:
    one = music / "a.wav"
    for path in (one, music / "stems"):
        check_song(path)
    for path, code in ((music, "bad-option"), (music / "none.wav", "not-found")):
        for given in (
            lambda path=path: search(settings, path),
            lambda path=path: compare(settings, one, path),
            lambda path=path: match(settings, path, [one], MatchOutputs(tmp_path / "out.wav")),
            lambda path=path: match(settings, one, [path], MatchOutputs(tmp_path / "out.wav")),
        ):
            with pytest.raises(MixstyleError) as caught:
                given()
            assert (caught.value.code, caught.value.message.startswith(f"{path}: ")) == (code, True)


def test_an_index_that_is_not_there_is_told_before_the_networks_are_loaded(music: Path, settings: Settings) -> None:
    with pytest.raises(MixstyleError) as caught:
        search(settings, music / "a.wav")
    assert (caught.value.code, caught.value.remedy[:1]) == ("step-missing", ("index",))


def as_musdb(folder: Path, mixture: bool) -> Path:
    """A folder of a song's four stems, with its mixture or without."""
    folder.mkdir(parents=True)
    for number, name in enumerate((*STEMS, *(["mixture"] if mixture else []))):
        soundfile.write(folder / f"{name}.wav", song(number, 0.1), RATE)
    return folder


def test_of_folders_of_stems_the_mixture_is_the_song_and_else_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed, unmixed = as_musdb(tmp_path / "m" / "a", True), as_musdb(tmp_path / "m" / "c", False)
    soundfile.write(tmp_path / "m" / "b.wav", song(7, 0.1), RATE)
    assert given_songs([tmp_path / "m"]) == [mixed / "mixture.wav", tmp_path / "m" / "b.wav", unmixed]
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "2 folders of stems" in told
    assert given_songs([mixed]) == [mixed]  # which somebody named: its stems
    assert capsys.readouterr().err == ""


def test_an_index_takes_the_mixes_of_folders_of_stems_alone(tmp_path: Path) -> None:
    music = tmp_path / "my music"
    as_musdb(music / "a", True)
    unmixed = as_musdb(music / "c", False)
    assert music_of(music).songs == ("a/mixture.wav",)
    command = shlex.join(["mixstyle", "embed", str(unmixed), "-o", "embeddings.parquet"])
    assert f"`{command}`" in stem_folders_passed_over(music, music_of(music))


@pytest.mark.parametrize("below", ["", "c"])
def test_an_index_of_nothing_but_stems_is_refused_with_the_command_that_takes_them(tmp_path: Path, below: str) -> None:
    as_musdb(tmp_path / "m" / below, False)
    with pytest.raises(MixstyleError) as caught:
        music_of(tmp_path / "m")
    assert caught.value.code == "no-music"
    assert caught.value.remedy == ("embed", str(tmp_path / "m"), "-o", "embeddings.parquet")
    assert given_songs([tmp_path / "m"]) == [tmp_path / "m" / below]


@pytest.mark.parametrize("name", ["other.mp3", "bass.wav"])
def test_an_album_of_one_song_that_is_called_as_a_stem_is(tmp_path: Path, name: str) -> None:
    song_file = tmp_path / "album" / name
    song_file.parent.mkdir()
    song_file.write_bytes(b"")
    assert given_songs([tmp_path / "album"]) == list(map(tmp_path.joinpath, music_of(tmp_path).songs)) == [song_file]
    with pytest.raises(MixstyleError) as caught:
        check_song(tmp_path / "album")
    assert caught.value.code == "bad-option"


def test_folders_without_stems_are_not_spoken_of(music: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (music / "stems" / "drums.wav").unlink()  # what is left may be a song of that name
    assert given_songs([music]) == [music / "a.wav", music / "stems" / "bass.wav"]
    assert stem_folders_passed_over(music, music_of(music)) == capsys.readouterr().err == ""
