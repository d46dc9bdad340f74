"""The distance that the search of `match` goes by: of descriptors, whitened as an encoder knows them."""

from pathlib import Path

from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.cache.models.exports import load_encoder
from mixstyle.pipeline.matching.metric import DescriptorMetric


def metric_of(loaded: LoadedEncoder) -> DescriptorMetric:
    """By an encoder's statistics of descriptors: whitened, or where it was trained without, by their scales alone."""
    encoder = loaded.encoder
    whitening = encoder.skip.whitening.cpu().numpy() if encoder.config.skip else None
    return DescriptorMetric(encoder.descriptor_scale.cpu().numpy(), whitening)


def metric_of_file(path: Path) -> DescriptorMetric:
    """By an encoder's file. Raises MixstyleError as `load_encoder` does."""
    return metric_of(load_encoder(path))
