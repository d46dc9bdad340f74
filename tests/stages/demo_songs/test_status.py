"""What `mixstyle status` tells of rendered songs."""

import json
from pathlib import Path

import pytest
from helpers.mixed_cache import settings_of
from helpers.numbers import numbers

from mixstyle.stages.demo_songs.listing import stored_settings
from mixstyle.stages.demo_songs.stage import demo_songs
from mixstyle.stages.demo_songs.status import demo_songs_status
from mixstyle.stages.settings.profile import Settings

SONGS, DURATION_S = 2, 8.0


def asking(folder: Path, **changes: object) -> Settings:
    """A profile that separates what it renders."""
    options = {"songs": SONGS, "duration_s": DURATION_S, "stems": False, **changes}
    return settings_of(folder, demo_songs=options, separate={"data_path": str(folder / "rendered" / "songs")})


def write_listing(folder: Path, songs: int) -> None:
    """What a finished run leaves, with a few bytes in place of each song."""
    entries = []
    (folder / "rendered" / "songs").mkdir(parents=True, exist_ok=True)
    for index in range(songs):
        name = f"songs/{index:04d}-funk-100bpm.flac"
        (folder / "rendered" / name).write_bytes(b"flac")
        entries.append({"index": index, "files": {name: 4}})
    listing = {"format": 1, "settings": stored_settings(0, DURATION_S, False), "songs": entries}
    (folder / "rendered" / "songs.json").write_text(json.dumps(listing))


def test_songs_that_a_profile_renders_are_done_left_or_lost(tmp_path: Path) -> None:
    found = demo_songs_status(asking(tmp_path))
    assert (found.state, found.run, found.optional) == ("not started", "mixstyle demo-songs", False)
    write_listing(tmp_path, SONGS)
    found = demo_songs_status(asking(tmp_path))
    assert (found.state, found.run) == ("done", "")
    assert numbers(found.done)[:2] == [2, 2]
    found = demo_songs_status(asking(tmp_path, songs=5))
    assert (found.state, found.run) == ("partly done", "mixstyle demo-songs")
    assert numbers(found.done)[:2] == [2, 5]
    (tmp_path / "rendered" / "songs" / "0001-funk-100bpm.flac").write_bytes(b"fl")
    assert demo_songs_status(asking(tmp_path)).state == "partly done"
    (tmp_path / "rendered" / "songs.json").write_text("{")
    found = demo_songs_status(asking(tmp_path))
    assert (found.state, found.run) == ("damaged", "mixstyle demo-songs --rebuild")
    (tmp_path / "rendered" / "songs.json").unlink()
    assert demo_songs_status(asking(tmp_path)).state == "damaged"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 3}, "demo_songs.seed: 0 -> 3"),
        ({"stems": True}, "demo_songs.stems: False -> True"),
        ({"songs": 1}, "demo_songs.songs: 2 -> 1"),
    ],
)
def test_a_changed_setting_is_named(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    write_listing(tmp_path, SONGS)
    found = demo_songs_status(asking(tmp_path, **changes))
    assert (found.state, found.run) == ("stale", "mixstyle demo-songs --rebuild")
    assert told in found.problems[0]


def test_a_profile_with_music_of_its_own_needs_none(tmp_path: Path) -> None:
    found = demo_songs_status(settings_of(tmp_path))
    assert (found.state, found.run, found.optional) == ("not needed", "", True)


def test_what_the_command_renders_is_done(tmp_path: Path) -> None:
    demo_songs(tmp_path / "rendered", 1, 0, DURATION_S, stems=False, workers=1)
    assert demo_songs_status(asking(tmp_path, songs=1)).state == "done"
