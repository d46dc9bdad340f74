"""SCNet as an architecture: which YAML files are its own, and the network that separates from its weights."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from mixstyle.pipeline.separation.architectures.base import Architecture, SeparationNetwork, load_weights
from mixstyle.pipeline.separation.architectures.scnet_inference import InferenceSCNet
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, SCNetConfig, form_of


def _recognises(model: Mapping[str, Any]) -> bool:
    """By any setting that only SCNet has; a section that leaves all of these out has its defaults."""
    own = {field.name for field in fields(SCNetConfig)}
    return not model or bool(model.keys() & own)


def _build(config: SCNetConfig, weights: Mapping[str, Tensor], dtype: torch.dtype) -> SeparationNetwork:
    network = SCNet(config, form_of(weights))
    load_weights(network, weights)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return SeparationNetwork(InferenceSCNet(network, dtype), f"SCNet {network.form}", parameters, network.form)


ARCHITECTURE = Architecture("scnet", _recognises, SCNetConfig.from_mapping, _build)
