"""Hybrid Transformer Demucs (Rouard, Massa, Défossez, ICASSP 2023), whose network comes from the package `demucs`.

MSST's YAML says `model: htdemucs` and has the network's settings in a section of that name. The weights are those of
MSST, or of Demucs itself as safetensors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.separation.architectures.base import Architecture, SeparationNetwork, load_weights

_OURS = {"sources", "audio_channels", "samplerate", "segment", "use_train_segment"}
"""Settings of the network that follow from the rest of the YAML, or are the same for all."""


@dataclass(frozen=True)
class HTDemucsConfig:
    """The YAML's `htdemucs` section. settings: what is given to the network beside `_OURS`, by name, sorted."""

    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def least_chunk_frames(self) -> int:
        """One second: its STFT of 4096 samples reflects what is beyond the ends."""
        return SAMPLE_RATE

    @classmethod
    def from_mapping(cls, model: Mapping[str, Any]) -> "HTDemucsConfig":
        """Reads the section; settings that the network does not have are refused by name.

        Raises MixstyleError, no-package where Demucs is not installed.
        """
        values = dict(model)
        if values.pop("num_subbands", 1) != 1:  # MSST's own addition to the network
            raise MixstyleError("htdemucs.num_subbands: only 1 can be used", code="bad-setting")
        sources = values.pop("sources", cls.sources)
        if not isinstance(sources, list | tuple):
            raise MixstyleError(f"htdemucs.sources={sources!r}: should be a list of stems", code="bad-setting")
        unknown = sorted(map(str, values.keys() - (signature(_network_class()).parameters.keys() - _OURS)))
        if unknown:
            raise MixstyleError(f"htdemucs.{unknown[0]}: HTDemucs has no such setting", code="unknown-setting")
        return cls(
            tuple(sources), tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in values.items()))
        )


class HTDemucsNetwork(nn.Module):
    """Mixtures [B, 2, T] to stems [B, S, 2, T], both float32, for any T of a second and more.

    The network normalises its input itself, so the level of the mixtures matters little.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, mixtures: Tensor) -> Tensor:
        reduced = self.dtype != torch.float32
        with torch.autocast(mixtures.device.type, self.dtype if reduced else torch.bfloat16, enabled=reduced):
            return self.network(mixtures).float()


def _network_class() -> Callable[..., nn.Module]:
    try:
        from demucs.htdemucs import HTDemucs  # imported where it is needed: most separators are others
    except ImportError as error:
        raise MixstyleError(
            "an HTDemucs separator needs the package demucs: install mixstyle with its extra, mixstyle[demucs]",
            code="no-package",
        ) from error
    return HTDemucs


def _build(config: HTDemucsConfig, weights: Mapping[str, Tensor], dtype: torch.dtype) -> SeparationNetwork:
    make, settings = _network_class(), {k: list(v) if isinstance(v, tuple) else v for k, v in config.settings}
    try:
        # Chunks are all of one length, that of the YAML: the network need not fill them up to its own.
        network = make(list(config.sources), samplerate=SAMPLE_RATE, use_train_segment=False, **settings)
    except (TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError) as error:
        raise MixstyleError(f"`htdemucs` has a value that makes no network ({error})", code="bad-setting") from error
    load_weights(network, weights)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return SeparationNetwork(HTDemucsNetwork(network, dtype).eval(), "HTDemucs", parameters, "htdemucs")


ARCHITECTURE = Architecture("htdemucs", lambda model: False, HTDemucsConfig.from_mapping, _build)
