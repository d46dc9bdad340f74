"""Files that break off or hold less than their headers say: commands tell it and write the length that is there."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import soundfile
from helpers.odd_audio import with_last_granule
from helpers.small_encoder import embedding_profile
from helpers.small_separator import RATE, song

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.songs.describe.stage import describe_songs
from mixstyle.stages.songs.embed.stage import embed
from mixstyle.stages.songs.index.stage import index

pytestmark = pytest.mark.usefixtures("one_thread")

SECONDS = 4.0


@pytest.mark.slow
def test_every_command_tells_what_a_file_lacks_and_writes_the_length_of_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    names = ["broken off.ogg", "broken off.wav", "nearly whole.ogg", "good.ogg"]
    for place, name in enumerate(names):
        soundfile.write(music / name, song(place, SECONDS), RATE)
        data = (music / name).read_bytes()
        if name.startswith("broken"):
            (music / name).write_bytes(data[: len(data) * 8 // 10])
        elif name.startswith("nearly"):
            (music / name).write_bytes(with_last_granule(data, 20_000))
    there_s = {name: len(soundfile.read(music / name)[0]) / RATE for name in names}
    assert [name for name in names if there_s[name] < SECONDS - 0.5] == names[:2]
    settings = embedding_profile(tmp_path, music)

    def told() -> list[str]:
        lines = capsys.readouterr().err.replace("\n", " ")
        return [name for name in names if f"{name}: cut short: " in lines]

    paths = [music / name for name in names]
    assert {row.path: row.duration_s for row in index(settings, music).usable} == there_s
    assert told() == names[:3]
    embed(settings, paths, tmp_path / "songs.parquet")
    assert told() == names[:3]
    assert pq.read_table(tmp_path / "songs.parquet")["duration_s"].to_pylist() == list(there_s.values())
    describe_songs(settings, paths, None, json_path=tmp_path / "songs.json")
    assert told() == names[:3]
    described = json.loads((tmp_path / "songs.json").read_text())["songs"]
    assert [one["duration_s"] for one in described] == [round(s, 3) for s in there_s.values()]
    assert separate(settings).tracks_noted == 3
    cache = StemCache(settings.separate.stems_dir)
    stored = {track.path: cache.read_metadata(track) for track in cache.tracks}
    assert {name: one["duration_s"] for name, one in stored.items()} == {n: round(s, 6) for n, s in there_s.items()}
    assert {name: one["source_frames"] for name, one in stored.items()} == {
        n: round(s * RATE) for n, s in there_s.items()
    }
    assert [name for name in names if "note" in stored[name]] == names[:3]
