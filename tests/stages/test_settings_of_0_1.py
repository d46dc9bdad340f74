"""What version 0.1.0 wrote down beside its outputs: for the same settings and inputs today's code finds nothing stale.

`data/old/settings_0_1_0.json` holds the `settings.json` that 0.1.0 wrote for a stage, and for `features` the attributes
of its Zarr group. Paths and hashes of inputs are put in, all else is theirs.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.paths import ROOT
from helpers.small_encoder import embedding_profile
from helpers.small_separator import write_separator, write_songs

from mixstyle.cache.feature_store.layout import RowKeys
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.separator_records import SeparatorRecord
from mixstyle.cache.music.listing import list_tracks
from mixstyle.cache.stem_store.stem_cache import RENAMED as SEPARATE_RENAMED
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.provenance import Provenance, differences, parse_provenance
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.demo_songs.listing import provenance_of as demo_songs_provenance
from mixstyle.stages.demo_songs.listing import stored_provenance, stored_settings
from mixstyle.stages.features.provenance import stale_reasons
from mixstyle.stages.separate.provenance import Streams
from mixstyle.stages.separate.provenance import provenance_of as separate_provenance
from mixstyle.stages.separate.rule_versions import SongRules, cutting_version_of, listing_version_of
from mixstyle.stages.settings.profile import Settings, load_settings
from mixstyle.stages.songs.embed.provenance import index_provenance
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.train.provenance import RENAMED, unversioned
from mixstyle.stages.train.provenance import provenance_of as train_provenance

STORED = json.loads((ROOT / "tests" / "data" / "old" / "settings_0_1_0.json").read_text())
SEPARATE = {"clip_s": 1.0, "clips_per_track": 2, "validation_fraction": 0.3, "test_fraction": 0.3, "lanes": 1}
"""Of the profile that 0.1.0 was given."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("old")
    write_separator(folder / "separator")  # of as many overlaps as that of the profile then
    made = embedding_profile(folder, write_songs(folder / "music", 2))
    content = yaml.safe_load((folder / "profile.yaml").read_text())
    content["separate"] |= SEPARATE
    content["embed"] = {"encoder": str(made.embed.encoder), "device": "cpu"}
    (folder / "profile.yaml").write_text(yaml.safe_dump(content))
    return load_settings(folder / "profile.yaml")


def stored(stage: str, inputs: Mapping[str, Any], renamed: Mapping[str, str] | None = None) -> Provenance:
    """What 0.1.0 wrote of a stage, with these inputs."""
    content = STORED[stage]
    assert content["settings"].keys() >= inputs.keys()
    return parse_provenance({**content, "settings": content["settings"] | inputs}, Path(stage), renamed)


def test_separate(settings: Settings, tmp_path: Path) -> None:
    chosen = settings.separate
    separator = configured_separator(chosen, torch.device("cpu"))
    assert separator is not None
    (tmp_path / "settings.json").write_text(json.dumps(STORED["separate"]))
    (chosen.data_path / "later.webm").write_bytes(b"of an ending that did not count as music then")
    listing = list_tracks(chosen.data_path, "mixtures", listing_version_of(tmp_path))
    (chosen.data_path / "later.webm").unlink()
    assert len(listing.sizes) == 2
    inputs = {
        "data_path": str(chosen.data_path),
        "listing": listing.digest,
        "tracks": 2,
        "separator": separator.fingerprint,
    }
    version = cutting_version_of(tmp_path)
    assert version == 1, "a folder that was begun with the old rule is finished with it"
    record = SeparatorRecord.of(separator)
    now = separate_provenance(chosen, listing, record, "cpu", Streams(1, 1, 1), version)
    old = stored("separate", inputs, SEPARATE_RENAMED)
    assert differences(old, now) == []
    newer = separate_provenance(chosen, listing, record, "cpu", Streams(1, 1, 2), version)
    assert differences(old, newer) == ["separate.batch_chunks: 1 -> 2"]


@pytest.mark.parametrize(("version", "reasons"), [(2, []), (1, ["descriptors version: 1 -> 2"])])
def test_features(tmp_path: Path, version: int, reasons: list[str]) -> None:
    (tmp_path / "stems").mkdir()
    (tmp_path / "stems" / "settings.json").write_text(json.dumps(STORED["separate"]))
    ids = [f"{track:012x}" for track in range(6) for _ in range(2)]
    keys = RowKeys([f"{track}_{row % 2}" for row, track in enumerate(ids)], ids, ids, ["train"] * 12)
    store = FeatureStore.create(
        tmp_path / "features.zarr",
        descriptors=DESCRIPTORS,
        descriptors_version=STORED["features"]["descriptors_version"],
        keys=keys,
        rows_per_shard=4,
        made_with=STORED["features"]["made_with"] | {"descriptors_version": version},
    )
    assert stale_reasons(store, StemCache(tmp_path / "stems")) == reasons


def test_index(settings: Settings) -> None:
    with embedder_of(settings, rules=SongRules(1, 1)) as embedder:
        now = index_provenance(embedder.fingerprint, settings.separate.data_path)
    inputs = {name: now.made_from[name] for name in ("encoder", "separator", "music")}
    assert differences(stored("index", inputs), now) == []


@pytest.mark.parametrize(("drawn", "changed"), [([], []), ([1, 4], ["effect versions.stem loudness: 1 -> 2"])])
def test_train(tmp_path: Path, drawn: list[int], changed: list[str]) -> None:
    """Of drawn chains the stems have other loudnesses since; of other trainings nothing has changed."""
    content = STORED["train"]["settings"]
    made_from = content["made_from"]
    names = {name: value for name, value in content.items() if name != "made_from"}
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump({"train": names | {"style_effects": drawn}}))
    options = load_settings(path).train
    assert options.chain_effects == tuple(drawn)
    old = stored("train", {"style_effects": drawn}, RENAMED)
    assert differences(old, train_provenance(options, made_from), absent=unversioned(options)) == changed


def test_demo_songs() -> None:
    now = stored_settings(0, 12.0, True)
    old = {"seed": 0, "duration_s": 12.0, "stems": True, "sample_rate": 44_100, "renderer": 3}
    listing = {"format": 1, "settings": old | {"soundfont_sha256": now["soundfont_sha256"]}, "songs": []}
    assert differences(stored_provenance(listing), demo_songs_provenance(now)) == []
