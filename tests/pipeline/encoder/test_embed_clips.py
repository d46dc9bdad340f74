"""Clips to embeddings: the encoder's own, one mel for several encoders, and a song as the mean of its clips."""

import numpy as np
import pytest
import torch
from helpers.small_cache import stems_of

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.encoder.embed_clips import embed_clips, embed_with_each, song_embedding
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.encoder.mel import StemMel


def small(seed: int) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(EncoderConfig(channels=(4, 8), encoder_dim=16, film_hidden=8)).eval()


def test_clips_go_through_mel_descriptors_and_encoder() -> None:
    encoder, other, mel = small(0), small(1), StemMel(44_100, 1024, 512, 128)
    stems = torch.stack([torch.from_numpy(stems_of(seed, 1.0)) for seed in (1, 2)])
    with torch.inference_mode():
        values = describe(stems)
        expected = [one(mel(stems), values) for one in (encoder, other)]
    # the same code on the same tensors: to the last bit
    torch.testing.assert_close(embed_clips(encoder, mel, stems), expected[0], rtol=0, atol=0)
    given = embed_with_each([encoder, other], mel, stems, values)
    for found, wanted in zip(given, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    with pytest.raises(MixstyleError) as caught:
        embed_clips(encoder, mel, stems[..., : 44_100 // 10])  # 9 mel frames
    assert caught.value.code == "bad-audio"


def test_a_song_is_the_mean_of_its_clips_on_the_sphere() -> None:
    clips = np.random.default_rng(0).standard_normal((5, 16)) * np.arange(1, 6)[:, None]
    unit = clips / np.linalg.norm(clips, axis=1, keepdims=True)
    expected = unit.mean(0) / np.linalg.norm(unit.mean(0))
    song, each = song_embedding(torch.from_numpy(clips))
    # float64 of values below 1, sums of 16: 16 x 2^-53 is 2e-15
    np.testing.assert_allclose(song.numpy(), expected, atol=1e-14)
    np.testing.assert_allclose(each.numpy(), unit, atol=1e-14)
