"""`mixstyle verify`: over all that a profile stored, what it names, and what it takes away."""

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.digests import digest
from helpers.mixed_cache import make_stems, settings_of, write_stems

from mixstyle.cache.feature_store.names import ARRAYS
from mixstyle.cache.mel_store import MelStore
from mixstyle.cache.models.checkpoints import save_checkpoint
from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.provenance import Provenance, guard
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cluster.mixed import note_mixed
from mixstyle.stages.common.assets import SEPARATOR, SEPARATOR_CONFIG, shipped
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.log import TrainLog
from mixstyle.stages.verify import failure, verify

TRACKS, CLIPS = 4, 2


def profile(folder: Path) -> Settings:
    settings = settings_of(folder)
    return dataclasses.replace(
        settings,
        train=dataclasses.replace(settings.train, mels_dir=folder / "mels"),
        evaluate=dataclasses.replace(settings.evaluate, bank_dir=folder / "banks"),
        remix=dataclasses.replace(settings.remix, remix_dir=folder / "remix", features_path=folder / "remix.zarr"),
    )


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def settings(made_once: Path, tmp_path: Path) -> Settings:
    """A profile that has something of everything."""
    shutil.copytree(made_once, tmp_path, dirs_exist_ok=True)
    return profile(tmp_path)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("profile")
    made = profile(tmp_path)
    make_stems(tmp_path / "stems", tracks=TRACKS, clips=CLIPS)
    features(made)
    checkpoints = tmp_path / "checkpoints"
    guard(checkpoints / "settings.json", Provenance("train", {"seed": 1}), rebuild=False)
    for name in ("checkpoint_epoch_1.pt", "latest.pt"):
        save_checkpoint(checkpoints / name, {"encoder": {"weight": torch.arange(200.0)}, "step": 7})
    mels = MelStore.open_or_create(
        tmp_path / "mels" / "abc" / "mels.zarr", {}, rows=4, group_rows=2, shard_rows=4, mels=3, frames=5
    )
    for first in (0, 2):
        mels.write_group(first, np.full((2, 8, 3, 5), 1.5, np.float16))
    mels.finish_shard(0)
    (tmp_path / "evaluation").mkdir()
    np.savez(tmp_path / "evaluation" / "same-chain.npz", a=np.ones((3, 2)))
    write_json(tmp_path / "report" / "metrics.json", {"retrieval": 1}, checksum=True)
    index = tmp_path / "index"
    guard(index / "settings.json", Provenance("index", {}, made_from={"music": "/music"}), rebuild=False)
    songs = SongIndex(index)
    songs.add([IndexedSong("a.flac", 1, 2, 3.0, np.eye(4, dtype=np.float32)[i], np.ones(2, np.float32)) for i in (0,)])
    songs.add([IndexedSong("b.flac", 1, 2, 0.0, NOTHING, NOTHING, "silent")])
    songs.write_nearest()
    (index / "failures.csv").write_bytes(b"path,reason\r\nb.flac,silent\r\n")
    return tmp_path


NOTHING = np.empty(0, np.float32)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a bit of a shard": ("stems/stems-000001.tar", flip),
    "a sidecar": ("stems/stems-000000.json", flip),
    "a sidecar that is a list": ("stems/stems-000000.json", lambda path: path.write_text("[]")),
    "a sidecar that is a number": ("stems/stems-000000.json", lambda path: path.write_text("5")),
    "a sidecar of no version": ("stems/stems-000000.json", lambda path: path.write_text('{"version": null}')),
    "a tar that is gone": ("stems/stems-000001.tar", Path.unlink),
    "the manifest": ("stems/plan.jsonl.gz", flip),
    "the failure log": ("stems/failures.csv", flip),
    "a chunk of the descriptors": ("features.zarr/descriptors/c/0/0", flip),
    "a chunk that is gone": ("features.zarr/start_s/c/1", Path.unlink),
    "their statistics": ("features.zarr/center/c/0", flip),
    "the descriptors' metadata": ("features.zarr/zarr.json", flip),
    "spectrograms": ("mels/abc/mels.zarr/mels/c/1/0/0/0", flip),
    "a checkpoint": ("checkpoints/latest.pt", flip),
    "embeddings": ("evaluation/same-chain.npz", lambda path: path.write_bytes(b"")),
    "a figure": ("report/metrics.json", lambda path: path.write_text(path.read_text().replace(": 1", ": 3"))),
    "metrics": ("report/metrics.json", lambda path: path.write_bytes(path.read_bytes()[:-3])),
    "songs of an index": ("index/songs-00000000.parquet", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    "the search structure": ("index/nearest.faiss", lambda path: path.write_bytes(path.read_bytes()[:-3])),
    "songs that were left out": ("index/failures.csv", flip),
    "songs that were left out, cut short": ("index/failures.csv", lambda path: path.write_bytes(b"path,reason\r\n")),
}


def test_all_that_is_stored_is_what_was_written(settings: Settings, tmp_path: Path) -> None:
    before = digest(tmp_path)
    summary = verify(settings, repair=True)
    assert (summary.damages, failure(summary, repair=True)) == ((), None)
    # settings, manifest, two shards and failures; the descriptors; mels; settings and two checkpoints; npz; metrics;
    # settings, two parts, search structure and the songs that were left out; the shipped separator's two
    assert summary.checked == 5 + 1 + 1 + 3 + 1 + 1 + 5 + 2
    after = digest(tmp_path)
    assert {name: after[name] for name in before} == before


def test_each_damage_is_named_and_taken_away(
    settings: Settings, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """One profile, one damage after the other; what was taken away is put back."""
    found = {}
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name, (file, damage) in DAMAGES.items():
        damage(tmp_path / file)
        named = verify(settings)
        error = failure(named, repair=False)
        told = (error.code, error.remedy) if error else ("", ())
        repaired = verify(settings, repair=True)
        found[name] = (told, [damage.repaired for damage in repaired.damages], len(verify(settings).damages))
        assert all("\n" not in damage.what for damage in named.damages)
        assert not any(damage.what.endswith((",", " or", " then")) for damage in named.damages)  # nothing follows
        for path, data in whole.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    assert found == dict.fromkeys(DAMAGES, (("damaged-file", ("verify", "--repair")), [True], 0))
    record_property("tried", len(DAMAGES))


def test_another_digit_in_the_log_of_losses_is_named_and_left_there(settings: Settings, tmp_path: Path) -> None:
    """No command but a training from its beginning makes it again."""
    log = TrainLog(tmp_path / "checkpoints" / "loss.csv", tmp_path / "logs", 0)
    for step in (1, 2, 3):
        log.write({"step": step, "epoch": 1, "train_loss": 2.125 * step}, {})
    log.close()
    assert verify(settings).damages == ()
    path = tmp_path / "checkpoints" / "loss.csv"
    data = path.read_text()
    path.write_text(data.replace(",4.25,", ",4.35,"))
    for repair in (False, True):
        (damage,) = verify(settings, repair).damages
        assert (damage.path, damage.remake, damage.repaired) == (path, ("train", "--rebuild"), False)
    path.write_text(data)
    assert verify(settings).damages == ()


def test_hashes_are_computed_at_the_same_time_and_told_in_order(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hash waits for another one, as it never could where one came after the other."""
    both, hashed = threading.Barrier(2, timeout=60.0), Place.sha256

    def waiting(place: Place, name: str, size: int) -> str:
        both.wait()
        if name.startswith("stems-000000"):
            time.sleep(0.2)  # the second one is done first
        return hashed(place, name, size)

    monkeypatch.setattr(Place, "sha256", waiting)
    tars = [tmp_path / "stems" / f"stems-00000{number}.tar" for number in (0, 1)]
    for tar in tars:
        flip(tar)
    assert [damage.path for damage in verify(settings).damages] == tars


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-3])])
def test_marks_of_machines_of_other_kinds_are_verified_and_go_with_what_they_are_of(
    settings: Settings, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    marks = {"features": tmp_path / "features.zarr.machines.json", "index": tmp_path / "index.machines.json"}
    note_mixed(tmp_path / "features.zarr", {"000001": "another processor"})
    note_mixed(tmp_path / "index", {"a.flac": "another processor"})
    assert verify(settings).damages == ()
    for path in marks.values():
        damage(path)
    found = verify(settings, repair=True).damages
    assert [(one.path, one.repaired, one.remake[0], one.remake[-1]) for one in found] == [
        (path, False, stage, "--rebuild") for stage, path in marks.items()
    ]
    features(settings, rebuild=True)
    assert [one.path for one in verify(settings).damages] == [marks["index"]]
    assert not marks["features"].exists()
    marks["index"].write_text('{"version": 9}')
    assert [one.ours for one in verify(settings).damages] == [False]


def test_what_was_taken_away_is_made_again(settings: Settings, tmp_path: Path) -> None:
    before = digest(tmp_path / "features.zarr")
    flip(tmp_path / "features.zarr" / "descriptors" / "c" / "0" / "0")
    assert verify(settings, repair=True).damages[0].remake == ("features",)
    assert features(settings).shards_computed == 1
    assert digest(tmp_path / "features.zarr") == before
    flip(tmp_path / "features.zarr" / "center" / "c" / "0")
    assert [damage.remake for damage in verify(settings, repair=True).damages] == [("features",)]
    assert features(settings).shards_computed == 0
    assert digest(tmp_path / "features.zarr") == before
    flip(tmp_path / "stems" / "stems-000001.tar")
    verify(settings, repair=True)
    assert [shard.shard for shard in StemCache(tmp_path / "stems").shards] == [0]
    write_stems(tmp_path / "stems", 1, TRACKS, CLIPS)
    assert verify(settings).damages == ()


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [gone, cut, flip])
def test_no_chunk_of_any_store_is_lost_unnoticed_and_the_command_makes_it_again(
    settings: Settings, tmp_path: Path, damage: Callable[[Path], object], record_property: Callable[[str, object], None]
) -> None:
    """Each chunk of each array in turn, of the descriptors of songs and of mixes, and of spectrograms."""
    shutil.copytree(tmp_path / "features.zarr", tmp_path / "remix.zarr")
    stores = [tmp_path / "features.zarr", tmp_path / "remix.zarr", tmp_path / "mels" / "abc" / "mels.zarr"]
    whole = {store: {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} for store in stores}
    chunks = [(store, path) for store in stores for path in whole[store] if "c" in path.relative_to(store).parts]
    arrays = {path.relative_to(store).parts[0] for store, path in chunks}
    assert arrays == {*ARRAYS, "mels"}
    told = {}
    for store, path in chunks:
        damage(path)
        named = [found.path for found in verify(settings).damages]
        repaired = [(found.path, found.repaired) for found in verify(settings, repair=True).damages]
        told[path] = (named, repaired)
        if store == stores[0]:
            features(settings)
            after = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
            assert after == whole[store], path.relative_to(store)
        else:
            assert store != stores[2] or not store.exists(), "train makes it anew as a whole"
            shutil.rmtree(store, ignore_errors=True)
            for file, data in whole[store].items():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
    assert told == {path: ([store], [(store, True)]) for store, path in chunks}
    record_property("tried", len(chunks))


def test_what_a_killed_run_left_of_spectrograms_is_no_damage(tmp_path: Path) -> None:
    """Nine clips in shards of four, two in a group; of the last shard one group is there, of the first one none."""
    path = tmp_path / "mels.zarr"
    store = MelStore.open_or_create(path, {}, rows=9, group_rows=2, shard_rows=4, mels=3, frames=5)
    ones = np.full((2, 8, 3, 5), 1.5, np.float16)
    store.write_group(0, ones)
    store.verify()
    store.finish_shard(0)
    store.write_group(4, ones)
    store.write_group(6, ones)
    store.finish_shard(1)
    store.verify()
    assert store.done.tolist() == [True, True, False]
    gone(path / "done" / "c" / "0")
    with pytest.raises(MixstyleError) as caught:
        MelStore.open(path).verify()
    assert caught.value.code == "damaged-file"


def test_settings_that_are_damaged_are_told_and_left(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "stems" / "settings.json"
    path.write_text(path.read_text().replace('"clip_s": 1.5', '"clip_s": 2.5'))
    summary = verify(settings, repair=True)
    assert [(damage.path, damage.repaired) for damage in summary.damages] == [(path, False)]
    error = failure(summary, repair=True)
    assert error is not None
    assert error.remedy == ("separate",)
    assert path.exists()


def test_what_another_version_or_somebody_else_wrote_is_named_and_left(settings: Settings, tmp_path: Path) -> None:
    torch.save({"version": 99, "encoder": {}}, tmp_path / "checkpoints" / "best_model.pt")
    (tmp_path / "checkpoints" / "mine.pt").write_bytes(b"no checkpoint of ours")
    shutil.rmtree(tmp_path / "features.zarr")
    (tmp_path / "features.zarr").mkdir()
    (tmp_path / "features.zarr" / "thesis.txt").write_text("the only copy")
    before = digest(tmp_path)
    summary = verify(settings, repair=True)
    left = {tmp_path / "checkpoints" / "best_model.pt", tmp_path / "features.zarr"}
    assert {damage.path for damage in summary.damages} == left
    assert failure(summary, repair=True) is not None
    after = digest(tmp_path)
    assert {name: after[name] for name in before} == before


def test_what_another_process_writes_is_not_taken_away(settings: Settings, tmp_path: Path) -> None:
    flip(tmp_path / "stems" / "stems-000001.tar")
    with ShardLocks(tmp_path / "stems", "mixstyle separate"), pytest.raises(MixstyleError) as caught:
        verify(settings, repair=True)
    assert caught.value.code == "in-use"
    assert (tmp_path / "stems" / "stems-000001.tar").exists()


def test_the_shipped_separator_that_a_profile_names_is_compared(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {path: shipped(path).resolve() for path in (SEPARATOR_CONFIG, SEPARATOR)}
    assert set(places) == {settings.separate.separator_config, settings.separate.separator_checkpoint}
    monkeypatch.chdir(tmp_path)
    for path, place in places.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(place.read_bytes())
    assert verify(settings).damages == ()
    for path in places:
        whole = path.read_bytes()
        flip(path)
        summary = verify(settings, repair=True)
        assert [(damage.path, damage.repaired) for damage in summary.damages] == [(path, False)]
        error = failure(summary, repair=True)
        assert error is not None
        assert (error.code, error.remedy) == ("damaged-file", ())
        path.write_bytes(whole)
