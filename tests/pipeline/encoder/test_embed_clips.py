"""Clips to embeddings: the encoder's own, one mel for several encoders, and a song as the mean of its clips."""

import numpy as np
import pytest
import torch
from helpers.small_cache import stems_of

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.encoder.embed_clips import embed_clips, embed_with_each, song_embedding
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig, with_part_s
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


def in_parts(seed: int, part_s: float) -> Encoder:
    torch.manual_seed(seed)
    config = EncoderConfig(channels=(4, 8), encoder_dim=16, film_hidden=8, input_lufs=-14.0, part_s=part_s)
    return Encoder(config).eval()


def test_long_clips_are_the_mean_of_their_parts_on_the_sphere() -> None:
    encoder, mel = in_parts(0, 1.0), StemMel(44_100, 1024, 512, 128)
    clips = torch.stack([torch.from_numpy(stems_of(seed, 3.0)) for seed in (1, 2)])
    clips[1, ..., 44_100 : 2 * 44_100] = 0.0  # its second part is silent
    whole = with_part_s(encoder, None)
    alone = embed_clips(whole, mel, torch.cat([clips[..., i * 44_100 : (i + 1) * 44_100] for i in range(3)]))
    unit = (alone / alone.norm(dim=1, keepdim=True)).double().numpy().reshape(3, 2, 16)
    found = embed_clips(encoder, mel, clips, describe(clips)).numpy()
    for clip, heard in ((0, [0, 1, 2]), (1, [0, 2])):
        expected = unit[heard, clip].sum(0)
        # float32 of unit vectors, whose batch has another order of sums: some 2^-23
        np.testing.assert_allclose(found[clip], expected / np.linalg.norm(expected), atol=2e-6)
    silent = torch.zeros_like(clips[:1])
    assert torch.isfinite(embed_clips(encoder, mel, silent)).all()
    with pytest.raises(ValueError):
        embed_with_each([encoder, whole], mel, clips)


def test_clips_near_the_length_of_a_part_are_embedded_whole() -> None:
    encoder, mel = in_parts(0, 1.0), StemMel(44_100, 1024, 512, 128)
    clips = torch.from_numpy(stems_of(3, 1.4))[None]
    expected = embed_clips(with_part_s(encoder, None), mel, clips)
    torch.testing.assert_close(embed_clips(encoder, mel, clips), expected, rtol=0, atol=0)
    longer = torch.from_numpy(stems_of(3, 1.6))[None]
    assert not torch.equal(embed_clips(encoder, mel, longer), embed_clips(with_part_s(encoder, None), mel, longer))


def test_what_is_given_to_describe_with_measures_parts_and_unknown_clips() -> None:
    encoder, mel = in_parts(0, 1.0), StemMel(44_100, 1024, 512, 128)
    clips = torch.from_numpy(stems_of(4, 3.0))[None]
    asked: list[int] = []

    def measured(stems: torch.Tensor) -> torch.Tensor:
        asked.append(stems.shape[-1])
        return describe(stems)

    found = embed_clips(encoder, mel, clips, describe(clips), describe=measured)
    torch.testing.assert_close(found, embed_clips(encoder, mel, clips), rtol=0, atol=0)
    embed_clips(with_part_s(encoder, None), mel, clips, describe=measured)
    embed_clips(with_part_s(encoder, None), mel, clips, describe(clips), describe=measured)
    assert asked == [44_100, 3 * 44_100]
