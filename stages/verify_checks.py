"""What there is to verify of each kind of output, how, and what is taken away so that its command makes it again."""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixstyle.cache.feature_store.place import MACHINES as FEATURES_MACHINES
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.mel_store import MelStore
from mixstyle.cache.models.checkpoints import checkpoints_in, load_checkpoint
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.song_index.index import SongIndex, read_part
from mixstyle.cache.song_index.left_out import left_out_csv
from mixstyle.cache.song_index.nearest import NEAREST, STATE
from mixstyle.cache.song_index.place import LEFT_OUT
from mixstyle.cache.song_index.place import MACHINES as INDEX_MACHINES
from mixstyle.cache.stem_store.failures import failures_csv, failures_of
from mixstyle.cache.stem_store.manifest import MANIFEST, load_manifest
from mixstyle.cache.stem_store.place import kept_shard, stems_place
from mixstyle.cache.stem_store.remote import kept_is_whole
from mixstyle.cache.stem_store.shards import shard_numbers, sidecar_path, tar_path
from mixstyle.cache.stem_store.stem_cache import RENAMED
from mixstyle.cache.storage.as_stored import differs
from mixstyle.cache.storage.atomic import read_json
from mixstyle.cache.storage.locks import ShardLocks, locked
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.provenance import SETTINGS, read_provenance, stored_fingerprint
from mixstyle.cache.storage.remote_file import fetched_file
from mixstyle.cache.storage.remote_folder import KeptFolder, RemoteFolder
from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.cache.storage.urls import url_of
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cluster.mixed import check_mixed, mixed_at
from mixstyle.stages.common.assets import check_shipped, is_shipped, shipped
from mixstyle.stages.common.commands import ANY_FOLDER
from mixstyle.stages.demo_songs.listing import is_whole, read_listing
from mixstyle.stages.evaluate.embeddings import read_embeddings
from mixstyle.stages.settings.places import place_of_features, place_of_stage
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import evaluation_folder, report_folder, training_folder
from mixstyle.stages.songs.index.readable_index import place_of_index
from mixstyle.stages.train.log import LOSS, read_loss

REPORTED = "metrics.json"


@dataclass(frozen=True)
class Check:
    """One file, or one shard's files.

    check: raises MixstyleError for what is not what was written. repair: takes it away; None where that would lose what
    no command makes again by itself. remake: the command that makes it again. lock: keeps others from it meanwhile.
    is_hash: the check reads a file and computes its hash, and nothing else, so that many may run at once.
    """

    path: Path
    check: Callable[[], object]
    remake: tuple[str, ...]
    repair: Callable[[], object] | None = None
    lock: Callable[[], AbstractContextManager[object]] = nullcontext
    is_hash: bool = False


def all_checks(settings: Settings) -> Iterator[Check]:
    """Everything that the profile's commands stored, as far as it is there, and the shipped separator that it names."""
    if settings.separate.input != "stems":
        yield from _shipped(settings.separate.separator_config, settings.separate.separator_checkpoint)
    yield from _demo_songs(settings.demo_songs.output_dir)
    yield from _clips(place_of_stage(settings, "separate"), "separate")
    yield from _clips(place_of_stage(settings, "remix"), "remix")
    for path in (settings.features.features_path, settings.remix.features_path):
        yield from _features(place_of_features(settings, path))
    for path in sorted(settings.train.mels_dir.glob("*/mels.zarr")):
        yield _removable(path, functools.partial(_check_mels, path), ("train",))
    for path in sorted((settings.train.stems_cache_dir / "clips").glob("??/*")):
        yield dataclasses.replace(_removable(path, functools.partial(_check_kept, path), ("train",)), is_hash=True)
    yield from _training(training_folder(settings))
    for place in _evaluation_banks(settings):
        yield from _clips(place, "evaluate")
    yield from _evaluation(evaluation_folder(settings))
    yield from _report(report_folder(settings))
    yield from _index(place_of_index(settings))
    for path in {settings.embed.encoder, settings.report.checkpoint, *settings.evaluate.checkpoints} - {None}:
        if path is not None and url_of(path):
            yield Check(path, functools.partial(_check_fetched, path, settings.train.stems_cache_dir), ())
        elif path is not None and path.is_file():
            again = ("export", str(path)) if path.suffix == ".safetensors" else ()  # a checkpoint named by hand
            yield Check(path, functools.partial(load_encoder, path), again)


def _removable(path: Path, check: Callable[[], object], remake: tuple[str, ...]) -> Check:
    return Check(path, check, remake, functools.partial(_remove, path))


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            # renamed first: killed half way, it must not leave part of a store under its name
            condemned = path.with_name(f".{path.name}.condemned")
            shutil.rmtree(condemned, ignore_errors=True)
            path.rename(condemned)
            shutil.rmtree(condemned)
        else:
            path.unlink(missing_ok=True)


def _damaged(path: Path, what: str) -> MixstyleError:
    return MixstyleError(f"{path}: damaged: {what}", code="damaged-file")


def _check_fetched(path: Path, cache_dir: Path) -> None:
    load_encoder(fetched_file(path, cache_dir))


def _shipped(*paths: Path) -> Iterator[Check]:
    for path in paths:
        if is_shipped(path):
            yield Check(shipped(path), functools.partial(check_shipped, path), (), is_hash=True)


# Rendered songs


def _demo_songs(folder: Path) -> Iterator[Check]:
    if not (folder / "songs.json").is_file():
        return
    yield Check(
        folder / "songs.json",
        functools.partial(read_listing, folder),
        ("demo-songs", "--rebuild"),
    )
    try:
        entries = (read_listing(folder) or {}).get("songs", [])
    except MixstyleError:
        return
    for entry in entries:

        def check(entry: dict[str, Any] = entry) -> None:
            if not is_whole(folder, entry):
                raise _damaged(folder / "songs.json", f"song {entry['index']} lacks files or has other ones")

        yield Check(folder / "songs.json", check, ("demo-songs",), lambda: None)


# Stems and banks


def _clips(place: Place, stage: str) -> Iterator[Check]:
    """A folder of shards, or what is kept of one behind a URL."""
    place.refresh()
    folder = place.folder
    if not (folder / SETTINGS).is_file():
        return
    lock = functools.partial(_all_shards, folder)
    named = functools.partial(_named, place)
    yield Check(named(SETTINGS), functools.partial(_check_settings, folder / SETTINGS), (stage,))
    manifest = folder / MANIFEST
    if manifest.is_file():
        check = functools.partial(load_manifest, manifest)
        yield Check(named(manifest.name), check, (stage,), functools.partial(place.take_away, manifest.name), lock)
    for number in shard_numbers(folder):
        tar, sidecar = tar_path(folder, number), sidecar_path(folder, number)
        check = functools.partial(_check_shard, place, number)
        # the sidecar first: what is left of the shard is then not taken for one
        repair = functools.partial(place.take_away, sidecar.name, *_tars_of(place, tar))
        yield Check(named(tar.name), check, (stage,), repair, lock, is_hash=True)
    failures = folder / "failures.csv"
    if failures.is_file():
        yield Check(
            named(failures.name),
            functools.partial(_check_failures, place, stage),
            (stage,),
            functools.partial(place.take_away, failures.name),
            lock,
        )


def _named(place: Place, name: str) -> Path:
    """A file's path, or its URL as one."""
    return Path(place.name) / name


def _tars_of(place: Place, tar: Path) -> list[str]:
    """A shard's tar, under all of its names."""
    names = place.sizes if place.sizes is not None else [path.name for path in place.folder.glob(f"{tar.stem}*.tar")]
    return sorted({tar.name, *(name for name in names if name.startswith(f"{tar.stem}.") and name.endswith(".tar"))})


def _check_settings(path: Path) -> None:
    if read_provenance(path, RENAMED).fingerprint != stored_fingerprint(path):
        raise _damaged(path, "its fingerprint is of other settings")


def _check_shard(place: Place, number: int) -> None:
    tar, shard = _named(place, tar_path(place.folder, number).name), kept_shard(place, number)
    if shard is None:
        raise _damaged(tar, "it is missing or cut short")
    if differs(place, shard.tar.name, shard.size, shard.sha256):
        raise _damaged(tar, "its bytes differ from those that were written")


def _check_failures(place: Place, stage: str) -> None:
    """The log follows from all shards; where one is not there or damaged, the command that makes it writes it again."""
    folder = place.folder
    try:
        stored = read_provenance(folder / SETTINGS, RENAMED)
        settings = stored.flat
        shards = [kept_shard(place, number) for number in range(-(-settings["tracks"] // settings["tracks_per_shard"]))]
    except (MixstyleError, KeyError, TypeError, ZeroDivisionError):
        return
    whole = [shard for shard in shards if shard is not None]
    if len(whole) < len(shards) or any(shard.fingerprint != stored.fingerprint for shard in whole):
        return
    if (folder / "failures.csv").read_bytes() != failures_csv(failures_of(whole, stage)):
        raise _damaged(_named(place, "failures.csv"), "it does not list what the shards' sidecars tell")


@contextmanager
def _all_shards(path: Path) -> Iterator[None]:
    """Holds every shard of a folder or a store."""
    with ShardLocks(path, "mixstyle verify --repair") as locks, locks.all():
        yield


# Descriptors and spectrograms


def _features(place: Place) -> Iterator[Check]:
    place.refresh()
    if not place.folder.is_dir() or not any(place.folder.iterdir()):
        return
    yield Check(
        Path(place.name),
        functools.partial(_check_store, place),
        ("features",),
        functools.partial(_repair_store, place),
        functools.partial(_all_shards, place.folder),
    )
    yield from _mixed(place, FEATURES_MACHINES, ("features", "--rebuild"))


def _mixed(place: Place, name: str, again: tuple[str, ...]) -> Iterator[Check]:
    """What tells which machines of other kinds made parts. No command makes it again but one that makes all again."""
    path = mixed_at(place, name)
    if path.is_file():
        yield Check(_named(place, name) if place.is_remote else path, functools.partial(check_mixed, path), again)


def _check_store(place: Place) -> None:
    store = FeatureStore.open(place)
    damaged = _damaged_shards(store)
    if damaged:
        told = "; ".join(f"shard {shard}: {why}" for shard, why in list(damaged.items())[:3])
        more = f"; and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        raise _damaged(Path(place.name), told + more)
    if store.complete and store.statistics_differ():
        raise _damaged(Path(place.name), "its statistics are not those of its rows")
    if store.lacks_statistics():
        raise _damaged(Path(place.name), "a part of its statistics is missing")


def _damaged_shards(store: FeatureStore) -> dict[int, str]:
    """What is wrong with each shard that is not whole. A shard that nobody has begun is no damage."""
    unmarked = dict.fromkeys(store.unmarked_shards(), "the mark that it is done is missing")
    return dict(sorted({**unmarked, **store.damaged_shards()}.items()))


def _repair_store(place: Place) -> None:
    """Takes damaged shards out of a store; all of it where it is damaged as a whole."""
    try:
        store = FeatureStore.open(place, write=True)
        damaged = _damaged_shards(store)
    except MixstyleError as error:
        if error.code == "remote":
            raise
        place.clear()
        return
    for shard in damaged:
        store.forget_shard(shard)
    if not damaged:
        store.forget_statistics()


def _check_mels(path: Path) -> None:
    MelStore.open(path).verify()


def _check_kept(path: Path) -> None:
    if not kept_is_whole(path):
        raise _damaged(path, "it is not the clip that was kept")


# Training, evaluation, report


def _training(kept: KeptFolder) -> Iterator[Check]:
    folder = kept.folder
    if isinstance(kept, RemoteFolder):
        yield from _kept_files(kept, "train")
        return
    if (folder / SETTINGS).is_file():
        path = folder / SETTINGS
        yield Check(path, functools.partial(_check_settings, path), ("train", "--rebuild"))
    lock = functools.partial(locked, folder, "mixstyle verify --repair")
    for path in checkpoints_in(folder):
        check = functools.partial(load_checkpoint, path)
        yield Check(path, check, ("train",), functools.partial(_remove, path), lock)
    if (folder / LOSS).is_file():  # nothing but the training that is over makes it again
        yield Check(folder / LOSS, functools.partial(read_loss, folder / LOSS), ("train", "--rebuild"))


def _kept_files(kept: RemoteFolder, stage: str) -> Iterator[Check]:
    """The files of a folder behind a URL. They were checked before they were sent: their hashes tell the rest."""
    kept.look()
    lock = functools.partial(locked, kept.folder, "mixstyle verify --repair")
    if kept.damage is not None:
        error = kept.damage

        def damaged() -> None:
            raise error

        yield Check(Path(kept.name), damaged, (stage,) if kept.files else (stage, "--rebuild"), None)
    for name in sorted(kept.files):
        check, repair = functools.partial(kept.check, name), functools.partial(kept.forget, name)
        if name == SETTINGS:
            yield Check(Path(kept.name) / name, check, (stage, "--rebuild"), is_hash=True)
        else:
            yield Check(Path(kept.name) / name, check, (stage,), repair, lock, is_hash=True)


def _evaluation_banks(settings: Settings) -> Iterator[Place]:
    """Where the banks of evaluations are kept."""
    location = settings.evaluate.bank_dir
    if not url_of(location):
        yield from map(Place, sorted(location.glob("*/")))
        return
    names = {name.partition("/")[0] for name in RemoteStore(url_of(location)).listed() if "/" in name}
    for name in sorted(names):
        yield stems_place(location / name, settings.train.stems_cache_dir)


def _evaluation(kept: KeptFolder) -> Iterator[Check]:
    if isinstance(kept, RemoteFolder):
        yield from _kept_files(kept, "evaluate")
        return
    folder = kept.folder
    for path in sorted(folder.glob("*.npz")):
        yield _removable(path, functools.partial(read_embeddings, path), ("evaluate",))
    yield from _json_of(folder, "evaluate")


def _report(kept: KeptFolder) -> Iterator[Check]:
    yield from _kept_files(kept, "report") if isinstance(kept, RemoteFolder) else _json_of(kept.folder, "report")


def _json_of(folder: Path, stage: str) -> Iterator[Check]:
    """A page's numbers, and what it was made from."""
    if (folder / REPORTED).is_file():
        yield _removable(folder / REPORTED, functools.partial(read_json, folder / REPORTED), (stage,))
    if (folder / SETTINGS).is_file():
        path = folder / SETTINGS
        yield Check(path, functools.partial(_check_settings, path), (stage, "--rebuild"))


# Songs


def _index(place: Place) -> Iterator[Check]:
    place.refresh()
    folder, named = place.folder, functools.partial(_named, place)
    path = folder / SETTINGS
    if not path.is_file():
        return
    try:
        music = str(read_provenance(path).flat.get("music", ANY_FOLDER))
    except MixstyleError:
        music = ANY_FOLDER
    again = ("index", music)
    lock = functools.partial(locked, folder, "mixstyle verify --repair")
    yield Check(named(path.name), functools.partial(_check_settings, path), (*again, "--rebuild"))
    for part in sorted(folder.glob("songs-*.parquet")):
        check = functools.partial(read_part, part)
        yield Check(named(part.name), check, again, functools.partial(place.take_away, part.name), lock)
    yield from _mixed(place, INDEX_MACHINES, (*again, "--rebuild"))
    if (folder / NEAREST).is_file():
        repair = functools.partial(_remove, folder / STATE, folder / NEAREST)
        yield Check(folder / NEAREST, functools.partial(_check_nearest, folder), again, repair, lock)
    if (folder / LEFT_OUT).is_file():
        repair = functools.partial(place.take_away, LEFT_OUT)
        yield Check(named(LEFT_OUT), functools.partial(_check_left_out, place), again, repair, lock)


def _check_nearest(folder: Path) -> None:
    try:
        songs = SongIndex(folder)
    except MixstyleError:
        return  # its part is named already
    if not songs.nearest_is_whole():
        raise _damaged(folder / NEAREST, "it does not hold the embeddings of the index")


def _check_left_out(place: Place) -> None:
    """The log follows from the parts. Of an index that is not finished, `index` writes it again anyway."""
    folder = place.folder
    try:
        songs = SongIndex(folder)
    except MixstyleError:
        return  # its part is named already
    made_here = (folder / NEAREST).is_file() or not place.is_remote
    if made_here and not songs.nearest_is_whole():
        return
    if (folder / LEFT_OUT).read_bytes() != left_out_csv(songs.failed).encode():
        raise _damaged(_named(place, LEFT_OUT), "it does not list the songs that were left out")
