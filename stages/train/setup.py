"""What a training run is built from: stems and descriptors that belong together, batches, network, learning rate."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mixstyle.cache.features_store import FeatureStore
from mixstyle.cache.stem_store.remote import RemoteStemCache
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.encoder.chain_head import ChainHead
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.fxnorm import StemTargets
from mixstyle.pipeline.mixing.mix_chain import CHAIN_PARAMETERS, PLACES, MixChainSettings
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.train import TrainSettings
from mixstyle.stages.train.data import Purpose, Recipe, Triplets


def open_inputs(settings: Settings) -> tuple[StemCache, FeatureStore]:
    """The stems and their descriptors, both finished and belonging together; else MixstyleError says what to run."""
    train = settings.train
    if train.stems_url:
        cache: StemCache = RemoteStemCache(train.stems_url, train.stems_cache_dir, 1e9 * train.stems_cache_gb)
    else:
        cache = StemCache(settings.separate.stems_dir)
    if not cache.complete:
        raise MixstyleError(
            f"{cache.stems_dir}: {len(cache.shards)} of {cache.n_shards} shards are there; run `mixstyle separate` "
            "again to finish"
        )
    store = FeatureStore.open(settings.features.features_path)
    if not store.complete or store.shard_sha256 != [shard.sha256 for shard in cache.shards]:
        raise MixstyleError(
            f"{store.path}: does not hold the descriptors of all stems in {cache.stems_dir}; run `mixstyle features`"
        )
    return cache, store


def shapes(options: TrainSettings, n_descriptors: int, cache: StemCache) -> tuple[StemMel, EncoderConfig]:
    """The mel and the encoder's sizes; what they refuse is told by the setting's name."""
    try:
        mel = StemMel(SAMPLE_RATE, options.n_fft, options.hop_length, options.n_mels)
        config = EncoderConfig(
            n_mels=options.n_mels,
            band_mels=options.band_mels,
            band_step=options.band_step,
            channels=(options.channels[0], options.channels[1]),
            dropout=options.dropout,
            encoder_dim=options.encoder_dim,
            film_hidden=options.film_hidden,
            n_descriptors=n_descriptors,
        )
    except ValueError as error:
        raise MixstyleError(f"train: {error}") from error
    frames = clip_frames(options)
    if mel.frames(frames) < config.min_frames:
        raise MixstyleError(
            f"train.clip_duration_s={options.clip_duration_s} gives {mel.frames(frames)} mel frames; the "
            f"encoder's poolings need {config.min_frames}"
        )
    if frames > cache.clip_frames:
        raise MixstyleError(
            f"train.clip_duration_s={options.clip_duration_s} is longer than the cached clips "
            f"({cache.clip_frames / SAMPLE_RATE:g} s); lower it or separate longer clips"
        )
    return mel, config


def clip_frames(options: TrainSettings) -> int:
    """Samples of each clip that are used."""
    return round(options.clip_duration_s * SAMPLE_RATE)


def recipe_of(options: TrainSettings, store: FeatureStore) -> Recipe:
    """How clips are drawn and mixed. Raises MixstyleError for effects that do not exist."""
    try:
        remix = MixChainSettings(
            options.aug_prob,
            options.aug_gain_range_db,
            options.aug_effects,
            options.aug_mix_prob,
            options.aug_shuffle,
            options.loudness_match,
        )
    except ValueError as error:
        raise MixstyleError(f"train.aug_{error}") from error
    targets = StemTargets.from_medians(store.names, statistics(store)[0]) if options.fx_normalise else None
    return Recipe(remix, options.objective, targets, style_effects_of(options))


def style_effects_of(options: TrainSettings) -> tuple[int, int] | None:
    """Fewest and most effects of a style. Raises MixstyleError for what is no such pair."""
    if not options.style_effects:
        return None
    if len(options.style_effects) != 2 or not 1 <= options.style_effects[0] <= options.style_effects[1] <= len(EFFECTS):
        raise MixstyleError(
            f"train.style_effects={list(options.style_effects)} should be [least, most] within 1 to {len(EFFECTS)}, "
            "or []"
        )
    return options.style_effects[0], options.style_effects[1]


def statistics(store: FeatureStore) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Center and scale [D] of the descriptors, over the training songs."""
    return store.stored_statistics() or store.statistics()


def datasets(
    options: TrainSettings, cache: StemCache, store: FeatureStore, describe_here: bool
) -> tuple[Triplets, Triplets | None]:
    """What is trained on, and what judges it; None where fewer than two tracks are held out."""
    rows, recipe = store.values(), recipe_of(options, store)

    def make(tracks: Sequence[CachedTrack], size: int, purpose: Purpose) -> Triplets:
        return Triplets(
            cache,
            tracks,
            rows,
            recipe,
            seed=options.seed,
            batch_size=size,
            clip_frames=clip_frames(options),
            describe_here=describe_here,
            purpose=purpose,
        )

    train, held = (with_pairs(cache, split) for split in ("train", "validation"))
    training = make(train, options.batch_size, "train")
    if len(held) < 2:
        return training, None  # one track has no negatives of others: the training loss judges
    return training, make(held, min(options.batch_size, len(held)), "validation")


def with_pairs(cache: StemCache, split: str) -> list[CachedTrack]:
    """Tracks of a split that have two clips."""
    return [track for track in cache.tracks if track.split == split and len(track.clips) >= 2]


def head_of(options: TrainSettings) -> ChainHead | None:
    """The head that tells what was done, where its loss counts."""
    return ChainHead(options.encoder_dim, len(PLACES) * len(CHAIN_PARAMETERS)) if options.chain_weight else None


def new_encoder(config: EncoderConfig, store: FeatureStore, seed: int) -> Encoder:
    """An encoder with weights from the seed, that knows how its descriptors are distributed."""
    torch.manual_seed(seed)
    encoder = Encoder(config)
    encoder.set_descriptor_statistics(*map(torch.from_numpy, statistics(store)))
    return encoder


def learning_rate(options: TrainSettings, step: int, total: int) -> float:
    """The learning rate of a step, counted from 0: a function of it alone, so that no state is needed to go on.

    It rises linearly over `warmup_steps`, then stays, or falls to 0 along half a cosine (Loshchilov, Hutter: "SGDR",
    ICLR 2017, eq. 5, without restarts).
    """
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    if options.schedule == "constant":
        return options.learning_rate
    share = (step - options.warmup_steps) / max(total - options.warmup_steps, 1)
    return options.learning_rate * (1 + math.cos(math.pi * min(share, 1.0))) / 2
