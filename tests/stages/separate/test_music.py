"""Which of the music is separated where some of it are stems, and what is said of it."""

import json
from pathlib import Path

import pytest
import soundfile
from helpers.small_separator import RATE, hashes, profile, song

from mixstyle.cache.music.formats import LISTING_VERSION
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.cli_options import made_by
from mixstyle.stages.separate import rule_versions, stage
from mixstyle.stages.separate.music import listed_music, tell_of_stems
from mixstyle.stages.separate.stage import dry_run, separate
from mixstyle.stages.separate.status import separate_status
from mixstyle.stages.settings.profile import Settings, load_settings

MUSDB = ("mixture", *STEMS)


def music_of(root: Path, **folders: tuple[str, ...]) -> Path:
    """A music folder with these folders of files."""
    for number, (folder, names) in enumerate(folders.items()):
        (root / folder).mkdir(parents=True)
        for part, name in enumerate(names):
            soundfile.write(root / folder / f"{name}.wav", song(10 * number + part, 1.5), RATE)
    return root


def listed(settings: Settings, version: int = LISTING_VERSION) -> list[str]:
    return sorted(listed_music(settings, version).sizes)


@pytest.mark.parametrize(
    ("kind", "names", "tracks", "lines"),
    [
        ("mixtures", MUSDB, ["a/mixture.wav"], 1),
        ("stems", STEMS, ["a"], 0),
        ("mixtures", ("other", "song"), ["a/other.wav", "a/song.wav"], 0),
    ],
)
def test_the_mixture_is_separated_and_no_stem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, names: tuple[str, ...], tracks: list[str], lines: int
) -> None:
    settings = profile(tmp_path, music_of(tmp_path / "music", a=names), input=kind)
    assert listed(settings) == tracks
    tell_of_stems(listed_music(settings, LISTING_VERSION), settings)
    told = capsys.readouterr().err
    assert told.count("\n") == lines
    assert ("1 folder of stems; 1 with a mixture" in told) == bool(lines)


def test_stems_that_a_list_names_are_separated_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music_of(tmp_path / "music", a=MUSDB)
    (tmp_path / "list.txt").write_text("music/a/mixture.wav\nmusic/a/vocals.wav\nmusic/a/bass.wav\n")
    settings = profile(tmp_path, tmp_path / "list.txt")
    listing = listed_music(settings, LISTING_VERSION)
    assert set(listing.sizes) == {f"music/a/{name}.wav" for name in ("mixture", "vocals", "bass")}
    tell_of_stems(listing, settings)
    assert "--rebuild" not in capsys.readouterr().err


def test_nothing_but_stems_is_refused_with_the_command_that_takes_them(tmp_path: Path) -> None:
    settings = profile(tmp_path, music_of(tmp_path / "music", a=STEMS, b=STEMS))
    before = sorted(tmp_path.rglob("*"))
    for refused in (separate, dry_run):
        with pytest.raises(MixstyleError) as caught:
            refused(settings)
        assert caught.value.code == "no-music"
        assert caught.value.remedy == ("separate", "--set", "separate.input=stems")
    assert sorted(tmp_path.rglob("*")) == before
    assert listed(load_settings(tmp_path / "profile.yaml", ["separate.input=stems"])) == ["a", "b"]


@pytest.mark.usefixtures("one_thread")
def test_a_folder_that_was_begun_with_stems_as_tracks_is_finished_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = profile(tmp_path, music_of(tmp_path / "music", a=MUSDB, b=("song",)))
    with monkeypatch.context() as before:  # as it was before stems were no tracks
        for module in (stage, rule_versions):
            before.setattr(module, "LISTING_VERSION", 2)
        assert separate(settings).tracks_planned == 6
    assert capsys.readouterr().err.count("warning: ") == 1
    stems = settings.separate.stems_dir
    made = hashes(stems)
    sorted(stems.glob("*.tar"))[1].unlink()
    again = made_by(lambda rebuild: separate(settings, rebuild), "separate", rebuild=False, rebuild_stale=True)
    assert (again.tracks_planned, again.shards_made, again.shards) == (6, 1, 3)
    assert hashes(stems) == made
    told = capsys.readouterr().err
    assert told.count("warning: ") == 1
    assert "mixstyle separate --rebuild" in told
    assert separate_status(settings)[1].state == "done"
    # music that changed is refused as ever, and made again it is without the stems
    soundfile.write(tmp_path / "music" / "b" / "more.wav", song(99), RATE)
    with pytest.raises(MixstyleError) as caught:
        separate(settings)
    assert (caught.value.code, caught.value.remedy) == ("stale", ("separate", "--rebuild"))
    capsys.readouterr()
    separate(settings, rebuild=True)
    assert {track.path for track in StemCache(stems).tracks} == {"a/mixture.wav", "b/more.wav", "b/song.wav"}
    assert capsys.readouterr().err.count("1 folder of stems") == 1
    assert json.loads((stems / "settings.json").read_text())["versions"]["listing_version"] == 3
    assert separate_status(settings)[1].state == "done"


@pytest.mark.usefixtures("one_thread")
def test_stems_that_come_later_change_nothing(tmp_path: Path) -> None:
    settings = profile(tmp_path, music_of(tmp_path / "music", b=("song",)))
    separate(settings)
    music_of(tmp_path / "music", c=STEMS)
    again = separate(settings)
    assert (again.tracks_planned, again.shards_made) == (1, 0)
