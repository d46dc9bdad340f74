"""A bank by the separator that is shipped, of songs whose true stems are known."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import ROOT
from helpers.small_cache import make_cache

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.mix_chain import apply_mix_chain
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.pipeline.synth.song import render_song
from mixstyle.stages.remix.bank import fill_bank
from mixstyle.stages.remix.mixes import AudioDonor, Group, Mix
from mixstyle.stages.settings.separate import SeparateSettings

SEPARATOR = ROOT / "Music-Source-Separation-Training"
FRAMES = 4 * SAMPLE_RATE


pytestmark = pytest.mark.usefixtures("one_thread")


def stems_of_song(stems: np.ndarray) -> np.ndarray:
    return stems


@pytest.mark.slow
def test_stems_of_a_mix_are_nearer_to_the_processed_ones_than_the_mix_is(tmp_path: Path) -> None:
    make_cache(tmp_path / "stems", tracks=2, clips=2, clip_s=4.0)  # donors are of our own: nothing is read there
    true = render_song(77_001, 24.0).stems
    donor = AudioDonor("song 77001", partial(stems_of_song, true), 6 * SAMPLE_RATE)
    chains = [draw_chain(np.random.default_rng([77, place]), effects) for place, effects in enumerate((0, 2, 4))]
    groups = [Group("chain", 0, place, "test", (Mix((donor,) * 4, chain),)) for place, chain in enumerate(chains)]
    chosen = SeparateSettings(
        separator_config=SEPARATOR / "configs" / "scnet_tiny.yaml",
        separator_checkpoint=SEPARATOR / "scnet_tiny_2.safetensors",
        device="cpu",
        threads=1,
        batch_chunks=1,
        num_overlap=1,
    )
    bank = fill_bank(tmp_path / "bank", groups, StemCache(tmp_path / "stems"), chosen, clip_s=4.0, groups_per_shard=3)
    separator = load_separator(chosen.separator_config, chosen.separator_checkpoint, num_overlap=1)
    for track, chain in zip(bank.tracks, chains, strict=True):
        processed = apply_mix_chain(true[..., 6 * SAMPLE_RATE : 6 * SAMPLE_RATE + FRAMES].copy(), chain)
        mix = processed.sum(0)
        got = bank.read_clip(track.clips[0])
        expected = separator.separate([torch.from_numpy(mix)])[0].numpy()
        # half a step of 16 bits, and 2e-5 for float32 sums of a network in batches of other sizes (-94 dBFS)
        np.testing.assert_allclose(got, expected, atol=track.clips[0].scale / 65_536 + 2e-5)
        errors = [np.square(estimate - processed).sum() for estimate in (got, np.stack([mix] * 4))]
        # in power, all stems together: below a half of what taking the mix for each stem would be wrong by (3 dB)
        assert errors[0] < 0.5 * errors[1]
