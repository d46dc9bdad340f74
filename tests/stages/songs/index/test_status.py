"""What `mixstyle status` tells of an index of songs."""

import dataclasses
import shlex
import shutil
from pathlib import Path

import pytest
import soundfile
from helpers.numbers import numbers
from helpers.odd_audio import write_ffmpeg
from helpers.small_encoder import SONG_S, embedding_profile, write_encoder
from helpers.small_separator import RATE, song, write_songs

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.provenance import INPUTS
from mixstyle.stages.songs.index.stage import index
from mixstyle.stages.songs.index.status import index_status

SONGS = 3


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("my index")
    settings = embedding_profile(folder, write_songs(folder / "music", SONGS, seconds=SONG_S))
    (folder / "music" / "broken.wav").write_bytes(b"RIFF no music")
    index(settings, folder / "music")
    return settings


def command(settings: Settings, *words: str) -> str:
    return shlex.join(["mixstyle", "index", str(settings.separate.data_path), *words])


def test_a_whole_index_is_done_and_tells_what_it_left_out(indexed: Settings) -> None:
    before = {path: path.stat().st_mtime_ns for path in indexed.embed.index_dir.iterdir()}
    found = index_status(indexed)
    assert (found.state, found.run, found.optional) == ("done", "", True)
    assert numbers(found.done)[0] == SONGS
    assert str(indexed.separate.data_path) in found.done
    (left_out,) = found.problems
    assert numbers(left_out)[0] == 1
    assert {path: path.stat().st_mtime_ns for path in indexed.embed.index_dir.iterdir()} == before


def test_no_index_is_not_started(indexed: Settings, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(indexed, embed=dataclasses.replace(indexed.embed, index_dir=tmp_path))
    assert index_status(elsewhere).state == "not started"
    assert index_status(elsewhere).run == command(indexed)


def test_music_that_is_not_there_is_not_named(indexed: Settings, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(
        indexed,
        separate=dataclasses.replace(indexed.separate, data_path=tmp_path / "none"),
        embed=dataclasses.replace(indexed.embed, index_dir=tmp_path),
    )
    assert index_status(elsewhere).run == "mixstyle index FOLDER"


def test_a_file_is_no_folder_to_index(indexed: Settings) -> None:
    with pytest.raises(MixstyleError) as caught:
        index(indexed, indexed.separate.data_path / "song 0.flac")
    assert caught.value.code == "bad-option"


def test_songs_that_came_changed_and_went_are_counted(indexed: Settings) -> None:
    music = indexed.separate.data_path
    shutil.copytree(music, music.with_name("kept"), copy_function=shutil.copy2)
    try:
        soundfile.write(music / "new.flac", song(77), RATE)
        soundfile.write(music / "song 1.flac", song(78, seconds=4.0), RATE)
        (music / "song 0.flac").unlink()
        found = index_status(indexed)
    finally:
        shutil.rmtree(music)
        music.with_name("kept").rename(music)
    assert (found.state, found.run) == ("partly done", command(indexed))
    assert all(f"1 {what}" in found.problems[-1] for what in ("new", "changed", "gone"))


def test_other_settings_and_another_encoder_are_named(indexed: Settings, tmp_path: Path) -> None:
    options = dataclasses.replace(indexed.separate, clips_per_track=2)
    found = index_status(dataclasses.replace(indexed, separate=options))
    assert (found.state, found.run) == ("stale", command(indexed, "--rebuild"))
    assert "separate.clips_per_track: 3 -> 2" in found.problems[-1]
    encoder = write_encoder(tmp_path / "other.safetensors", seed=1)
    found = index_status(dataclasses.replace(indexed, embed=dataclasses.replace(indexed.embed, encoder=encoder)))
    assert found.state == "stale"
    assert (INPUTS["encoder"] in found.problems[-1], INPUTS["separator"] in found.problems[-1]) == (True, False)


def test_music_that_is_away_and_a_damaged_part_are_told(indexed: Settings, tmp_path: Path) -> None:
    music = indexed.separate.data_path
    music.rename(music.with_name("away"))
    try:
        found = index_status(indexed)
    finally:
        music.with_name("away").rename(music)
    assert found.state == "done"
    assert str(music) in found.problems[-1]
    shutil.copytree(indexed.embed.index_dir, tmp_path / "index")
    (part,) = (tmp_path / "index").glob("songs-*.parquet")
    part.write_bytes(b"torn")
    damaged = dataclasses.replace(indexed, embed=dataclasses.replace(indexed.embed, index_dir=tmp_path / "index"))
    found = index_status(damaged)
    assert found.state == "damaged"
    assert part.name in found.problems[0]


def test_an_index_of_no_songs_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "text.mp3").write_text("no music")
    chosen = embedding_profile(tmp_path, tmp_path / "music")
    with pytest.raises(MixstyleError) as caught:
        index(chosen, tmp_path / "music")
    assert caught.value.code == "no-music"


def test_a_song_that_ffmpeg_alone_reads_is_indexed_once_ffmpeg_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    settings = embedding_profile(tmp_path, write_songs(tmp_path / "music", SONGS, seconds=SONG_S))
    music = tmp_path / "music"
    soundfile.write(tmp_path / "decoded.au", song(9, SONG_S), RATE, subtype="FLOAT", endian="BIG")
    (music / "a.m4a").write_bytes(b"....ftypM4A " + bytes(1_000))
    (first,) = index(settings, music).failed
    assert first.path == "a.m4a"
    assert index_status(settings).state == "done"
    write_ffmpeg(programs, tmp_path / "decoded.au")
    before = index_status(settings)
    assert (before.state, before.run) == ("partly done", command(settings))
    assert numbers(before.problems[-1]) == [1]
    songs = index(settings, music)
    assert (len(songs.usable), songs.failed) == (SONGS + 1, [])
    assert index_status(settings).state == "done"
