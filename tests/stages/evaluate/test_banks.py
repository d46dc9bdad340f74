"""Banks of evaluations: clips that went through a mix, in the part's order, made once."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.evaluation import evaluation_of
from helpers.small_cache import make_cache
from helpers.small_separator import with_separator
from helpers.training import settings_of

from mixstyle.cache.stem_store.stem_cache import CachedClip, StemCache
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.mixing.effects import effect_versions
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.pipeline.mixing.versions import chain_versions
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.stages.evaluate.banks import EvaluationBanks
from mixstyle.stages.evaluate.provenance import separator_hash
from mixstyle.stages.evaluate.tasks.task import Item, Part
from mixstyle.stages.settings.profile import Settings

FRAMES = round(0.5 * SAMPLE_RATE)
LOUDER = MixChain(tuple(() for _ in STEMS), mix_lufs=-12.0)


@dataclasses.dataclass(frozen=True)
class Halved:
    """A step that none of mixstyle's chains could be."""

    def apply(self, stems: np.ndarray) -> np.ndarray:
        return stems * np.float32(0.5)

    def to_json(self) -> dict[str, str]:
        return {"step": "halved"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("banks")
    make_cache(folder / "stems", tracks=3, clips=2, clip_s=1.0, validation=2)
    settings = evaluation_of(settings_of(folder / "run"), folder / "evaluation")
    # a user's music is a mix: it is separated, also where the stems were given
    return with_separator(settings, folder / "separator", input="stems")


def part_of(cache: StemCache, steps: tuple = (LOUDER, Halved())) -> Part:
    clips = [clip for track in cache.tracks for clip in track.clips]
    items = tuple(Item(clip, steps, 1000 + place, FRAMES) for place, clip in enumerate(clips))
    return Part("some", tuple(range(len(items))), lambda: items, "through-mix")


def test_clips_are_processed_summed_and_separated_again(settings: Settings) -> None:
    cache = StemCache(settings.separate.stems_dir)
    part = part_of(cache)
    bank, items = EvaluationBanks(settings).of(cache, part)
    assert len(items) == len(part)
    separator = load_separator(settings.separate.separator_config, settings.separate.separator_checkpoint)
    for item, wanted in zip(items, part.items, strict=True):
        stems = wanted.render(cache)
        assert stems.shape == (4, 2, FRAMES)
        (expected,) = separator.separate([torch.from_numpy(stems.sum(0))])
        # a cached clip is rounded to 16 bits: half a step of 2**-15, and a hundredth of it for sums in another order
        np.testing.assert_allclose(item.render(bank), expected.numpy(), atol=0.51 * 2**-15)
        assert np.abs(item.render(bank) - stems).max() > 0.01, "not the stems that were processed"


def test_a_bank_is_made_once_and_by_what_it_is_made_from(settings: Settings) -> None:
    cache, banks = StemCache(settings.separate.stems_dir), EvaluationBanks(settings)
    part = part_of(cache)
    bank, _ = banks.of(cache, part)
    made = {path: path.stat().st_mtime_ns for path in bank.stems_dir.glob("*.tar")}
    assert made
    assert banks.of(cache, part)[0] is bank
    again, _ = EvaluationBanks(settings).of(cache, part_of(cache))
    assert {path: path.stat().st_mtime_ns for path in again.stems_dir.glob("*.tar")} == made
    other = dataclasses.replace(settings, separate=dataclasses.replace(settings.separate, num_overlap=4))
    folders = {
        banks.folder(cache, part),
        banks.folder(cache, part_of(cache, (LOUDER,))),
        EvaluationBanks(other).folder(cache, part),
    }
    assert len(folders) == 3


def test_the_name_of_a_folder_stays_what_it_was(settings: Settings) -> None:
    """Banks that earlier versions filled are found: their names are hashes of this text."""
    cache = StemCache(settings.separate.stems_dir)
    part = part_of(cache)
    named_by = {
        "effects": chain_versions(effect_versions()),
        "items": [item.to_json() for item in part.items],
        "separator": separator_hash(settings),
        "stems": cache.fingerprint,
    }
    text = json.dumps(named_by, sort_keys=True, separators=(",", ":"))
    name = f"some-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    assert EvaluationBanks(settings).folder(cache, part) == settings.evaluate.bank_dir / name


def test_silence_stays_in_its_place(settings: Settings, tmp_path: Path) -> None:
    cache = StemCache(settings.separate.stems_dir)

    @dataclasses.dataclass(frozen=True)
    class Muted(Halved):
        def apply(self, stems: np.ndarray) -> np.ndarray:
            return stems * 0

        def to_json(self) -> dict[str, str]:
            return {"step": "muted"}

    clip = cache.tracks[0].clips[0]
    items = (Item(clip, (), 0, FRAMES), Item(clip, (Muted(),), 0, FRAMES), Item(clip, (), 5, FRAMES))
    bank, found = EvaluationBanks(settings).of(cache, Part("few", (0, 0, 0), lambda: items, "through-mix"))
    assert [isinstance(item.source, CachedClip) for item in found] == [True, False, True]
    assert not found[1].render(bank).any()
    assert found[1].render(bank).shape == (4, 2, FRAMES)
