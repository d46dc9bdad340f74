"""A bank kept behind s3://, mixed from stems behind s3://: the bytes of one in a folder, read by what reads banks."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import yaml
from helpers.s3_server import BUCKET, objects, reached, served
from helpers.small_cache import make_cache
from helpers.small_separator import hashes, write_separator

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.features.described_stems import open_described_bank
from mixstyle.stages.features.stage import features
from mixstyle.stages.remix.dry_run import dry_run
from mixstyle.stages.remix.stage import remix
from mixstyle.stages.remix.status import remix_status
from mixstyle.stages.settings.profile import Settings, load_settings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bank")
    make_cache(folder / "stems", tracks=4, clips=2, clip_s=1.0, validation=2)
    write_separator(folder / "separator")
    with served(folder / "s3") as address, reached(address):
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        for path in (folder / "stems").iterdir():
            fs.pipe_file(f"{BUCKET}/stems/{path.name}", path.read_bytes())
        yield folder


def profile(folder: Path, origin: Path, stems: str, bank: str, blocks: int = 2) -> Settings:
    chosen = {
        "remix_dir": bank,
        "features_path": str(folder / "remix.zarr"),
        "blocks": blocks,
        "contents": 2,
        "chains_per_block": 2,
        "blocks_per_shard": 1,
        "clip_s": 0.5,
        "effects": [1, 1],
        "num_overlap": 1,
        "device": "cpu",
        "threads": 1,
        "batch_chunks": 2,
        "workers": 1,
    }
    separate = {
        "stems_dir": stems,
        "separator_config": str(origin / "separator" / "separator.yaml"),
        "separator_checkpoint": str(origin / "separator" / "separator.safetensors"),
        "clip_s": 1.0,
    }
    described = {"features_path": str(folder / "features.zarr"), "device": "cpu", "workers": 1}
    train = {"clip_duration_s": 0.5, "stems_cache_dir": str(folder / "kept")}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump({"separate": separate, "remix": chosen, "features": described, "train": train}))
    return load_settings(path)


@pytest.mark.slow
def test_a_bank_in_a_store_has_the_bytes_of_one_in_a_folder(origin: Path, tmp_path: Path) -> None:
    here = profile(tmp_path / "here", origin, str(origin / "stems"), str(tmp_path / "bank"))
    there = profile(tmp_path / "there", origin, f"s3://{BUCKET}/stems", f"s3://{BUCKET}/bank")
    assert dry_run(there).disk_left_bytes > 0
    assert remix(here).shards_made == remix(there).shards_made == 2
    found = objects("bank")
    local = StemCache(tmp_path / "bank")
    for name, data in hashes(tmp_path / "bank", ("*.json", "*.csv")).items():
        assert found.pop(name) == data, name
    for shard in local.shards:
        assert found.pop(f"stems-{shard.shard:06d}.{shard.sha256[:16]}.tar") == shard.tar.read_bytes()
    assert not found
    assert remix(there).shards_made == 0
    bank, status = remix_status(there, StemCache(origin / "stems"))
    assert (status.state, status.problems, bank is not None and bank.fingerprint) == ("done", (), local.fingerprint)

    features(here)
    features(there)
    described, store = open_described_bank(there)
    assert described.fingerprint == local.fingerprint
    assert (store.values() == FeatureStore.open(here.remix.features_path).values()).all()
    more = profile(tmp_path / "there", origin, f"s3://{BUCKET}/stems", f"s3://{BUCKET}/bank", blocks=3)
    with pytest.raises(MixstyleError) as caught:
        remix(more)
    assert (caught.value.code, caught.value.remedy) == ("stale", ("remix", "--rebuild"))
