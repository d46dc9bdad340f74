"""One song where one is needed: what is none is told before the networks are loaded."""

from pathlib import Path

import pytest
import soundfile
from helpers.small_separator import RATE, song

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.profile import Settings, load_settings
from mixstyle.stages.songs.compare.stage import compare
from mixstyle.stages.songs.match.stage import MatchOutputs, match
from mixstyle.stages.songs.search.stage import search
from mixstyle.stages.songs.song_arguments import check_song


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """A folder with a song and with a folder of a song's stems."""
    (tmp_path / "music" / "stems").mkdir(parents=True)
    soundfile.write(tmp_path / "music" / "a.wav", song(0, 0.1), RATE)
    soundfile.write(tmp_path / "music" / "stems" / "bass.wav", song(1, 0.1), RATE)
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
