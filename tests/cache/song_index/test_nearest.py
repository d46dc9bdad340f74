"""The search structure of an index: exact for few songs, approximate for many, with a recall that holds."""

from pathlib import Path

import numpy as np
import pytest

from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.cache.song_index.nearest import (
    APPROXIMATE_VERSION,
    NEAREST,
    STATE,
    VERSION,
    WANTED_RECALL,
    Nearest,
    is_whole,
    load_nearest,
)
from mixstyle.cache.storage.atomic import read_json

SONGS, DIMENSIONS = 6_000, 32
PATHS = [f"{place:05}" for place in range(SONGS)]


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    """[SONGS, DIMENSIONS] of unit length, around 60 centres, as songs of a style are."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, DIMENSIONS))
    found = centres[rng.integers(60, size=SONGS)] + 0.5 * rng.standard_normal((SONGS, DIMENSIONS))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nearest")


@pytest.fixture(scope="module")
def approximate(folder: Path, embeddings: np.ndarray) -> Nearest:
    return load_nearest(folder, PATHS, list(embeddings), exact_below=1_000)


def true_nearest(embeddings: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    cosines = embeddings.astype(np.float64) @ query.astype(np.float64)
    return [int(place) for place in np.argsort(-cosines, kind="stable")[:k]]


def test_few_songs_are_searched_exactly(tmp_path: Path, embeddings: np.ndarray) -> None:
    nearest = load_nearest(tmp_path, PATHS, list(embeddings))
    assert (nearest.is_exact, nearest.recall) == (True, None)
    state = read_json(tmp_path / STATE)
    assert (state["version"], state["songs"], state.get("recall")) == (VERSION, SONGS, None)
    for song in range(0, SONGS, 500):
        found = nearest.search(3 * embeddings[song], 10)
        assert [place for place, _ in found] == true_nearest(embeddings, embeddings[song], 10)
        # 32 float32 products of at most 1, 2^-24 each
        assert found[0] == (song, pytest.approx(1, abs=4e-6))


def test_of_many_songs_it_finds_what_it_says(folder: Path, approximate: Nearest, embeddings: np.ndarray) -> None:
    state = read_json(folder / STATE)
    assert (state["version"], state["recall"]) == (APPROXIMATE_VERSION, approximate.recall)
    assert approximate.recall is not None
    assert WANTED_RECALL <= approximate.recall <= 1
    rng = np.random.default_rng(1)  # songs that recall was not measured on, and that are not in the index
    queries = embeddings[rng.integers(SONGS, size=300)] + 0.05 * rng.standard_normal((300, DIMENSIONS))
    hits = 0
    for query in (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32):
        found = approximate.search(query, 10)
        assert [cosine for _, cosine in found] == sorted((cosine for _, cosine in found), reverse=True)
        for place, cosine in found:  # of whole embeddings, not of 8 bits
            assert cosine == pytest.approx(float(embeddings[place] @ query), abs=4e-6)
        hits += len({place for place, _ in found} & set(true_nearest(embeddings, query, 10)))
    # 3,000 draws with 0.99 of success: a standard deviation of 0.002, and other queries than it was measured with
    assert hits / 3_000 > WANTED_RECALL - 0.01


def test_it_looks_through_a_part_of_the_songs_alone(approximate: Nearest) -> None:
    assert 1 <= approximate.index.nprobe < approximate.index.nlist  # pyright: ignore[reportAttributeAccessIssue]


def test_it_is_read_again_and_made_again_where_it_is_damaged(
    folder: Path, approximate: Nearest, embeddings: np.ndarray, tmp_path: Path
) -> None:
    def found(where: Path) -> list[tuple[int, float]]:
        return load_nearest(where, PATHS, list(embeddings), exact_below=1_000).search(embeddings[7], 20)

    whole, kept = (folder / NEAREST).read_bytes(), (folder / NEAREST).stat().st_mtime_ns
    expected = approximate.search(embeddings[7], 20)
    assert found(folder) == expected
    assert (folder / NEAREST).stat().st_mtime_ns == kept
    assert is_whole(folder, PATHS, list(embeddings), exact_below=1_000)
    state = (folder / STATE).read_bytes()
    for place in np.random.default_rng(2).integers(len(whole), size=5):
        flipped = bytearray(whole)
        flipped[place] ^= 16
        (tmp_path / NEAREST).write_bytes(flipped)
        (tmp_path / STATE).write_bytes(state)
        assert not is_whole(tmp_path, PATHS, list(embeddings), exact_below=1_000)
    assert found(tmp_path) == expected
    assert is_whole(tmp_path, PATHS, list(embeddings), exact_below=1_000)
    # one of other songs is not taken for these, and fewer songs get an exact one
    assert not is_whole(folder, PATHS[:-1], list(embeddings[:-1]), exact_below=1_000)
    assert load_nearest(tmp_path, PATHS, list(embeddings)).is_exact


def test_an_index_of_many_songs_ranks_as_many_as_are_asked_for(tmp_path: Path, embeddings: np.ndarray) -> None:
    rows = [IndexedSong(path, 1, 1, 1.0, vector, vector[:3]) for path, vector in zip(PATHS, embeddings, strict=True)]
    songs = SongIndex(tmp_path, exact_below=1_000)
    songs.add(rows)
    recall = songs.write_nearest()
    assert WANTED_RECALL <= recall <= 1
    assert songs.nearest_is_whole()
    again = SongIndex(tmp_path, exact_below=1_000)
    assert [song.path for song, _ in again.search(embeddings[11], 1)] == [PATHS[11]]
    every = again.search(embeddings[11], SONGS)
    assert [int(song.path) for song, _ in every[:50]] == true_nearest(embeddings, embeddings[11], 50)
    assert len({song.path for song, _ in every}) == SONGS
    assert SongIndex(tmp_path).write_nearest() == 1.0
