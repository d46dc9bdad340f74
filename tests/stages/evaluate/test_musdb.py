"""Fx-Encoder++'s protocol on rendered songs in MUSDB's layout: loudnesses after effects, and one command for all."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers.evaluation import songs_without_audio
from helpers.small_cache import stems_of
from helpers.training import settings_of

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.loudness import integrated_loudness
from mixstyle.pipeline.mixing.fxnorm import StemTargets
from mixstyle.pipeline.mixing.mix_chain import MixChain, apply_mix_chain
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.evaluate import musdb as module
from mixstyle.stages.evaluate.musdb import evaluate_musdb
from mixstyle.stages.evaluate.tasks.published_protocol import (
    GIVEN_STEMS_MIXED,
    FxNormalisation,
    published_protocol,
)
from mixstyle.stages.evaluate.tasks.task import Cut
from mixstyle.stages.separate.tuned_streams import tuned_separation
from mixstyle.stages.settings.evaluate import EvaluateSettings
from mixstyle.stages.settings.profile import Settings, load_settings

TARGETS = StemTargets(np.full((4, 10), -10.0), np.full(4, 10.0), np.zeros(4), np.full(4, -20.0))


def _context(songs: Sequence[CachedTrack], targets: Callable[[], StemTargets], frames: int = SAMPLE_RATE) -> Any:
    """All that the task asks of a `Context`."""
    return SimpleNamespace(
        options=EvaluateSettings(chains=10), songs=songs, targets=targets, cut=Cut(frames, SAMPLE_RATE // 2)
    )


def test_loudness_is_set_after_the_effects() -> None:
    context = _context(songs_without_audio(), lambda: TARGETS)
    part = published_protocol(context, 3)
    assert part.way == "as-processed"
    queries, pool = part.items[:10], part.items[10:]
    assert [item.steps for item in queries] == [item.steps for item in pool]
    normalised, chain, after = queries[0].steps
    assert isinstance(normalised, FxNormalisation)
    assert isinstance(chain, MixChain)
    assert isinstance(after, MixChain)
    assert not chain.stem_lufs
    assert [len(each) for each in chain.stems] == [3] * 4
    # measured after all of it, relative to one another: the last gain is the mix's
    out = apply_mix_chain(apply_mix_chain(stems_of(1, 3.0), chain), after)
    found = integrated_loudness(torch.from_numpy(out), SAMPLE_RATE).numpy()
    # LU: one gain moves all blocks alike, and float32 rounds a block of 17,640 squares by sqrt(17640) 2^-24, 3.4e-5 dB
    np.testing.assert_allclose(found - found[0], np.array(after.stem_lufs) - after.stem_lufs[0], atol=1e-3)
    mix = integrated_loudness(torch.from_numpy(out.sum(0, keepdims=True)), SAMPLE_RATE).item()
    assert mix == pytest.approx(-14, abs=1e-3)


def test_through_the_mix_the_same_clips_are_asked_for() -> None:
    context = _context(songs_without_audio(), lambda: TARGETS)
    given, mixed = published_protocol(context, 3), published_protocol(context, 3, GIVEN_STEMS_MIXED)
    assert (mixed.name, mixed.way) == ("mix_published_protocol_3", "through-mix")
    assert [item.to_json() for item in mixed.items] == [item.to_json() for item in given.items]


@pytest.fixture
def musdb(tmp_path: Path) -> Path:
    for side, songs in (("test", 3), ("train", 9)):
        for song in range(songs):
            folder = tmp_path / "musdb" / side / f"Artist {song} - {side}"
            folder.mkdir(parents=True)
            stems = stems_of(100 * songs + song, 2.0)
            for stem, audio in zip(STEMS, stems, strict=True):
                soundfile.write(folder / f"{stem}.wav", audio.T, SAMPLE_RATE, subtype="PCM_16")
            soundfile.write(folder / "mixture.wav", stems.sum(0).T, SAMPLE_RATE, subtype="PCM_16")
    return tmp_path / "musdb"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(module, "CLIP_S", 0.6)
    settings = settings_of(tmp_path / "run")
    options = dataclasses.replace(settings.evaluate, whitening_chains=10, workers=0, device="cpu")
    separate = dataclasses.replace(settings.separate, device="cpu", workers=1)
    return dataclasses.replace(settings, evaluate=options, separate=separate)


@pytest.mark.slow
def test_one_command_does_all_of_it(musdb: Path, settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    metrics = evaluate_musdb(musdb, out, settings, chains=10, effects=(1, 2))
    assert metrics["songs"] == 3
    assert list(metrics["published_protocol"]) == ["1", "2"]
    rows = metrics["rows"]
    assert rows == ["shipped encoder", "untrained", "whitened descriptors", "raw descriptors", "MFCC statistics"]
    assert all(entries["chance_r1"] == 0.1 for entries in metrics["published_protocol"]["1"].values())
    assert "Fx-Encoder++" in (out / "evaluation.html").read_text()
    assert not list(out.glob("banks/*")), "nothing goes through a mix"
    again = evaluate_musdb(musdb, out, settings, chains=10, effects=(1, 2))
    assert again == metrics


@pytest.mark.slow
def test_the_sums_of_processed_stems_are_separated_once(musdb: Path, settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    metrics = evaluate_musdb(musdb, out, settings, chains=10, effects=(2,), through_mix=True)
    assert list(metrics["mix_published_protocol"]) == list(metrics["published_protocol"]) == ["2"]
    banks = {path.name.rsplit("-", 1)[0]: path for path in out.glob("banks/*") if path.is_dir()}
    assert sorted(banks) == ["mix_published_protocol_2", "whitening"]
    bank, given = StemCache(banks["mix_published_protocol_2"]), StemCache(out / "stems")
    assert len(bank.tracks) == 20
    # the first query by hand: its true stems processed, summed, and separated in one pass by the profile's separator
    context = _context(given.tracks, lambda: _targets(out, given), given.clip_frames)
    processed = published_protocol(context, 2).items[0].render(given)
    separator = configured_separator(settings.separate, torch.device("cpu"))
    assert separator is not None
    (stems,) = tuned_separation(settings.separate, separator)([torch.from_numpy(processed.sum(0))])
    kept = bank.read_clip(bank.tracks[0].clips[0])
    # half a step of 16 bits is 1.5e-5; float32 of other batches moves a sample by less than 1e-5 besides
    np.testing.assert_allclose(kept, stems.numpy(), atol=4e-5)


def _targets(out: Path, cache: StemCache) -> StemTargets:
    """What the songs' stems are normalised to: the medians of their descriptors."""
    store = FeatureStore.open(out / "features.zarr")
    return StemTargets.from_medians(store.names, store.statistics([c.row for t in cache.tracks for c in t.clips])[0])


def test_a_folder_that_is_not_there_is_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        evaluate_musdb(tmp_path / "none", tmp_path / "out", settings)
    assert caught.value.code == "not-found"
    assert str(tmp_path / "none") in str(caught.value)


@pytest.mark.parametrize("option", [(), ("--through-mix",)])
def test_stems_that_are_in_the_way_are_made_anew_by_the_command_that_is_told(
    musdb: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    """Not by `separate`, which would make the profile's own stems again."""
    (tmp_path / "out" / "stems").mkdir(parents=True)
    (tmp_path / "out" / "stems" / "stems-000000.tar").write_bytes(b"another's")
    with pytest.raises(MixstyleError) as caught:
        evaluate_musdb(musdb, tmp_path / "out", settings_of(tmp_path / "run"), through_mix=bool(option))
    assert caught.value.remedy == ("evaluate-musdb", str(musdb), str(tmp_path / "out"), *option, "--rebuild")


def test_a_folder_without_songs_is_told_without_a_command_that_would_not_help(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MixstyleError) as caught:
        evaluate_musdb(tmp_path / "empty", tmp_path / "out", load_settings("demo"))
    assert (caught.value.code, caught.value.remedy) == ("no-music", ())
