"""What an actor of a cluster makes is what a local run makes, and a machine of another kind is noted."""

import dataclasses
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_encoder import SONG_S, embedding_profile
from helpers.small_separator import hashes, profile, write_songs

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cluster.actor import Actor, raised, request_of
from mixstyle.stages.cluster.mixed import mixed_path, note_mixed
from mixstyle.stages.cluster.ray_pool import Share
from mixstyle.stages.features.stage import features
from mixstyle.stages.separate.machine_kind import machine_kind
from mixstyle.stages.separate.provenance import MACHINE
from mixstyle.stages.separate.rule_versions import SongRules
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.index.indexed import files_of

pytestmark = pytest.mark.usefixtures("one_thread")

SEPARATE = "mixstyle.stages.separate.shard_worker:ShardMaker"
SONGS, SHARDS = 4, 2


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Stems and descriptors that one process made."""
    folder = tmp_path_factory.mktemp("local")
    settings = embedding_profile(folder, write_songs(folder / "music", SONGS, seconds=SONG_S))
    store = dataclasses.replace(settings.features, features_path=folder / "features.zarr", device="cpu", workers=1)
    settings = dataclasses.replace(settings, features=store)
    separate(settings)
    features(settings)
    return settings


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Any:
    """Makes actors that are open, and closes them."""

    def make(*words: Any) -> tuple[Actor, dict[str, Any]]:
        actor = Actor(request_of(*words))
        request.addfinalizer(actor.close)
        return actor, raised(actor.open())

    return make


def begun(local: Settings, folder: Path) -> Settings:
    """The settings of a folder that a run has begun, and made nothing in."""
    settings = dataclasses.replace(
        profile(local.separate.data_path.parent, local.separate.data_path, stems_dir=str(folder / "stems")),
        features=local.features,
    )
    made = local.separate.stems_dir
    settings.separate.stems_dir.mkdir()
    for name in ("settings.json", "plan.jsonl.gz"):
        (settings.separate.stems_dir / name).write_bytes((made / name).read_bytes())
    return settings


def test_shards_are_those_of_a_local_run(local: Settings, tmp_path: Path, opened: Any) -> None:
    settings = begun(local, tmp_path)
    actor, answer = opened(SEPARATE, settings)
    assert answer["machine"] == ""
    for number in (1, 0, 1):
        assert raised(actor.make(number)) == {"clips": 6}  # two songs of three clips, also where it is there already
    names = ("stems-*.tar", "stems-*.json", "settings.json", "*.gz")
    assert hashes(settings.separate.stems_dir, names) == hashes(local.separate.stems_dir, names)


def test_a_machine_of_another_kind_is_told_and_noted_with_its_shards(
    local: Settings, tmp_path: Path, opened: Any
) -> None:
    settings = begun(local, tmp_path)
    path = settings.separate.stems_dir / "settings.json"
    stored = read_json(path)
    here = stored["notes"][MACHINE]
    write_json(path, {**stored, "notes": {**stored["notes"], MACHINE: "another kind"}}, checksum=True)
    actor, answer = opened(SEPARATE, settings)
    assert answer["machine"] == here == machine_kind(embedder_of(local).device)
    assert raised(actor.make(0)) == {"clips": 6, "machine": here}
    sidecar = read_json(settings.separate.stems_dir / "stems-000000.json")
    assert sidecar.pop("machine") == here
    assert sidecar == read_json(local.separate.stems_dir / "stems-000000.json")


def test_rows_are_those_of_a_local_run(local: Settings, tmp_path: Path, opened: Any) -> None:
    store = FeatureStore.open(local.features.features_path, write=True)
    expected = store.values().copy()
    store.forget_shard(1)
    options = {"stems_dir": str(local.separate.stems_dir), "path": str(store.path), MACHINE: "another kind"}
    actor, answer = opened("mixstyle.stages.features.row_maker:RowMaker", local, options)
    assert answer["machine"]
    assert raised(actor.make(1))["clips"] == 6
    assert raised(actor.make(1))["clips"] == 0
    np.testing.assert_array_equal(FeatureStore.open(store.path).values(), expected)


def test_songs_are_those_of_a_local_run(local: Settings, opened: Any) -> None:
    root = local.separate.data_path.resolve()
    (root / "broken.wav").write_bytes(b"RIFF no music")
    try:
        files = files_of(root)
        options = {"root": str(root), "rules": asdict(SongRules()), MACHINE: machine_kind(embedder_of(local).device)}
        actor, answer = opened("mixstyle.stages.songs.index.rows:SongMaker", local, options)
        made = raised(actor.make([(path, *files[path]) for path in files]))
    finally:
        (root / "broken.wav").unlink()
    assert answer["machine"] == ""
    with embedder_of(local, measure=True) as embedder:
        assert made["fingerprint"] == embedder.fingerprint
        one = embedder.song(root / "song 2.flac")
    rows = {row.path: row for row, _ in made["songs"]}
    assert list(rows) == list(files)
    assert rows["broken.wav"].reason
    assert (rows["song 2.flac"].bytes, rows["song 2.flac"].modified_ns) == files["song 2.flac"]
    # One song at a time shares no batch with others: float32 sums of the separator in another order, 1e-5 of full scale
    # and 1e-4 of stems at -20 dBFS. Log-mels move by 1e-3 dB where it is as quiet, 5e-5 of their scale of 20 dB, and
    # embeddings of unit length by less.
    np.testing.assert_allclose(rows["song 2.flac"].embedding, one.embedding.numpy(), rtol=0, atol=1e-5)


def test_errors_of_mixstyle_come_as_they_are(local: Settings, tmp_path: Path) -> None:
    settings = begun(local, tmp_path)
    other = dataclasses.replace(settings, separate=dataclasses.replace(settings.separate, clips_per_track=2))
    actor = Actor(request_of(SEPARATE, other))
    with pytest.raises(MixstyleError) as caught:
        raised(actor.open())
    actor.close()
    assert (caught.value.code, caught.value.remedy) == ("stale", ("separate", "--rebuild"))
    nowhere = Actor({**request_of(SEPARATE, settings), "folder": str(tmp_path / "none")})
    assert nowhere.open()["code"] == "not-found"


def test_an_actor_gets_what_the_smallest_machine_has() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}, {"memory": 1.0}]
    assert Share().of(nodes) == Share(cpus=3)
    assert Share(cpus=3).actors(nodes) == 3
    assert Share(gpus=1).of(nodes).actors(nodes) == 2
    assert Share().of([]) == Share(cpus=1)


def test_parts_of_machines_of_other_kinds_are_added_up(tmp_path: Path) -> None:
    output = tmp_path / "features.zarr"
    note_mixed(output, {})
    assert not mixed_path(output).exists()
    note_mixed(output, {"000001": "b", "000000": "a"})
    note_mixed(output, {"000001": "a"})
    assert read_json(mixed_path(output))["machines"] == {"a": ["000000", "000001"]}
    mixed_path(output).write_text("[]")
    note_mixed(output, {"000002": "c"})
    assert read_json(mixed_path(output))["machines"] == {"c": ["000002"]}
