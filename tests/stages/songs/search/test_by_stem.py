"""Ranking by one stem: by that stem's descriptors alone, each in its own spread, among songs that have the stem."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS
from mixstyle.stages.songs.embed.embedder import EmbeddedSong
from mixstyle.stages.songs.search.matches import Match, matches
from mixstyle.stages.songs.search.text import matches_as_csv, matches_as_json

SONGS = 24
RNG = np.random.default_rng(4)
DRUMS = [column for column, d in enumerate(DESCRIPTORS) if d.stem == "drums" and not d.moves_with_level]


def drawn() -> np.ndarray:
    values = RNG.standard_normal(len(DESCRIPTORS)).astype(np.float32)
    values[COLUMN["drums_octave_8000hz_db"]] *= 30  # a wide spread should not decide alone
    values[COLUMN["drums_loudness_lufs"]] *= 1000  # nor the song's level at all
    return values


VALUES = np.stack([drawn() for _ in range(SONGS)])
VALUES[5, COLUMN["drums_relative_loudness_lu"]] = -60  # no drums


def index_of(folder: Path, values: np.ndarray) -> SongIndex:
    embedding = np.eye(4, dtype=np.float32)
    songs = SongIndex(folder)
    songs.add([IndexedSong(f"{i:02}.wav", 1, 1, 1.0, embedding[i % 4], one) for i, one in enumerate(values)])
    return songs


def query_of(values: np.ndarray) -> EmbeddedSong:
    one = torch.eye(4)[:1]
    return EmbeddedSong("query.wav", 1.0, one[0], one, torch.from_numpy(values[None]), (0.0,))


def find(songs: SongIndex, values: np.ndarray, k: int = SONGS) -> list[Match]:
    return matches(songs, query_of(values), k, without=None, root=Path("music"), stem="drums")


def test_songs_are_ranked_by_the_stem_alone(tmp_path: Path) -> None:
    songs = index_of(tmp_path, VALUES)
    query = drawn()
    found = find(songs, query)
    having = [i for i in range(SONGS) if i != 5]
    kept = VALUES[having][:, DRUMS].astype(np.float64)
    low, median, high = np.percentile(kept, [25, 50, 75], axis=0)
    # no column of these 23 is so uneven that the floor of 0.1 standard deviations counts
    scale = (high - low) / 1.3489795
    z = [np.clip((rows - median) / scale, -4, 4) for rows in (kept, query[DRUMS])]
    expected = np.sqrt(((z[0] - z[1]) ** 2).mean(1))
    assert [m.song.path for m in found] == [f"{having[i]:02}.wav" for i in np.argsort(expected)]
    np.testing.assert_allclose(
        [m.score for m in found], np.sort(expected), rtol=1e-6
    )  # float32 z-scores up to 4: 2^-24 each
    pairs = [np.sqrt(((z[0][i] - z[0][j]) ** 2).mean()) for i in range(len(having)) for j in range(i)]
    # half of a pair: the two count the same pairs
    assert found[3].closer_than == pytest.approx(np.mean(np.array(pairs) > found[3].score), abs=0.5 / len(pairs))
    assert {DESCRIPTORS[one.column].stem for m in found for one in (*m.alike, *m.apart)} == {"drums"}
    same = find(songs, VALUES[7], 1)
    assert (same[0].song.path, same[0].score, same[0].closer_than) == ("07.wav", 0.0, 1.0)
    other = query.copy()
    other[[c for c, d in enumerate(DESCRIPTORS) if d.stem != "drums" or d.moves_with_level]] += 50
    assert [m.score for m in find(songs, other)] == [m.score for m in found]
    told = matches_as_json(query_of(query), found, SONGS, "drums")
    assert told["stem"] == "drums"
    assert told["songs"][0]["distance"] == pytest.approx(found[0].score, rel=1e-5)  # six digits
    assert matches_as_csv(found, "drums").splitlines()[0].split(",")[2] == "distance"


def test_what_cannot_be_ranked_is_refused(tmp_path: Path) -> None:
    songs = index_of(tmp_path / "a", VALUES)
    with pytest.raises(MixstyleError) as caught:
        find(songs, VALUES[5])
    assert caught.value.code == "no-music"
    old = index_of(tmp_path / "b", VALUES[:, :-1])
    with pytest.raises(MixstyleError) as caught:
        find(old, VALUES[0])
    assert caught.value.code == "misfit"
    silent = VALUES.copy()
    silent[:, COLUMN["drums_relative_loudness_lu"]] = -60
    with pytest.raises(MixstyleError) as caught:
        find(index_of(tmp_path / "c", silent), VALUES[0])
    assert caught.value.code == "no-music"
