"""The encoder: what it reads, what it does not mix up, and that it learns."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.encoder.encoder import (
    Encoder,
    EncoderConfig,
    FilmConv,
    Form,
    TemporalAttention,
    untrained_like,
    with_descriptor_share,
)
from mixstyle.pipeline.encoder.losses import info_nce

SMALL = EncoderConfig(channels=(4, 6), encoder_dim=32, film_hidden=16, n_descriptors=5, dropout=0.0)


pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(config: EncoderConfig = SMALL, film: float = 0.0) -> Encoder:
    """An encoder whose FiLM heads are drawn with that standard deviation, as if trained."""
    torch.manual_seed(0)
    encoder = Encoder(config)
    for module in encoder.modules():
        if isinstance(module, FilmConv):
            torch.nn.init.normal_(module.film.weight, std=film)
    return encoder


def inputs(batch: int = 3, frames: int = 60, config: EncoderConfig = SMALL) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mel = torch.randn(batch, 8, config.n_mels, frames, generator=generator)
    return mel, torch.randn(batch, config.n_descriptors, generator=generator)


def test_the_published_sizes() -> None:
    config = EncoderConfig()
    assert config.band_starts == (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 108)
    assert (config.n_descriptors, config.encoder_dim) == (len(DESCRIPTORS), 768)
    encoder = Encoder(config).eval()
    mel = torch.randn(1, 8, 128, 431)
    descriptors = torch.zeros(1, len(DESCRIPTORS))
    with torch.no_grad():
        assert encoder(mel, descriptors).shape == (1, 768)
        # 12 bands x 64 channels x (20 // 2 // 4 = 2) frequencies; 431 // 5 // 4 = 21 frames
        assert encoder.frames(mel, descriptors).shape == (1, 21, 1536)


def test_convolutions_pool_and_normalise_as_the_recipe_says() -> None:
    band = Encoder().bands[0]
    shapes = {n: tuple(p.shape) for n, p in band.named_parameters()}
    assert shapes["first.conv.weight"] == (32, 8, 7, 7)
    assert shapes["second.conv.weight"] == (64, 32, 7, 7)
    assert (shapes["first.film.weight"], shapes["second.film.weight"]) == ((64, 128), (128, 128))
    pools = [m.kernel_size for m in band.modules() if isinstance(m, torch.nn.MaxPool2d)]
    assert pools == [(2, 5), (4, 4)]


@pytest.mark.parametrize(
    ("n_mels", "band_mels", "band_step", "starts"),
    [
        (128, 20, 10, (*range(0, 101, 10), 108)),
        (40, 20, 10, (0, 10, 20)),
        (20, 20, 10, (0,)),
        (45, 8, 8, (0, 8, 16, 24, 32, 37)),
    ],
)
def test_bands_reach_the_top_mel(n_mels: int, band_mels: int, band_step: int, starts: tuple[int, ...]) -> None:
    assert EncoderConfig(n_mels=n_mels, band_mels=band_mels, band_step=band_step).band_starts == starts


def test_every_mel_of_every_channel_is_read() -> None:
    encoder = seeded().eval()
    mel, descriptors = inputs(batch=4)
    mel.requires_grad_()
    encoder(mel, descriptors).square().sum().backward()
    assert mel.grad is not None
    assert (mel.grad.abs().amax((0, 3)) > 0).all()


def test_shapes_of_a_state_dict_are_equal_in_all_bands() -> None:
    """So a grouped network can load them concatenated."""
    state = seeded().state_dict()
    first = {n.removeprefix("bands.0."): v.shape for n, v in state.items() if n.startswith("bands.0.")}
    for band in range(len(SMALL.band_starts)):
        assert {
            n.removeprefix(f"bands.{band}."): v.shape for n, v in state.items() if n.startswith(f"bands.{band}.")
        } == (first)


def test_a_band_computed_as_a_grouped_convolution_is_equal() -> None:
    encoder = seeded(film=0.3).eval()
    mel, descriptors = inputs()
    with torch.no_grad():
        conditioning = encoder.condition(descriptors)
        bands = [mel[:, :, s : s + SMALL.band_mels] for s in SMALL.band_starts]
        layers = [band.get_submodule("first") for band in encoder.bands]
        weight = torch.cat([layer.get_parameter("conv.weight") for layer in layers])
        grouped = torch.nn.functional.conv2d(torch.cat(bands, 1), weight, padding=3, groups=len(bands))
        looped = torch.cat([layer.get_submodule("conv")(x) for layer, x in zip(layers, bands, strict=True)], 1)
    assert conditioning.shape == (3, SMALL.film_hidden)
    # 8 x 7 x 7 products in another order, whose magnitudes add up to 9.5: sqrt(392) 2^-24 of that is 1.1e-5
    torch.testing.assert_close(grouped, looped, atol=1.2e-5, rtol=0)


def test_film_starts_as_the_identity() -> None:
    encoder = seeded().eval()
    mel, descriptors = inputs()
    with torch.no_grad():
        plain = encoder(mel, descriptors)
        # weights of 0 times whatever they see: to the last bit
        torch.testing.assert_close(encoder(mel, 100 * descriptors), plain, rtol=0, atol=0)
        layer = FilmConv(8, 4, 16, (2, 5)).eval()
        expected = layer.pool(torch.relu(layer.norm(layer.conv(mel))))
        torch.testing.assert_close(layer(mel, torch.randn(3, 16)), expected)


def test_film_scales_and_shifts_by_its_head() -> None:
    layer = FilmConv(8, 4, 2, (1, 1)).eval()
    mel, _ = inputs()
    gamma, beta = torch.tensor([0.5, 2.0, 1.0, -1.0]), torch.tensor([0.0, 1.0, -1.0, 3.0])
    with torch.no_grad():
        layer.film.weight.zero_()
        layer.film.weight[:, 0] = torch.cat([gamma - 1, beta])
        result = layer(mel, torch.tensor([[1.0, 7.0]] * 3))
        expected = torch.relu(gamma[:, None, None] * layer.norm(layer.conv(mel)) + beta[:, None, None])
    torch.testing.assert_close(result, expected)


def test_descriptors_change_the_embedding_once_film_has_learned() -> None:
    encoder = seeded(film=0.3).eval()
    mel, descriptors = inputs()
    with torch.no_grad():
        moved = descriptors.clone()
        moved[1] += 1
        difference = (encoder(mel, moved) - encoder(mel, descriptors)).abs().amax(1)
    assert difference[1] > 1e-3  # of values below 1: float32 would be some 1e-6 off
    assert difference[[0, 2]].max() == 0


def test_film_gets_a_gradient_from_its_start() -> None:
    encoder = seeded()
    encoder(*inputs()).square().sum().backward()
    for band in encoder.bands:
        for layer in ("first", "second"):
            grad = band.get_parameter(f"{layer}.film.weight").grad
            assert grad is not None
            assert grad.abs().max() > 0


def test_descriptors_are_normalised_by_their_statistics_and_clamped() -> None:
    encoder = seeded(film=0.3).eval()
    mel, descriptors = inputs()
    center, scale = torch.arange(5.0), torch.tensor([1.0, 2.0, 0.5, 10.0, 0.0])
    with torch.no_grad():
        plain = encoder(mel, descriptors)
        encoder.set_descriptor_statistics(center, scale)
        # A scale of 0 counts as 1.
        raw = descriptors * torch.tensor([1.0, 2.0, 0.5, 10.0, 1.0]) + center
        torch.testing.assert_close(encoder(mel, raw), plain, atol=1e-5, rtol=1e-4)
        far, farther = center + 6 * encoder.descriptor_scale, center + 600 * encoder.descriptor_scale
        torch.testing.assert_close(encoder(mel, far.expand(3, -1)), encoder(mel, farther.expand(3, -1)))


def test_statistics_travel_with_the_state_dict() -> None:
    encoder = seeded()
    encoder.set_descriptor_statistics(torch.arange(5.0), torch.full((5,), 3.0))
    other = Encoder(SMALL)
    other.load_state_dict(encoder.state_dict())
    assert other.descriptor_center.tolist() == [0, 1, 2, 3, 4]
    assert other.descriptor_scale.tolist() == [3] * 5


@pytest.mark.parametrize(
    ("center", "scale"),
    [
        (torch.zeros(4), torch.ones(4)),
        (torch.full((5,), torch.nan), torch.ones(5)),
        (torch.zeros(5), torch.tensor([1.0, 1, 1, 1, -1])),
        (torch.zeros(5), torch.tensor([1.0, 1, 1, 1, torch.inf])),
    ],
)
def test_refuses_statistics_that_normalise_nothing(center: Tensor, scale: Tensor) -> None:
    encoder = Encoder(SMALL)
    with pytest.raises(ValueError, match="center and scale"):
        encoder.set_descriptor_statistics(center, scale)
    assert encoder.descriptor_scale.tolist() == [1] * 5


def test_attention_weights_sum_to_one_and_pool_what_they_weigh() -> None:
    torch.manual_seed(0)
    attention = TemporalAttention(6, 4)
    x = torch.randn(3, 9, 6)
    weights = attention.weights(x)
    assert weights.shape == (3, 9)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    torch.testing.assert_close(attention(x), torch.einsum("bf,bfd->bd", weights, x))
    order = torch.randperm(9)
    torch.testing.assert_close(attention(x[:, order]), attention(x))  # frames have no place of their own


def test_statistics_are_the_weighted_mean_and_standard_deviation_of_the_frames() -> None:
    torch.manual_seed(0)
    attention = TemporalAttention(6, 4, "statistics")
    x = torch.randn(3, 9, 6)
    weights = attention.weights(x).detach().numpy().astype(np.float64)
    pooled = attention(x).detach().numpy()
    for item in range(3):
        covariance = np.cov(x[item].numpy().T, aweights=weights[item], ddof=0)
        # float32: 9 weighted frames of values below 4, whose weights add up to 1: 9 x 2^-24 x 4 is 2e-6 at most
        np.testing.assert_allclose(pooled[item, :6], np.average(x[item], axis=0, weights=weights[item]), atol=2e-6)
        # the variance's floor of 1e-4 moves a deviation of 0.1 and more by 5e-4 at most
        np.testing.assert_allclose(pooled[item, 6:], np.sqrt(np.diag(covariance)), atol=5e-4)
    assert Encoder(EncoderConfig(channels=(2, 4), pooling="statistics")).projection.in_features == 2 * 12 * 4 * 2
    with pytest.raises(ValueError, match="pooling"):
        EncoderConfig(pooling="max")  # pyright: ignore[reportArgumentType]


def test_an_item_does_not_depend_on_its_batch_in_eval() -> None:
    encoder = seeded(film=0.3).eval()
    mel, descriptors = inputs(batch=4)
    with torch.no_grad():
        together = encoder(mel, descriptors)
        alone = torch.cat([encoder(mel[i : i + 1], descriptors[i : i + 1]) for i in range(4)])
    # float32 sums in another order through a network: 1.3e-7 with AVX-512, 4.2e-7 with AVX2; five times that
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


def test_a_shift_by_whole_pooled_frames_shifts_the_features() -> None:
    encoder = seeded(film=0.3).eval()
    mel, descriptors = inputs(batch=1, frames=160)
    shift = SMALL.min_frames
    with torch.no_grad():
        features = encoder.frames(mel, descriptors)
        moved = encoder.frames(mel.roll(shift, -1), descriptors)
    # Two 7-wide kernels, the second on frames pooled by 5, reach (3 + 3 * 5) = 18 frames: one pooled frame at the ends.
    torch.testing.assert_close(moved[:, 2:-1], features[:, 1:-2], atol=1e-5, rtol=1e-5)


def test_a_steady_sound_gives_one_embedding_whatever_its_length() -> None:
    encoder = seeded(film=0.3).eval()
    frame, descriptors = inputs(batch=1, frames=1)
    with torch.no_grad():
        short, long = (encoder(frame.expand(-1, -1, -1, n), descriptors) for n in (200, 600))
    # Only the ends, where the kernels see padding, differ.
    assert torch.cosine_similarity(short, long).item() > 0.999


def test_works_from_the_fewest_frames_on_and_refuses_fewer() -> None:
    encoder = seeded().eval()
    mel, descriptors = inputs(frames=20)
    assert encoder(mel, descriptors).shape == (3, 32)
    with pytest.raises(ValueError, match=r"\b19\b.*\b20\b"):
        encoder(mel[..., :19], descriptors)


@pytest.mark.parametrize(
    ("mel", "descriptors", "wrong"),
    [
        ((2, 8, 64, 40), (2, 5), (2, 8, 64, 40)),
        ((2, 2, 128, 40), (2, 5), (2, 2, 128, 40)),
        ((2, 8, 128, 40), (2, 6), (2, 6)),
        ((2, 8, 128, 40), (1, 5), (1, 5)),
    ],
)
def test_refuses_other_shapes(mel: tuple[int, ...], descriptors: tuple[int, ...], wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(str(list(wrong)))):
        Encoder(SMALL)(torch.zeros(mel), torch.zeros(descriptors))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"band_step": 21}, "band_step=21"),
        ({"band_mels": 129}, "band_mels=129"),
        ({"band_mels": 7, "band_step": 7}, "band_mels=7"),
        ({"channels": (32, 0)}, "channels"),
        ({"dropout": 1.0}, "dropout"),
        ({"encoder_dim": 0}, "encoder_dim"),
    ],
)
def test_refuses_sizes_that_do_not_fit(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(SMALL, **change)


def test_runs_under_bfloat16_autocast() -> None:
    encoder = seeded(film=0.3).eval()
    mel, descriptors = inputs()
    with torch.no_grad():
        plain = encoder(mel, descriptors)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = encoder(mel, descriptors)
    # bfloat16 keeps 8 bits: 0.4% a step.
    assert torch.cosine_similarity(plain, cast.float()).min() > 0.999


def test_a_few_steps_lower_the_loss_on_a_toy_set() -> None:
    """Every song has a spectrum of its own under noise; negatives are lifted as a gain lifts log-mels."""
    generator = torch.Generator().manual_seed(0)
    songs, config = 6, dataclasses.replace(SMALL, n_mels=30)
    signature = 2 * torch.randn(songs, 8, config.n_mels, 1, generator=generator)
    encoder = seeded(config)
    losses = []
    for _ in range(8):
        anchor, positive, negative = (
            signature + torch.randn(songs, 8, config.n_mels, 20, generator=generator) for _ in range(3)
        )
        negative = negative + 1.5
        descriptors = torch.randn(3 * songs, 5, generator=generator)
        a, p, n = encoder(torch.cat([anchor, positive, negative]), descriptors).chunk(3)
        loss = info_nce(a, p, n, 0.1).loss
        encoder.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter -= 0.05 * (parameter.grad if parameter.grad is not None else 0.0)
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("form", ["grouped", "channels_last"])
@pytest.mark.parametrize("training", [False, True])
def test_every_form_gives_what_the_loop_gives(form: Form, training: bool) -> None:
    config = dataclasses.replace(SMALL, dropout=0.0)
    mel, descriptors = inputs(batch=4, frames=120, config=config)
    found = []
    for chosen in ("loop", form):
        encoder = seeded(config, film=0.3)
        encoder.form = chosen
        encoder.train(training)
        out = encoder(mel, descriptors)
        out.square().sum().backward()
        grads = [p.grad for p in encoder.parameters() if p.grad is not None]
        assert len(grads) == len(list(encoder.parameters()))
        state = encoder.state_dict()
        found.append((out.detach(), grads, [state[name] for name in state if "running" in name or "num_" in name]))
    (out, grads, norms), (other, other_grads, other_norms) = found
    # float32 sums in another order through a network: 1.4e-6 with AVX-512, 1.6e-6 with AVX2; six times that
    torch.testing.assert_close(other, out, atol=1e-5, rtol=0)
    for one, two in zip(grads, other_grads, strict=True):
        # Sums of 4 x 120 frames x 20 mels of float32 in another order: sqrt(n) 2^-24 of their magnitudes, some of which
        # cancel; a hundred times less than what a wrong kernel would change.
        torch.testing.assert_close(two, one, atol=1e-4 * max(1.0, float(one.abs().max())), rtol=0)
    for one, two in zip(norms, other_norms, strict=True):
        torch.testing.assert_close(two, one, atol=1e-6, rtol=1e-5)


def test_descriptors_that_skip_the_network_keep_their_whitened_cosines() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(channels=(2, 4), film_hidden=8, skip=True)).eval()
    d = torch.randn(6, len(DESCRIPTORS))
    mean, root = torch.randn(len(DESCRIPTORS)), torch.randn(len(DESCRIPTORS), len(DESCRIPTORS))
    encoder.skip.set_whitening(mean, root)
    with torch.no_grad():
        found = F.normalize(encoder.skip(encoder.normalised(d)), dim=-1)
        white = F.normalize((encoder.normalised(d) - mean) @ root, dim=-1)
        whole = encoder(torch.randn(6, 8, 128, 80), d)
        rest = whole - encoder.skip(encoder.normalised(d))
    assert torch.allclose(found @ found.T, white @ white.T, atol=1e-5)  # orthonormal columns, in float32
    assert rest.norm(dim=1).max() < 0.5 * encoder.skip(encoder.normalised(d)).norm(dim=1).min()
    again = untrained_like(encoder)
    assert torch.equal(again.skip.whitening, encoder.skip.whitening)


def test_descriptors_that_are_kept_stand_beside_what_was_trained() -> None:
    torch.manual_seed(4)
    count = len(DESCRIPTORS)
    encoder = Encoder(EncoderConfig(channels=(2, 4), film_hidden=8, skip=True)).eval()
    with torch.no_grad():  # as if training had turned the map away from the descriptors
        encoder.skip.map.weight.normal_()
    mean, root = torch.randn(count), torch.randn(count, count)
    encoder.skip.set_whitening(mean, root)
    mel, d = torch.randn(6, 8, 128, 60), torch.randn(6, count)
    wide = with_descriptor_share(encoder, 0.4)
    with torch.inference_mode():
        trained, both = F.normalize(encoder(mel, d), dim=-1), wide(mel, d)
        kept = (both - trained) / 0.4
    white = F.normalize((d - mean) @ root, dim=-1)
    # float32 rounds at 1.2e-7; sums over 768 and 128 products of values below 1
    torch.testing.assert_close(kept @ kept.T, white @ white.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(kept.norm(dim=1), torch.ones(6), rtol=0, atol=1e-5)
    again = Encoder(wide.config).eval()
    again.load_state_dict(wide.state_dict())
    back = with_descriptor_share(again, 0.0)
    with torch.inference_mode():
        assert torch.equal(again(mel, d), both)
        assert torch.equal(back(mel, d), encoder(mel, d))
    assert back.state_dict().keys() == encoder.state_dict().keys()


@pytest.mark.parametrize("changes", [{"skip": False}, {"encoder_dim": 64}, {"descriptor_share": -0.1}])
def test_a_share_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="descriptor_share"):
        EncoderConfig(**{"skip": True, "descriptor_share": 0.4, **changes})


def test_an_encoder_without_a_skip_has_the_weights_it_always_had() -> None:
    names = set(Encoder(EncoderConfig(channels=(2, 4))).state_dict())
    assert not any(name.startswith("skip") for name in names)
