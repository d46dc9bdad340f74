"""The encoder: stems' log-mels, cut into overlapping sub-bands that the mix's descriptors modulate, to one embedding.

Each sub-band has its own small convolutional network, as in SubSpectralNet (Phaye, Benetos, Wang: "SubSpectralNet -
Using Sub-Spectrogram based Convolutional Neural Networks for Acoustic Scene Classification", ICASSP 2019): a kernel
then learns what matters in its part of the spectrum. The descriptors scale and shift every channel by FiLM (Perez,
Strub, de Vries, Dumoulin, Courville: "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018). Nothing is
flattened over time: the bands' channels and frequencies are merged, temporal attention pools the frames, and a
projection gives the embedding; so clips of any length go in. Pooled are the frames' means, or their means and standard
deviations under the same weights (Okabe, Koshinaka, Shinoda: "Attentive Statistics Pooling for Deep Speaker
Embedding", Interspeech 2018).

A band's parameters are under `bands.<i>`, of equal shapes in all bands: stacked or concatenated along the first
dimension they are those of one grouped network.
"""

import copy
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.core.stems import CHANNELS
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.encoder.batch_norm import BatchNorm2d, batch_norm_side_by_side

POOL_FIRST = (2, 5)
POOL_SECOND = (4, 4)
"""(mels, frames) that the two poolings merge, as published."""
KERNEL = 7
SKIP_LENGTH = 4.0
"""Length of the descriptors' part of an embedding, where there is one, before training."""
VARIANCE_FLOOR = 1e-4
"""Added to the frames' variance before its root, of features whose scale is about 1."""
DESCRIPTOR_LIMIT = 5.0
"""Normalised descriptors are clamped to plus and minus this, so that a floor (silence) does not swamp FiLM."""


Pooling = Literal["mean", "statistics"]


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of an encoder; the defaults are the published ones.

    Raises ValueError for sub-bands that do not fit into the mels or that the poolings would leave empty.
    """

    n_mels: int = 128
    band_mels: int = 20
    """Mels in a sub-band."""
    band_step: int = 10
    """Mels from one sub-band's start to the next."""
    channels: tuple[int, int] = (32, 64)
    """Channels of the two convolutions of a sub-band."""
    dropout: float = 0.1
    encoder_dim: int = 768
    film_hidden: int = 128
    """Hidden units of the network that turns descriptors into FiLM's gamma and beta."""
    n_descriptors: int = len(DESCRIPTORS)
    skip: bool = False
    """Whether whitened descriptors are added to the projection, which then starts with what they know."""
    descriptor_share: float = 0.0
    """Length of whitened descriptors that are kept as they are, beside the trained part at length 1; 0: none."""
    input_lufs: float | None = None
    """The loudness that clips are brought to before anything else (`mixstyle.pipeline.encoder.levels`); None: none."""
    pooling: Pooling = "mean"
    """What temporal attention gives of the frames: their weighted mean, or that and their standard deviation."""
    part_s: float | None = None
    """Seconds: longer clips are embedded in equal parts of about this length (`mixstyle.pipeline.encoder.embed_clips`);
    None: as a whole."""

    def __post_init__(self) -> None:
        if not 1 <= self.band_step <= self.band_mels <= self.n_mels:
            raise ValueError(
                f"band_step={self.band_step} should be at most band_mels={self.band_mels}, "
                f"and that at most n_mels={self.n_mels}: every mel must be in a sub-band"
            )
        if self.band_mels < POOL_FIRST[0] * POOL_SECOND[0]:
            raise ValueError(f"band_mels={self.band_mels} should be {POOL_FIRST[0] * POOL_SECOND[0]} or more")
        if len(self.channels) != 2 or min(self.channels) < 1:
            raise ValueError(f"channels={self.channels} should be two numbers above 0")
        if min(self.encoder_dim, self.film_hidden, self.n_descriptors) < 1:
            raise ValueError("encoder_dim, film_hidden and n_descriptors should be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} should be between 0 and 1")
        if not self.descriptor_share >= 0:
            raise ValueError(f"descriptor_share={self.descriptor_share} should be 0 or more")
        if self.descriptor_share and not (self.skip and self.n_descriptors <= self.encoder_dim):
            raise ValueError("descriptor_share needs a descriptor skip, and no more descriptors than encoder_dim")
        if self.part_s is not None and not self.part_s > 0:
            raise ValueError(f"part_s={self.part_s} should be above 0")
        if self.pooling not in get_args(Pooling):
            raise ValueError(f"pooling={self.pooling!r} should be one of {', '.join(get_args(Pooling))}")

    @property
    def band_starts(self) -> tuple[int, ...]:
        """First mel of each sub-band: every band_step, and a last band that ends at the top mel.

        >>> EncoderConfig().band_starts[-2:]
        (100, 108)
        """
        last = self.n_mels - self.band_mels
        starts = tuple(range(0, last + 1, self.band_step))
        return starts if starts[-1] == last else (*starts, last)

    @property
    def band_features(self) -> int:
        """Features that one sub-band gives a pooled frame: its channels times the frequencies left."""
        return self.channels[1] * (self.band_mels // POOL_FIRST[0] // POOL_SECOND[0])

    @property
    def min_frames(self) -> int:
        """Fewest mel frames of which the poolings leave one."""
        return POOL_FIRST[1] * POOL_SECOND[1]


Form = Literal["loop", "grouped", "channels_last"]
"""One sub-band after the other; all in grouped convolutions; one after the other with channels last in memory."""
FASTEST_FORM: dict[str, Form] = {"cpu": "channels_last", "cuda": "grouped"}
"""By device; benchmarks/training.py measures them."""


class FilmConv(nn.Module):
    """Convolution, batch normalisation, FiLM, ReLU, max-pooling.

    gamma = 1 + the first half of a linear map of the conditioning, beta = the second half. The map starts at zero, so
    an untrained layer is the identity; its bias takes the place of the normalisation's own scale and shift, which
    are left out as in FiLM's section 3.2.
    """

    def __init__(self, channels_in: int, channels_out: int, conditioning: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, KERNEL, padding=KERNEL // 2, bias=False)
        self.norm = BatchNorm2d(channels_out, affine=False)
        self.film = nn.Linear(conditioning, 2 * channels_out)
        self.pool = nn.MaxPool2d(pool)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """x [B, channels_in, M, F] and conditioning [B, H] to [B, channels_out, M // pool[0], F // pool[1]]."""
        gamma, beta = self.film(conditioning)[:, :, None, None].chunk(2, dim=1)
        x = torch.addcmul(beta, self.norm(self.conv(x)), 1 + gamma)
        return self.pool(torch.relu(x))


class SubBand(nn.Module):
    """The network of one sub-band: two FiLM-modulated convolutions and dropout."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        first, second = config.channels
        self.first = FilmConv(len(CHANNELS), first, config.film_hidden, POOL_FIRST)
        self.second = FilmConv(first, second, config.film_hidden, POOL_SECOND)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, mel: Tensor, conditioning: Tensor) -> Tensor:
        """Mels [B, 8, band_mels, F] and conditioning [B, H] to features [B, band_features, F // 20]."""
        x = self.second(self.first(mel, conditioning), conditioning)
        return self.dropout(x).flatten(1, 2)


class TemporalAttention(nn.Module):
    """Pools frames by learned weights that sum to 1 over time (additive attention with one query)."""

    def __init__(self, features: int, hidden: int, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.pooled = features * (2 if pooling == "statistics" else 1)
        """Length of what `forward` gives."""
        self.hidden = nn.Linear(features, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """Weights [B, F] of the frames of x [B, F, features], in float32."""
        return torch.softmax(self.score(torch.tanh(self.hidden(x))).squeeze(-1).float(), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, F, features] to [B, pooled]: weighted means, and behind them weighted standard deviations."""
        weights, x = self.weights(x)[:, :, None], x.float()
        mean = (weights * x).sum(1)
        if self.pooled == x.shape[-1]:
            return mean
        variance = (weights * (x - mean[:, None]).square()).sum(1)
        # the root's slope grows without limit towards 0
        return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=-1)


class DescriptorSkip(nn.Module):
    """Normalised descriptors, whitened and brought to unit length, as a part of the embedding.

    The map starts with orthonormal columns, so an embedding of this part only has the cosines of the whitened
    descriptors themselves. Until `set_whitening`, the descriptors are taken as they are. kept: also has orthonormal
    columns that are not trained, for `kept`.
    """

    whitening: Tensor
    mean: Tensor
    columns: Tensor

    def __init__(self, descriptors: int, embedding: int, kept: bool = False) -> None:
        super().__init__()
        if kept:
            drawn = torch.randn(embedding, descriptors, generator=torch.Generator().manual_seed(0))
            self.register_buffer("columns", torch.linalg.qr(drawn).Q)
        self.register_buffer("mean", torch.zeros(descriptors))
        self.register_buffer("whitening", torch.eye(descriptors))
        self.map = nn.Linear(descriptors, embedding, bias=False)
        nn.init.orthogonal_(self.map.weight, gain=SKIP_LENGTH)

    def set_whitening(self, mean: Tensor, whitening: Tensor) -> None:
        """Takes (d - mean) @ whitening from now on; [D] and [D, D], of normalised descriptors."""
        self.mean.copy_(mean)
        self.whitening.copy_(whitening)

    def forward(self, normalised: Tensor) -> Tensor:
        """[B, D] to [B, E]."""
        with torch.autocast(normalised.device.type, enabled=False):
            return self.map(self._white(normalised))

    def kept(self, normalised: Tensor) -> Tensor:
        """[B, D] to [B, E] of length 1, with the cosines of the whitened descriptors, whatever was trained."""
        with torch.autocast(normalised.device.type, enabled=False):
            return self._white(normalised) @ self.columns.T

    def _white(self, normalised: Tensor) -> Tensor:
        return F.normalize((normalised - self.mean) @ self.whitening, dim=-1)


class Encoder(nn.Module):
    """Log-mels and descriptors of clips to embeddings.

    Descriptors go in raw, in their own units; `set_descriptor_statistics` tells how they are normalised (until then
    they are taken as they are). Embeddings are not normalised to unit length.

    >>> encoder = Encoder(EncoderConfig(channels=(4, 8))).eval()
    >>> encoder(torch.zeros(2, 8, 128, 173), torch.zeros(2, len(DESCRIPTORS))).shape
    torch.Size([2, 768])
    """

    descriptor_center: Tensor
    descriptor_scale: Tensor

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EncoderConfig()
        hidden = config.film_hidden
        self.register_buffer("descriptor_center", torch.zeros(config.n_descriptors))
        self.register_buffer("descriptor_scale", torch.ones(config.n_descriptors))
        self.conditioner = nn.Sequential(
            nn.Linear(config.n_descriptors, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.bands = nn.ModuleList(SubBand(config) for _ in config.band_starts)
        features = len(config.band_starts) * config.band_features
        self.attention = TemporalAttention(features, hidden, config.pooling)
        self.projection = nn.Linear(self.attention.pooled, config.encoder_dim)
        if config.skip:
            self.skip = DescriptorSkip(config.n_descriptors, config.encoder_dim, config.descriptor_share > 0)
            with torch.no_grad():  # what was never trained says nothing beside the descriptors
                self.projection.weight.mul_(0.1)
                self.projection.bias.zero_()

    form: Form | None = None
    """How the sub-bands are computed; None: as is fastest on the device. All give the same within float32's rounding,
    but for dropout's masks."""

    def set_descriptor_statistics(self, center: Tensor, scale: Tensor) -> None:
        """Normalises descriptors as (d - center) / scale from now on; both [n_descriptors], in the descriptors' units.

        A descriptor that never varied has scale 0: it is taken with scale 1. Raises ValueError for other shapes, for
        values that are not finite and for a scale below 0.
        """
        center = torch.as_tensor(center).to(self.descriptor_center)
        scale = torch.as_tensor(scale).to(self.descriptor_scale)
        if not center.shape == scale.shape == self.descriptor_center.shape:
            raise ValueError(
                f"center and scale should hold {self.config.n_descriptors} values each, "
                f"not {list(center.shape)} and {list(scale.shape)}"
            )
        if not (center.isfinite().all() and scale.isfinite().all() and (scale >= 0).all()):
            raise ValueError("center and scale should be finite, and scale not below 0")
        self.descriptor_center.copy_(center)
        self.descriptor_scale.copy_(torch.where(scale > 0, scale, 1.0))

    def normalised(self, descriptors: Tensor) -> Tensor:
        """Raw descriptors [B, D] as (d - center) / scale within plus and minus DESCRIPTOR_LIMIT."""
        normal = (descriptors.float() - self.descriptor_center) / self.descriptor_scale
        return normal.clamp(-DESCRIPTOR_LIMIT, DESCRIPTOR_LIMIT)

    def condition(self, descriptors: Tensor) -> Tensor:
        """Conditioning [B, film_hidden] from raw descriptors [B, D]."""
        return self.conditioner(self.normalised(descriptors))

    def frames(self, mel: Tensor, descriptors: Tensor) -> Tensor:
        """Features [B, F // 20, bands * band_features] of the pooled frames, all bands merged."""
        config = self.config
        if mel.ndim != 4 or mel.shape[1:3] != (len(CHANNELS), config.n_mels):
            raise ValueError(f"mel should be [B, {len(CHANNELS)}, {config.n_mels}, F], not {list(mel.shape)}")
        if mel.shape[-1] < config.min_frames:
            raise ValueError(f"a clip of {mel.shape[-1]} mel frames is too short: {config.min_frames} are needed")
        if descriptors.shape != (len(mel), config.n_descriptors):
            raise ValueError(
                f"descriptors should be [{len(mel)}, {config.n_descriptors}], not {list(descriptors.shape)}"
            )
        conditioning = self.condition(descriptors)
        form = self.form or FASTEST_FORM.get(mel.device.type, "loop")
        if form == "grouped":
            return self._grouped(mel, conditioning).transpose(1, 2)
        if form == "channels_last":
            mel = mel.contiguous(memory_format=torch.channels_last)
        merged = [
            band(mel[:, :, start : start + config.band_mels], conditioning)
            for band, start in zip(self.bands, config.band_starts, strict=True)
        ]
        return torch.cat(merged, dim=1).transpose(1, 2)

    def _grouped(self, mel: Tensor, conditioning: Tensor) -> Tensor:
        """All bands in one network of grouped convolutions: [B, bands * band_features, F // 20]."""
        config, bands = self.config, [band for band in self.bands if isinstance(band, SubBand)]
        cut = [mel[:, :, start : start + config.band_mels] for start in config.band_starts]
        x = torch.cat(cut, 1)
        for layers in ([band.first for band in bands], [band.second for band in bands]):
            x = F.conv2d(x, torch.cat([f.conv.weight for f in layers]), padding=KERNEL // 2, groups=len(layers))
            x = batch_norm_side_by_side(x, [f.norm for f in layers])
            weight, bias = torch.cat([f.film.weight for f in layers]), torch.cat([f.film.bias for f in layers])
            film = F.linear(conditioning, weight, bias).unflatten(1, (len(layers), 2, -1))
            gamma, beta = film[:, :, 0].flatten(1), film[:, :, 1].flatten(1)
            x = torch.addcmul(beta[:, :, None, None], x, 1 + gamma[:, :, None, None])
            x = layers[0].pool(torch.relu(x))
        return F.dropout(x, config.dropout, self.training).flatten(1, 2)

    def forward(self, mel: Tensor, descriptors: Tensor) -> Tensor:
        """Embeddings [B, encoder_dim] of log-mels [B, 8, n_mels, F] and raw descriptors [B, D].

        Raises ValueError for other shapes and for fewer frames than the poolings need (`config.min_frames`).
        """
        embedding = self.projection(self.attention(self.frames(mel, descriptors)))
        if not self.config.skip:
            return embedding
        normal = self.normalised(descriptors)
        embedding = embedding + self.skip(normal)
        if not self.config.descriptor_share:
            return embedding
        return F.normalize(embedding.float(), dim=-1) + self.config.descriptor_share * self.skip.kept(normal)


def with_descriptor_share(trained: Encoder, share: float) -> Encoder:
    """The encoder with whitened descriptors beside its trained part: `share` as `EncoderConfig.descriptor_share`.

    Raises ValueError where it was trained without a descriptor skip, whose whitening is used.
    """
    encoder = Encoder(replace(trained.config, descriptor_share=share))
    known = trained.state_dict()
    if share:  # the columns are the same in every encoder of these sizes
        known = {**known, "skip.columns": encoder.skip.columns}
    else:
        known.pop("skip.columns", None)
    encoder.load_state_dict(known)
    return encoder.to(trained.descriptor_center.device).train(trained.training)


def with_part_s(trained: Encoder, part_s: float | None) -> Encoder:
    """The encoder with `part_s` as `EncoderConfig.part_s`, on which no weight depends; its weights are shared."""
    encoder = copy.copy(trained)
    encoder.config = replace(trained.config, part_s=part_s)
    return encoder


def untrained_like(trained: Encoder, seed: int = 0) -> Encoder:
    """An encoder of the same sizes and descriptor statistics with the weights that a seed gives, for evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(trained.config)
    encoder.set_descriptor_statistics(trained.descriptor_center.cpu(), trained.descriptor_scale.cpu())
    if trained.config.skip:
        encoder.skip.set_whitening(trained.skip.mean.cpu(), trained.skip.whitening.cpu())
    return encoder.eval()
