"""What an architecture of separators is: how its settings are read and how a network is built from its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.kernels.lstm import LstmKernel


class ModelConfig(Protocol):
    """The `model` section of a separator's YAML; a frozen dataclass, since its fields go into the fingerprint."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The stems in the order of the network's output."""
        ...

    @property
    def least_chunk_frames(self) -> int:
        """The shortest audio, in samples, that the network takes."""
        ...


@runtime_checkable
class TakesLstmKernel(Protocol):
    """A network whose LSTMs a kernel may compute."""

    def use_lstm_kernel(self, kernel: LstmKernel | None) -> bool:
        """Has a kernel compute the LSTMs, or torch again (None); False where the kernel does not take them."""
        ...


@dataclass(frozen=True)
class SeparationNetwork:
    """A network that is ready to separate.

    module: mixtures [B, 2, T] -> stems [B, 4, 2, T], both float32, in the order of the settings' `sources`; called from
    several threads at once. description: for people. parameters: how many. form: which of several published forms it
    has; part of the separator's fingerprint.
    """

    module: nn.Module
    description: str
    parameters: int
    form: str = ""


@dataclass(frozen=True)
class Architecture:
    """A kind of network that can separate.

    name: what a YAML's `architecture` says. recognises: whether a YAML's `model` section is of this architecture, for
    files that do not say so. read_config: the settings from that section; raises MixstyleError naming a wrong one.
    build: (settings, weights, dtype) -> the network; dtype is what the heavy layers compute in (float32, bfloat16 or
    float16). It raises MixstyleError, as `load_weights` does, for weights that do not fit the settings.
    """

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    read_config: Callable[[Mapping[str, Any]], ModelConfig]
    build: Callable[[Any, Mapping[str, Tensor], torch.dtype], SeparationNetwork]


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Puts weights into a network, all of them. Raises MixstyleError (misfit) naming the first that does not fit."""
    own = network.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing:
        raise MixstyleError(f"the weights lack {missing[0]}", code="misfit")
    if extra:
        raise MixstyleError(f"the weights hold {extra[0]}, which the network does not have", code="misfit")
    wrong = next((name for name in own if own[name].shape != weights[name].shape), None)
    if wrong is not None:
        shapes = f"{list(weights[wrong].shape)}, the settings make it {list(own[wrong].shape)}"
        raise MixstyleError(f"{wrong} has shape {shapes}", code="misfit")
    network.load_state_dict(weights)
