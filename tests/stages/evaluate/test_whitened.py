"""Whitened descriptors: fitted on training songs alone, one map for each kind of clips."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.numbers import numbers
from helpers.small_cache import make_cache

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.descriptors.whitening import within_group_whitening
from mixstyle.stages.evaluate.clips import Clips
from mixstyle.stages.evaluate.tasks.metrics import comparable
from mixstyle.stages.evaluate.tasks.task import Part
from mixstyle.stages.evaluate.whitened import CONTENTS, Whitening, training_songs, whitened_row, whitening_part
from mixstyle.stages.settings.evaluate import EvaluateSettings

CHAINS = 30
OPTIONS = EvaluateSettings(clip_s=0.2, whitening_chains=CHAINS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> StemCache:
    folder = tmp_path_factory.mktemp("whitened") / "stems"
    make_cache(folder, tracks=12, clips=1, clip_s=0.4, validation=2, per_shard=12)
    return StemCache(folder)


def test_no_song_that_is_evaluated_is_fitted_on(cache: StemCache) -> None:
    held_out = [track for track in cache.tracks if track.split != "train"]
    training = training_songs(cache, [*held_out, cache.tracks[0]])
    known = {track.track_id for track in training.songs}
    assert known == {track.track_id for track in cache.tracks[1:10]}
    part = whitening_part(training, OPTIONS, "through-mix")
    assert len(part) == CHAINS * CONTENTS
    clips = {clip.clip_id for track in training.songs for clip in track.clips}
    assert {item.source.clip_id for item in part.items} <= clips  # pyright: ignore[reportAttributeAccessIssue]
    for chain in range(CHAINS):
        items = part.items[chain * CONTENTS : (chain + 1) * CONTENTS]
        assert len({str(item.steps) for item in items}) == 1, "one chain"
        assert len({item.source.clip_id for item in items}) == CONTENTS, "on different songs"  # pyright: ignore[reportAttributeAccessIssue]
    assert set(part.songs) == set(range(CHAINS))


def test_each_kind_of_clips_has_its_own_map(cache: StemCache) -> None:
    rng = np.random.default_rng(0)
    told = {
        way: rng.standard_normal((CHAINS * CONTENTS, 6)).astype(np.float32) for way in ("through-mix", "as-processed")
    }
    asked: list[Part] = []

    def describe(part: Part) -> np.ndarray:
        asked.append(part)
        return told[part.way]

    training = training_songs(cache, [])
    row = whitened_row(training, OPTIONS, ("through-mix", "as-processed"), describe)
    assert row is not None
    assert [part.name for part in asked] == ["whitening", "stems_whitening"]
    x = rng.standard_normal((5, 6)).astype(np.float32)
    classes = np.repeat(np.arange(CHAINS), CONTENTS)
    for way, fitted in (("through-mix", "through-mix"), ("as-is", "through-mix"), ("as-processed", "as-processed")):
        found = row.of(Clips(torch.zeros(5, 4, 2, 8), torch.from_numpy(x), way))  # pyright: ignore[reportArgumentType]
        center, scale = told[fitted].mean(0, np.float64), told[fitted].std(0, np.float64)
        _, matrix = within_group_whitening((told[fitted] - center) / scale, classes)
        # float32 of numbers up to about 5: rounding is below 1e-6
        np.testing.assert_allclose(found, ((x - center) / scale) @ matrix, atol=1e-5)


def test_what_varies_within_chains_no_longer_leads() -> None:
    rng = np.random.default_rng(0)
    chains = np.repeat(np.arange(100), 6)
    mixed = np.concatenate(
        [rng.standard_normal((100, 4))[chains], rng.standard_normal((600, 4)) * [8, 6, 4, 3], np.ones((600, 1))], 1
    )
    mixed[:, :8] = mixed[:, :8] @ np.linalg.qr(rng.standard_normal((8, 8)))[0]

    def found(x: np.ndarray, row: str) -> float:
        y = comparable(x.astype(np.float32), row)
        similar = y @ y.T
        np.fill_diagonal(similar, -2)
        return float((chains[similar.argmax(1)] == chains).mean())

    assert found(mixed, "raw descriptors") < 0.1
    whitened = Whitening.fitted(mixed.astype(np.float32), chains)(mixed.astype(np.float32))
    assert found(whitened, "whitened descriptors") > 0.7  # of 5 right among 599
    assert not whitened[:, 8].any(), "a constant descriptor tells nothing"


def test_too_few_training_songs_leave_the_row_out(
    cache: StemCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = training_songs(cache, cache.tracks[:4])

    def refuse(part: Part) -> np.ndarray:
        raise AssertionError(part.name)

    assert whitened_row(training, OPTIONS, ("through-mix",), refuse) is None
    _, named, why = capsys.readouterr().err.partition(str(cache.stems_dir))
    assert (named, numbers(why)[0]) == (str(cache.stems_dir), 6), "training songs"
    none = dataclasses.replace(OPTIONS, whitening_chains=0)
    assert whitened_row(training_songs(cache, []), none, ("through-mix",), refuse) is None
    assert capsys.readouterr() == ("", ""), "it was not asked for"


def test_whitened_values_are_centred_and_not_scaled_for_cosines() -> None:
    x = np.array([[3.0, 1.0], [5.0, 1.5], [4.0, 2.0]], np.float32)
    centred = x - x.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    # float32: a mean, a difference and a norm of small numbers, 2^-24 = 6e-8 each
    np.testing.assert_allclose(comparable(x, "whitened descriptors"), unit, rtol=1e-6)
