"""An index kept behind s3://, on a real server on loopback: filled, searched, damaged and filled again."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from helpers.s3_server import BUCKET, objects, serving
from helpers.small_encoder import SONG_S, embedding_profile
from helpers.small_separator import write_songs

import mixstyle
from mixstyle.cache.song_index.place import index_place, is_of_index
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.cache.storage.remote_tree import RemoteTree
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.index.stage import index
from mixstyle.stages.songs.index.status import index_status
from mixstyle.stages.songs.search.stage import search
from mixstyle.stages.songs.search.text import matches_as_json
from mixstyle.stages.verify import verify

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
SONGS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture
def local(tmp_path: Path) -> Settings:
    return embedding_profile(tmp_path, write_songs(tmp_path / "music", SONGS, seconds=SONG_S))


def on_machine(local: Settings, folder: Path, url: str) -> Settings:
    """A machine that has the music, and nothing else."""
    return dataclasses.replace(
        local,
        embed=dataclasses.replace(local.embed, index_dir=Path(url)),
        train=dataclasses.replace(local.train, stems_cache_dir=folder),
    )


def test_it_is_filled_and_searched_from_any_machine(server: str, local: Settings, tmp_path: Path) -> None:
    music, url = tmp_path / "music", f"s3://{BUCKET}/index"
    one, two = (on_machine(local, tmp_path / name, url) for name in ("one", "two"))
    assert index_status(one).state == "not started"
    with pytest.raises(MixstyleError) as caught:
        search(two, music / "song 0.flac", 2)
    assert (caught.value.code, url in str(caught.value), url in caught.value.remedy) == ("step-missing", True, True)

    index(local, music)
    here = matches_as_json(*_found(local, music / "song 0.flac"))
    index(one, music)
    there = local.embed.index_dir
    found = objects("index")
    assert found.pop("settings.json") == (there / "settings.json").read_bytes()
    assert found == {path.name: path.read_bytes() for path in there.glob("songs-*.parquet")}
    assert matches_as_json(*_found(two, music / "song 0.flac")) == here
    assert index_status(two).state == "done"
    assert not verify(two).damages

    (music / "song 3.flac").write_bytes((music / "song 1.flac").read_bytes())
    (music / "song 0.flac").unlink()
    (music / "broken.wav").write_bytes(b"RIFF no music")
    assert index_status(one).state == "partly done"
    index(two, music)
    assert sorted(objects("index")) == ["failures.csv", "settings.json", "songs-00000002.parquet"]
    with embedder_of(local) as embedder:
        api = mixstyle.Index(url, embedder)
    assert [song.path for song in api.songs] == ["song 1.flac", "song 2.flac", "song 3.flac"]
    np.testing.assert_array_equal(api.embeddings[0], api.embeddings[2])
    assert index_status(one).state == "done"

    changed = dataclasses.replace(one, separate=dataclasses.replace(one.separate, seed=7))
    with pytest.raises(MixstyleError) as caught:
        index(changed, music)
    assert (caught.value.code, url in str(caught.value)) == ("stale", True)
    index(changed, music, rebuild=True)
    assert sorted(objects("index")) == ["failures.csv", "settings.json", "songs-00000000.parquet"]


def _found(settings: Settings, song: Path) -> tuple:
    from mixstyle.stages.songs.index.indexed import known_song
    from mixstyle.stages.songs.index.readable_index import readable_index

    found = search(settings, song, 2)
    with readable_index(settings) as here:
        known = known_song(here, song)
    assert known is not None
    return known[0], found, SONGS, ""


def test_a_damaged_part_is_named_and_embedded_again(server: str, local: Settings, tmp_path: Path) -> None:
    music, url = tmp_path / "music", f"s3://{BUCKET}/damaged"
    here = on_machine(local, tmp_path / "kept", url)
    index(here, music)
    whole = objects("damaged")
    (part,) = (name for name in whole if name.startswith("songs-"))
    flipped = bytearray(whole[part])
    flipped[len(flipped) // 2] ^= 1
    fsspec.filesystem("s3", skip_instance_cache=True).pipe_file(f"{BUCKET}/damaged/{part}", bytes(flipped))
    (damage,) = verify(here).damages
    assert str(damage.path).endswith(f"damaged/{part}")
    assert verify(here, repair=True).damages[0].repaired
    assert part not in objects("damaged")
    index(here, music)
    assert objects("damaged") == whole
    for path in (tmp_path / "kept").rglob(part):  # the copy of this machine: fetched again
        path.write_bytes(b"nothing")
    assert not verify(here).damages


def test_a_part_that_another_machine_merges_between_look_and_copy_is_looked_for_again(
    server: str, tmp_path: Path
) -> None:
    """Once it is gone and another is there; where that goes on, the reader is told to wait."""
    url = f"s3://{BUCKET}/merged"
    store = RemoteStore(url)
    merges = 0

    def put(number: int) -> None:
        store.replace(f"songs-{number:08d}.parquet", f"part {number}".encode())

    def merging(name: str) -> bool:
        nonlocal merges
        if merges and name == "settings.json":  # each look, after its list is there
            merges -= 1
            there = [part for part in store.listed() if part.startswith("songs-")]
            put(1 + max(int(part[6:14]) for part in there))
            store.remove(there)
        return is_of_index(name)

    store.replace("settings.json", b"{}")
    put(0)
    tree = RemoteTree(url, tmp_path / "copy", merging, "settings.json")
    merges = 2
    tree.refresh()
    assert {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()} == {
        "settings.json": b"{}",
        "songs-00000002.parquet": b"part 2",
    }
    merges = 1000
    with pytest.raises(MixstyleError) as caught:
        RemoteTree(url, tmp_path / "another copy", merging, "settings.json").refresh()
    assert (caught.value.code, url in str(caught.value)) == ("in-use", True)


def test_the_loser_of_a_race_for_an_index_is_told_the_command_to_run(
    server: str, local: Settings, tmp_path: Path
) -> None:
    settings = on_machine(local, tmp_path / "one", f"s3://{BUCKET}/raced")
    with locked(index_place(settings.embed.index_dir, tmp_path / "one").folder, "mixstyle index"):
        for raced, where in ((settings, f"s3://{BUCKET}/raced"), (local, str(local.embed.index_dir))):
            with locked(local.embed.index_dir, "mixstyle index"), pytest.raises(MixstyleError) as caught:
                index(raced, tmp_path / "music")
            assert caught.value.code == "in-use"
            assert caught.value.remedy == ("index", str(tmp_path / "music"), "--index", where)
            assert "\n" not in caught.value.message
    assert len(index(settings, tmp_path / "music").usable) == SONGS


def test_names_of_an_index() -> None:
    assert all(map(is_of_index, ("settings.json", "songs-00000012.parquet", "failures.csv", "machines.json")))
    assert not any(map(is_of_index, ("nearest.faiss", ".lock", "songs-1.parquet", "a/settings.json", "")))
