"""A small bank, written with the real writer: blocks of groups as `mixstyle remix` lays them out."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from helpers.small_cache import stems_of
from helpers.training import TRAIN
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.shards import ClipRecord, TrackRecord, encode_clip, write_shard
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.provenance import Provenance, guard
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.mix_chain import apply_mix_chain
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.profile import Settings, load_settings

MIXED_FROM = "00112233aabbccdd"
"""The fingerprint of the stems that it was mixed from."""
ON_A_BANK = {
    "objective": "chain-grid",
    "batch_size": 4,
    "clip_duration_s": 1.0,
    "num_epochs": 1,
    "steps_per_epoch": 2,
    "input_lufs": -14.0,
    "descriptor_skip": True,
    "chain_weight": 0.5,
}
"""A training on it of two steps, as `train` has them."""


def make_bank(
    folder: Path, blocks: int = 4, groups: int = 2, contents: int = 3, clip_s: float = 2.0, own: int = 1
) -> None:
    """Writes `blocks` blocks, each a shard: the last one of the validation split, the first `own` of own mixes."""
    settings = {"clip_s": clip_s, "clips_per_track": contents, "tracks_per_shard": groups, "tracks": blocks * groups}
    folder.mkdir(parents=True)
    made_with = guard(
        folder / "settings.json", Provenance("remix", settings, made_from={"stems": MIXED_FROM}), rebuild=False
    ).fingerprint
    for block in range(blocks):
        kind = "own" if block < own else "chain"
        records = []
        for group in range(groups):
            index = block * groups + group
            track_id = f"{0xB000 + index:012x}"
            chain = draw_chain(np.random.default_rng(index), 1 + index % 4)
            made, donors = [], []
            for slot in range(contents):
                song = 100 * block + slot if kind == "chain" else 100 * block + group
                stems = stems_of(10 * song + (slot if kind == "own" else 0), clip_s)
                flac, scale = encode_clip(stems if kind == "own" else apply_mix_chain(stems, chain))
                made.append(ClipRecord(f"{track_id}_{slot}", slot, 0, scale, flac))
                donors.append([f"{song:012x}_0"] * 4)
            source = {"kind": kind, "chain": chain.to_json() if kind == "chain" else None, "donors": donors}
            split = "validation" if block == blocks - 1 else "train"
            path = f"{kind}/{block:06d}/{group}"
            records.append(TrackRecord(track_id, path, split, tuple(made), source=source))
        write_shard(folder, block, records, made_with)


def describe_bank(bank: StemCache, path: Path) -> FeatureStore:
    """The descriptors of its clips."""
    values = {
        "separate.stems_dir": str(bank.stems_dir),
        "features.features_path": str(path),
        "features.device": "cpu",
        "remix.blocks": 0,
    }
    features(load_settings("demo", values=values))
    return FeatureStore.open(path)


def training_settings(shared: Path, name: str, options: Mapping[str, object]) -> Settings:
    """Of a training on the bank in `shared` (`bank`, `bank.zarr`), in a folder of its own there. options: of `train`,
    beside those of `TRAIN`."""
    values = {
        "separate.stems_dir": str(shared / "none"),
        "remix.remix_dir": str(shared / "bank"),
        "remix.features_path": str(shared / "bank.zarr"),
        "train.checkpoint_dir": str(shared / name / "ckpt"),
        "train.log_dir": str(shared / name / "logs"),
        "train.mels_dir": str(shared / "mels"),
        **{f"train.{key}": value for key, value in {**TRAIN, **options}.items()},
    }
    return load_settings("demo", values=values)
