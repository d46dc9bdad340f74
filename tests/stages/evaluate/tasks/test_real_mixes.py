"""Real mixes as they are: figures of embeddings with known answers, and where groups of songs come from."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.small_cache import make_cache

from mixstyle.cache.music.listing import Listing
from mixstyle.cache.stem_store.manifest import ListedTrack, Manifest, store_manifest
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.evaluate.tasks.groups import SongGroups, song_groups
from mixstyle.stages.evaluate.tasks.real_mixes import KEY, groups_note, real_mixes_of
from mixstyle.stages.evaluate.tasks.task import Part

SONGS, CLIPS = 8, 3
OF_SONG = tuple(song for song in range(SONGS) for _ in range(CLIPS))
ALBUMS = SongGroups("folder", ("a", "a", "a", "b", "b", "c", "c", ""))


def part_of(groups: SongGroups) -> Part:
    return Part(KEY, OF_SONG, tuple, groups=groups)


def test_an_embedding_of_the_album_finds_it_and_songs_by_chance() -> None:
    by_album = np.repeat(np.eye(4, dtype=np.float32)[list(ALBUMS.numbers)], CLIPS, axis=0)
    found = real_mixes_of(by_album, part_of(ALBUMS), "x")
    group = found["group"]
    assert (group["top1"], group["precision5"], group["map"]) == (1, 1, 1)
    assert (group["queries"], group["songs"], group["sizes"]) == (7, 8, [3, 2, 2])
    # of 7 other songs 2, 2, 2, 1, 1, 1, 1 are of the query's album
    assert group["top1_chance"] == pytest.approx((3 * 2 + 4 * 1) / 7 / 7)
    assert found["song"]["top1"] == pytest.approx(3 / (SONGS * CLIPS)), "only the song that is alone is told"


def test_an_embedding_of_the_song_finds_its_clips() -> None:
    by_song = np.eye(SONGS, dtype=np.float32)[list(OF_SONG)]
    found = real_mixes_of(by_song, part_of(ALBUMS), "x")
    assert found["song"]["top1"] == found["song"]["map"] == found["song"]["precision5"] == 1
    assert found["song"]["top1_chance"] == pytest.approx(2 / 23)
    assert found["group"]["top1"] == 0, "all songs are equally far from one another, and ties count against a query"


def test_one_group_tells_nothing() -> None:
    by_song = np.eye(SONGS, dtype=np.float32)[list(OF_SONG)]
    found = real_mixes_of(by_song, part_of(SongGroups("folder", ("a",) * SONGS)), "x")
    assert found["group"] is None
    note = groups_note({KEY: {"x": found}, "rows": ["x"]})
    assert "evaluate.group_by" in note


def cache_of(folder: Path, paths: list[str], groups: list[str]) -> tuple[StemCache, list[CachedTrack]]:
    """A cache whose manifest has these groups, and tracks with these paths."""
    make_cache(folder / "stems", tracks=2, clips=1, clip_s=0.1)
    listed = [
        ListedTrack(i, f"{i:012x}", path, group, "test")
        for i, (path, group) in enumerate(zip(paths, groups, strict=True))
    ]
    listing = Listing(folder / "music", dict.fromkeys(paths, 1))
    store_manifest(folder / "stems" / "plan.jsonl.gz", Manifest(listing, tuple(listed), "track"))
    tracks = [CachedTrack(t.track_id, t.path, "test", t.index, 0, (), (0, 0)) for t in listed]
    return StemCache(folder / "stems"), tracks


def test_the_manifests_artists_come_first(tmp_path: Path) -> None:
    paths = ["x/1.ogg", "x/2.ogg", "y/3.ogg", "y/4.ogg"]
    cache, tracks = cache_of(tmp_path, paths, ["artist 7", "artist 8", "artist 7", "artist 8"])
    assert song_groups(cache, tracks).numbers == (0, 1, 0, 1)
    assert song_groups(cache, tracks, "folder").numbers == (0, 0, 1, 1)


def test_folders_come_before_tags(tmp_path: Path) -> None:
    paths = ["x/1.ogg", "x/disc 2/2.ogg", "y/3.ogg", "4.ogg", "5.ogg"]
    cache, tracks = cache_of(tmp_path, [*paths, "y/6.ogg"], [f"track {path}" for path in [*paths, "y/6.ogg"]])
    found = song_groups(cache, tracks)
    assert found.by == "folder"
    assert found.numbers == (0, 0, 1, 2, 3, 1), "songs in no folder are alone"
    assert found.sizes == [2, 2]


def test_tags_tell_where_all_lies_in_one_folder(tmp_path: Path) -> None:
    paths = [f"all/{i}.ogg" for i in range(5)]
    (tmp_path / "music" / "all").mkdir(parents=True)
    for path, tags in zip(paths, ({"artist": "A"}, {"artist": "A"}, {"album": "B"}, {"album": "B"}, {}), strict=True):
        with soundfile.SoundFile(tmp_path / "music" / path, "w", 44_100, 1, format="OGG", subtype="VORBIS") as file:
            for name, value in tags.items():
                setattr(file, name, value)
            file.write(np.zeros(4410))
    cache, tracks = cache_of(tmp_path, paths, [f"track {path}" for path in paths])
    found = song_groups(cache, tracks)
    assert found.by.endswith("tags")
    assert found.numbers == (0, 0, 1, 1, 2)
    (tmp_path / "music" / "all" / "0.ogg").unlink()
    assert song_groups(cache, tracks).by == "", "less than half of the songs have others in their group"
    with pytest.raises(MixstyleError) as caught:
        song_groups(cache, tracks, "manifest")
    assert caught.value.code == "bad-setting"
    assert "evaluate.group_by=manifest" in str(caught.value)
