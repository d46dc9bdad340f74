"""Audio as Python programs have it: arrays of numpy and tensors, as librosa, soundfile and torchaudio give them."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixstyle.cache.music.music_file import RATES_HZ, check_samples
from mixstyle.cache.music.reader import UnreadableMusic, resample_to_44100
from mixstyle.cache.music.stem_folders import MOST_APART_S
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS

Audio = Tensor | NDArray[np.generic]
"""[T], [2, T] or [T, 2] ([1, T] and [T, 1] too), of any integer or float type; whole numbers have full scale at the
largest of their type."""


def check_rate(sample_rate: int) -> None:
    """Raises MixstyleError (bad-option) for what is no sample rate."""
    low, high = RATES_HZ
    whole = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not whole or not low <= sample_rate <= high:
        raise MixstyleError(
            f"sample_rate={sample_rate!r}: should be a whole number of Hz from {low} to {high}", code="bad-option"
        )


def as_mixture(audio: Audio, sample_rate: int, name: str) -> Tensor:
    """Audio as [2, T] float32 at 44.1 kHz; mono goes to both channels. name: for messages.

    Raises MixstyleError (bad-audio) for other shapes and types, and for samples that are not finite or far beyond full
    scale.
    """
    samples = _floats(audio, name)
    shape = list(samples.shape)
    if samples.ndim == 1:
        samples = samples[None]
    channels_last = samples.ndim == 2 and samples.shape[1] in (1, 2) and samples.shape[0] > 2
    samples = samples.T if channels_last else samples
    if samples.ndim != 2 or samples.shape[0] not in (1, 2):
        raise MixstyleError(
            f"{name}: should be [T], [T, 2] or [2, T], not {shape}; several are a list, or [N, 2, T]", code="bad-audio"
        )
    try:
        check_samples(samples)
    except UnreadableMusic as error:
        raise MixstyleError(f"{name}: {error}", code="bad-audio") from error
    converted = resample_to_44100(np.ascontiguousarray(samples, np.float32), int(sample_rate))
    return torch.from_numpy(np.array(np.broadcast_to(converted, (2, converted.shape[1]))))


def as_stems(given: Mapping[str, Audio], sample_rate: int, name: str) -> Tensor:
    """Stems by name as [4, 2, T] float32 at 44.1 kHz, as long as the shortest of them.

    Raises MixstyleError (bad-audio) as `as_mixture` does, for other names, and for lengths far apart.
    """
    if set(given) != set(STEMS):
        raise MixstyleError(
            f"{name}: stems should be {', '.join(STEMS)}, not {', '.join(given) or 'none'}", code="bad-audio"
        )
    found = [as_mixture(given[stem], sample_rate, f"{name}: {stem}") for stem in STEMS]
    frames = [stem.shape[1] for stem in found]
    if max(frames) - min(frames) > MOST_APART_S * SAMPLE_RATE:
        raise MixstyleError(
            f"{name}: stems should be equally long, not {sorted(tuple(stem.shape) for stem in found)}", code="bad-audio"
        )
    return torch.stack([stem[:, : min(frames)] for stem in found])


def _floats(audio: Audio, name: str) -> NDArray[np.floating]:
    """Samples as floats with full scale at 1."""
    if isinstance(audio, Tensor):
        audio = audio.detach().cpu()
        samples = (audio.float() if audio.dtype is torch.bfloat16 else audio).numpy()
    else:
        samples = np.asarray(audio)
    samples = cast(NDArray[Any], samples)
    kind = samples.dtype.kind
    if kind == "f":
        return samples
    if kind not in "iu":
        raise MixstyleError(f"{name}: should hold whole numbers or floats, not {samples.dtype}", code="bad-audio")
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return samples / half - (1.0 if kind == "u" else 0.0)
