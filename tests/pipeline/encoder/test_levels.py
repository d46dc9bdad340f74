"""Levelling: what it makes of audio and of descriptors agrees, and embeddings do not hang on a file's level."""

import numpy as np
import pytest
import torch
from helpers.small_cache import stems_of

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.descriptors.loudness import integrated_loudness
from mixstyle.pipeline.descriptors.table import DESCRIPTORS
from mixstyle.pipeline.encoder.embed_clips import embed_clips
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.encoder.levels import gains_db, levelled, levelled_descriptors
from mixstyle.pipeline.encoder.mel import StemMel


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    stems = torch.from_numpy(np.stack([stems_of(seed, 2.0) for seed in (1, 2, 3)]))
    stems[1] *= 0.05
    stems[2, 0] = 0  # no vocals
    return stems


def test_mixes_have_the_loudness_that_is_asked_for(clips: torch.Tensor) -> None:
    made = levelled(clips, gains_db(describe(clips), -14.0))
    # K-weighted sums in float32, twice: 0.001 LU
    assert integrated_loudness(made.sum(1), SAMPLE_RATE).tolist() == pytest.approx([-14.0] * 3, abs=2e-3)


def test_descriptors_are_those_of_the_levelled_audio(clips: torch.Tensor) -> None:
    before = describe(clips)
    gains = gains_db(before, -14.0)
    found, expected = levelled_descriptors(before, gains), describe(levelled(clips, gains))
    for column, descriptor in enumerate(DESCRIPTORS):
        if descriptor.moves_with_level:
            assert torch.allclose(found[:, column], expected[:, column], atol=2e-3), descriptor.name  # dB
    assert gains[1] - gains[0] > 10


def test_silence_stays_as_it_is() -> None:
    silent = describe(torch.zeros(1, 4, 2, 44_100))
    assert gains_db(silent, -14.0).tolist() == [0.0]
    assert torch.equal(levelled_descriptors(silent, torch.tensor([30.0])), silent)


def test_a_level_ends_at_its_floor() -> None:
    quiet = describe(torch.full((1, 4, 2, 44_100), 1e-3))
    found = levelled_descriptors(quiet, torch.tensor([-100.0]))
    names = {d.name: column for column, d in enumerate(DESCRIPTORS)}
    assert found[0, names["vocals_rms_left_dbfs"]] == -120.0
    assert found[0, names["vocals_loudness_lufs"]] == -70.0


def test_an_encoder_with_an_input_loudness_does_not_hear_the_level(clips: torch.Tensor) -> None:
    torch.manual_seed(0)
    sizes = {"channels": (2, 4), "encoder_dim": 8, "film_hidden": 8}
    mel = StemMel()
    told = Encoder(EncoderConfig(**sizes, input_lufs=-14.0)).eval()
    deaf = Encoder(EncoderConfig(**sizes)).eval()
    deaf.load_state_dict(told.state_dict())
    for encoder, moves in ((told, False), (deaf, True)):
        with torch.no_grad():
            first, louder = (embed_clips(encoder, mel, g * clips) for g in (1.0, 2.0))
        change = (first - louder).norm() / first.norm()
        # the mel's floor, 90 dB below full scale, does not move with the level
        assert (change > 1e-2) if moves else (change < 1e-3)
