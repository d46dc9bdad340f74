"""What a training run is built from, by its settings: batches, network, and the head beside it."""

from collections.abc import Sequence

import numpy as np
import torch

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.mel_store import MelStore
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.robust_statistics import robust_statistics
from mixstyle.pipeline.descriptors.whitening import within_group_whitening
from mixstyle.pipeline.encoder.chain_head import ChainHead, GroupHead
from mixstyle.pipeline.encoder.distributed import world
from mixstyle.pipeline.encoder.embed_clips import SHORTEST_PART
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.encoder.levels import gains_db, levelled_descriptors
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.pipeline.encoder.objectives.registry import all_objectives, objectives
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.fxnorm import StemTargets
from mixstyle.pipeline.mixing.mix_chain import CHAIN_PARAMETERS, PLACES, MixChainSettings
from mixstyle.stages.settings.train import TrainSettings
from mixstyle.stages.train.data import Items, Purpose, Recipe
from mixstyle.stages.train.grid import BankItems, BlockReader, blocks_of
from mixstyle.stages.train.provenance import reads_bank, reads_streams
from mixstyle.stages.train.readers import RandomReader, StreamReader


def shapes(options: TrainSettings, n_descriptors: int, cache: StemCache) -> tuple[StemMel, EncoderConfig]:
    """The mel and the encoder's sizes; what they refuse is told by the setting's name."""
    try:
        mel = StemMel(SAMPLE_RATE, options.n_fft, options.hop_length, options.n_mels, options.channel_pairs)
        config = EncoderConfig(
            n_mels=options.n_mels,
            band_mels=options.band_mels,
            band_step=options.band_step,
            channels=(options.channels[0], options.channels[1]),
            dropout=options.dropout,
            encoder_dim=options.encoder_dim,
            film_hidden=options.film_hidden,
            n_descriptors=n_descriptors,
            skip=options.descriptor_skip,
            descriptor_share=options.descriptor_share,
            input_lufs=options.input_lufs,
            pooling=options.pooling,
            part_s=options.part_s,
        )
    except ValueError as error:
        raise MixstyleError(f"train: {error}", code="bad-setting") from error
    frames = clip_frames(options)
    if mel.frames(frames) < config.min_frames:
        raise MixstyleError(
            f"train.clip_duration_s={options.clip_duration_s} gives {mel.frames(frames)} mel frames; the "
            f"encoder's poolings need {config.min_frames}",
            code="bad-setting",
        )
    if (
        options.part_s is not None
        and mel.frames(round(options.part_s * SAMPLE_RATE * SHORTEST_PART)) < config.min_frames
    ):
        raise MixstyleError(
            f"train.part_s={options.part_s} is too short: parts of clips need {config.min_frames} mel frames",
            code="bad-setting",
        )
    if frames > cache.clip_frames:
        raise MixstyleError(
            f"train.clip_duration_s={options.clip_duration_s} is longer than the cached clips "
            f"({cache.clip_frames / SAMPLE_RATE:g} s); lower it or separate longer clips",
            code="bad-setting",
        )
    return mel, config


def clip_frames(options: TrainSettings) -> int:
    """Samples of each clip that are used."""
    return round(options.clip_duration_s * SAMPLE_RATE)


def check_objective(options: TrainSettings) -> None:
    """Raises MixstyleError ("bad-setting") for an objective that does not exist."""
    if options.objective not in all_objectives():
        raise MixstyleError(
            f"train.objective={options.objective!r}: no such objective; there are {', '.join(all_objectives())}",
            code="bad-setting",
        )


def recipe_of(options: TrainSettings, store: FeatureStore) -> Recipe:
    """How clips are drawn and mixed. Raises MixstyleError for an objective or effects that do not exist."""
    check_objective(options)
    objective = objectives()[options.objective]
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
        raise MixstyleError(f"train.aug_{error}", code="bad-setting") from error
    targets = StemTargets.from_medians(store.names, store.training_statistics()[0]) if options.fx_normalise else None
    return Recipe(remix, objective, targets, chain_effects_of(options))


def chain_effects_of(options: TrainSettings) -> tuple[int, int] | None:
    """Fewest and most effects of a chain. Raises MixstyleError for what is no such pair."""
    if not options.chain_effects:
        return None
    if len(options.chain_effects) != 2 or not 1 <= options.chain_effects[0] <= options.chain_effects[1] <= len(EFFECTS):
        raise MixstyleError(
            f"train.chain_effects={list(options.chain_effects)} should be [least, most] within 1 to {len(EFFECTS)}, "
            "or []",
            code="bad-setting",
        )
    return options.chain_effects[0], options.chain_effects[1]


def datasets(
    options: TrainSettings, cache: StemCache, store: FeatureStore, describe_here: bool
) -> tuple[Items, Items | None]:
    """What is trained on, and what judges it; None where fewer than two tracks are held out."""
    rows, recipe = store.values(), recipe_of(options, store)

    def make(tracks: Sequence[CachedTrack], size: int, purpose: Purpose) -> Items:
        return Items(
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

    train, held = (cache.tracks_with_pairs(split) for split in ("train", "validation"))
    training = make(train, options.batch_size, "train")
    if len(held) < 2:
        return training, None  # one track has no negatives of others: the training loss judges
    return training, make(held, min(options.batch_size, len(held)), "validation")


def bank_datasets(
    options: TrainSettings, cache: StemCache, store: FeatureStore, describe_here: bool, mels: MelStore | None = None
) -> tuple[BankItems, BankItems | None]:
    """As `datasets`, of a bank; mels: its spectrograms, where they were kept. None where no block is held out."""
    rows = store.values()

    def make(split: str, purpose: Purpose) -> BankItems:
        return BankItems(
            cache,
            split,
            rows,
            seed=options.seed,
            batch_size=options.batch_size,
            clip_frames=clip_frames(options),
            describe_here=describe_here,
            input_lufs=options.input_lufs,
            mels=mels,
            purpose=purpose,
        )

    training = make("train", "train")
    return training, make("validation", "validation") if blocks_of(cache, "validation") else None


def reader_of(
    options: TrainSettings, data: Items | BankItems, items: range
) -> RandomReader | StreamReader | BlockReader:
    """What says which tracks each step is made of. items: which of a batch's this process makes."""
    if isinstance(data, BankItems):
        return BlockReader(data)
    if not reads_streams(options):
        return RandomReader(data)
    return StreamReader(data, options.stream_buffer_tracks, items, *world())


def head_of(options: TrainSettings) -> ChainHead | GroupHead | None:
    """The head that tells what was done, where its loss counts."""
    if options.chain_weight and reads_bank(options):
        return GroupHead(options.encoder_dim)
    return ChainHead(options.encoder_dim, len(PLACES) * len(CHAIN_PARAMETERS)) if options.chain_weight else None


def new_encoder(config: EncoderConfig, store: FeatureStore, seed: int) -> Encoder:
    """An encoder with weights from the seed, that knows how its descriptors are distributed.

    Where it takes whitened descriptors, these are whitened within the tracks (of a bank: the groups) of the training
    split: what differs between clips that were mixed alike counts little.
    """
    torch.manual_seed(seed)
    encoder = Encoder(config)
    if config.input_lufs is None and not config.skip:
        encoder.set_descriptor_statistics(*map(torch.from_numpy, store.training_statistics()))
        return encoder
    values, tracks = _training_values(store)
    if config.input_lufs is not None:
        values = levelled_descriptors(values, gains_db(values, config.input_lufs))
    encoder.set_descriptor_statistics(*map(torch.from_numpy, robust_statistics(values.numpy())))
    if config.skip:
        mean, whitening = within_group_whitening(encoder.normalised(values).numpy(), tracks)
        encoder.skip.set_whitening(torch.from_numpy(mean), torch.from_numpy(whitening))
    return encoder


def _training_values(store: FeatureStore) -> tuple[torch.Tensor, np.ndarray]:
    """Descriptors [N, D] of the training split (of all clips, where it is empty), and their tracks as numbers [N]."""
    values, tracks = store.values(), np.array(store.track_ids)
    told = np.isfinite(values).all(1)
    training = told & np.array([split == "train" for split in store.splits])
    told = training if training.any() else told
    return torch.from_numpy(values[told]), np.unique(tracks[told], return_inverse=True)[1]
