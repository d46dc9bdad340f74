"""How long it takes to list, open, search and verify outputs of FMA's size, and how much memory: made-up data.

    uv run python benchmarks/full_size.py --tracks 13322 --tracks 26644 --tracks 106574
    uv run python benchmarks/full_size.py --tracks 1000000 --holes --without index --without verify --without store \
        --without training --without report --without evaluate

Shards and their sidecars are as `mixstyle separate` writes them, of clips of 10 s that take 5 KB of FLAC (steps of
random height), the store is as `mixstyle features` writes it, of a few values, the index as `mixstyle index` does, of
random embeddings, and the music is files of half a minute that hold nothing (they take a block of the disk each):
whatever grows with the number of tracks is as it would be, what grows with the bytes of the audio (reading the tars
through) is not. `report` and `evaluate` embed a sample of the clips; one track in fifty is held out. Each row is a
process of its own; seconds are the processor's, so that other work on the machine counts little. 106,574 tracks take
3.5 GB of disk until the end. With `--holes` a tar is as long as it would be and takes no room on the disk: for a
million tracks, which then take 5 GB. All but the first 25 sidecars are copies with other names then, and `verify`,
`report` and `evaluate` cannot read such tars.
"""

import functools
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from mixstyle.cache.feature_store.layout import RowKeys, ShardRows
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.music.listing import list_tracks, with_spot_checks
from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.cache.stem_store.failures import failures_of, write_failures
from mixstyle.cache.stem_store.manifest import SplitSettings, load_manifest, make_manifest, ordered, store_manifest
from mixstyle.cache.stem_store.shards import (
    ClipRecord,
    ShardInfo,
    TrackRecord,
    encode_clip,
    read_shard,
    shard_numbers,
    sidecar_path,
    tar_path,
    write_shard,
)
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.provenance import SETTINGS, Provenance
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.index.indexed import KnownSong
from mixstyle.stages.songs.search.matches import matches

CLIPS, TRACKS_PER_SHARD, CLIP_FRAMES = 2, 32, 441_000
"""As in the profile `fma`."""
KINDS, HELD_OUT_EVERY = 16, 50
"""How many different tracks there are to hear, and which ones are not for training: sidecars repeat after 800."""
FRAMES_A_STEP = 4096
"""A frame of FLAC, which takes a few bytes where nothing changes in it."""
DIMENSIONS = 768
"""Of the shipped encoder."""
_PCM = (b"fmt ", 16, 1, 2, 44_100, 4 * 44_100, 4, 16)


def made_up(tracks: int) -> Provenance:
    sizes = {"clips_per_track": CLIPS, "tracks_per_shard": TRACKS_PER_SHARD, "clip_s": 10.0, "tracks": tracks}
    return Provenance("separate", sizes)


def write_stems(folder: Path, tracks: int) -> None:
    """Shards of `tracks` tracks, one in a hundred of which failed."""
    provenance = made_up(tracks)
    write_json(folder / SETTINGS, provenance.to_json(), checksum=True)
    for number in range(-(-tracks // TRACKS_PER_SHARD)):
        places = range(number * TRACKS_PER_SHARD, min((number + 1) * TRACKS_PER_SHARD, tracks))
        write_shard(folder, number, [track(place) for place in places], provenance.fingerprint)
    shards = [shard for number in shard_numbers(folder) if (shard := read_shard(folder, number)) is not None]
    write_failures(folder / "failures.csv", failures_of(shards))


def track(place: int) -> TrackRecord:
    track_id, failed = f"{place:016x}", place % 100 == 99
    clips = tuple(
        ClipRecord(
            f"{track_id}_{slot}",
            slot,
            None if failed else CLIP_FRAMES * slot,
            flac=b"" if failed else steps(place % KINDS, slot),
        )
        for slot in range(CLIPS)
    )
    reason = "too short: 9.1 s, and 2 clips need 20.0 s" if failed else ""
    split = "train" if place % HELD_OUT_EVERY else "test"
    return TrackRecord(track_id, f"{place // 1000:03}/{place:06}.mp3", split, clips, reason)


@functools.cache
def steps(kind: int, slot: int) -> bytes:
    """A clip of 10 s as FLAC: steps of random height in each channel of each stem, of another level in each stem."""
    rng = np.random.default_rng([kind, slot])
    heights = rng.uniform(-1, 1, (len(STEMS), 2, -(-CLIP_FRAMES // FRAMES_A_STEP)))
    heights *= 10 ** (rng.uniform(-30, -10, (len(STEMS), 1, 1)) / 20)
    return encode_clip(np.repeat(heights, FRAMES_A_STEP, axis=-1)[..., :CLIP_FRAMES].astype(np.float32))[0]


def write_store(path: Path, cache: StemCache) -> None:
    """A store of the folder's clips with values that compress well."""
    entries = [entry for shard in cache.shards for entry in shard.tracks]
    rows = [(entry["track_id"], entry["path"], slot) for entry in entries for slot in range(CLIPS)]
    keys = RowKeys(
        [f"{track_id}_{slot}" for track_id, _, slot in rows],
        [track_id for track_id, _, _ in rows],
        [name for _, name, _ in rows],
        [entry["split"] for entry in entries for _ in range(CLIPS)],
    )
    store = FeatureStore.create(
        path,
        descriptors=DESCRIPTORS,
        descriptors_version=DESCRIPTORS_VERSION,
        keys=keys,
        rows_per_shard=cache.rows_per_shard,
        made_with={"separate": cache.settings},
    )
    for shard in cache.shards:
        store.write_shard(shard.shard, made_up_rows(store, shard))
    store.write_statistics(*store.statistics())


def made_up_rows(store: FeatureStore, shard: ShardInfo) -> ShardRows:
    place = store.shard_rows(shard.shard)
    n = place.stop - place.start
    failed = np.repeat([entry["status"] != "ok" for entry in shard.tracks], CLIPS)
    values = np.random.default_rng(shard.shard).integers(-3, 4, (n, len(DESCRIPTORS))).astype(np.float32)
    values[failed] = np.nan
    start_s = np.where(failed, np.nan, np.tile(10.0 * np.arange(CLIPS), n // CLIPS))
    return ShardRows(values, start_s, ["too short: x" if one else "" for one in failed], shard.sha256)


def settings_of(folder: Path) -> Settings:
    """A profile with nothing but the stems and the store."""
    plain = Settings()
    return replace(
        plain,
        separate=replace(plain.separate, data_path=folder / "music", stems_dir=folder / "stems"),
        features=replace(plain.features, features_path=folder / "features.zarr"),
        remix=replace(plain.remix, remix_dir=folder / "none", features_path=folder / "none.zarr"),
        demo_songs=replace(plain.demo_songs, output_dir=folder / "none"),
        train=replace(plain.train, mels_dir=folder / "none", stems_cache_dir=folder / "none", checkpoint_dir=folder),
        evaluate=replace(plain.evaluate, evaluate_dir=folder / "none", bank_dir=folder / "none"),
        report=replace(plain.report, report_dir=folder / "none", checkpoint=None),
        embed=replace(plain.embed, index_dir=folder / "none"),
    )


def make_stems(folder: Path, tracks: int) -> None:
    write_stems(folder / "stems", tracks)


def make_hollow_stems(folder: Path, tracks: int) -> None:
    """The same with tars that are as long and take no room. Sidecars repeat every 25 shards, but for names.

    Raises SystemExit where the last shard would be another one.
    """
    period = 25  # shards of 32 tracks, of which every hundredth failed
    if tracks % (period * TRACKS_PER_SHARD):
        raise SystemExit(f"--tracks {tracks}: has to be a multiple of {period * TRACKS_PER_SHARD} with --holes")
    stems = folder / "stems"
    write_stems(stems, period * TRACKS_PER_SHARD)
    first = [read_shard(stems, number) for number in range(period)]
    texts = [sidecar_path(stems, number).read_text() for number in range(period)]
    write_json(stems / SETTINGS, made_up(tracks).to_json(), checksum=True)
    for number in range(tracks // TRACKS_PER_SHARD):
        model, shift = first[number % period], number // period * period * TRACKS_PER_SHARD
        if model is None:
            raise SystemExit("the made-up stems are not whole")
        content = json.loads(renamed(texts[number % period], shift))
        del content["content_sha256"]
        content |= {"shard": number, "fingerprint": made_up(tracks).fingerprint}
        write_json(sidecar_path(stems, number), content, checksum=True)
        tar = tar_path(stems, number)
        tar.touch()
        os.truncate(tar, 0)
        os.truncate(tar, model.size)
    write_failures_again(folder, tracks)
    (folder / "failures.csv").rename(stems / "failures.csv")


def renamed(sidecar: str, shift: int) -> str:
    """A sidecar with the names of tracks that come `shift` places later."""
    ids = re.sub(r'(?<=")[0-9a-f]{16}(?=[_".])', lambda found: f"{int(found[0], 16) + shift:016x}", sidecar)
    return re.sub(
        r'(?<=")[0-9]{3,}/([0-9]{6,})(?=[.]mp3")',
        lambda found: f"{(int(found[1]) + shift) // 1000:03}/{int(found[1]) + shift:06}",
        ids,
    )


def make_store(folder: Path, _: int) -> None:
    write_store(folder / "features.zarr", StemCache(folder / "stems"))


def open_stems(folder: Path, tracks: int) -> None:
    cache = StemCache(folder / "stems")
    if cache.n_tracks != tracks or not cache.complete:
        raise SystemExit("the made-up stems are not whole")


def open_store(folder: Path, tracks: int) -> None:
    """As training does: all names, one row, the statistics."""
    store = FeatureStore.open(folder / "features.zarr")
    if not store.complete or store.stored_statistics() is None:
        raise SystemExit("the made-up store is not whole")
    store.rows([store.row(f"{tracks - 1:016x}_0")])


def make_music(folder: Path, tracks: int) -> None:
    """Files as FMA has them, a thousand in a folder; none is as long as another, so that none counts as a copy."""
    for place in range(tracks):
        path = folder / "music" / f"{place // 1000:03}" / f"{place:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 4 * (1_323_000 + place)  # 30 s of 16-bit stereo, and a frame more for each
        head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", *_PCM, b"data", size)
        with path.open("wb") as file:
            file.write(head)
            file.truncate(len(head) + size)


def list_music(folder: Path, tracks: int) -> None:
    listing = list_tracks(folder / "music", "mixtures")
    listing = with_spot_checks(listing, ordered(listing, 0)[:64], "mixtures")
    manifest = make_manifest(listing, "mixtures", SplitSettings(0, 0.1, 0.1, None))
    store_manifest(folder / "stems" / "plan.jsonl.gz", manifest)
    if len(manifest.tracks) != tracks:
        raise SystemExit("the made-up music is not listed")


def plan_separation(folder: Path, tracks: int) -> None:
    """`separate --plan` with the shipped separator. The music is silent, so no chunk of it is separated."""
    from mixstyle.stages.separate.dry_run import dry_run

    settings = settings_of(folder)
    if dry_run(replace(settings, separate=replace(settings.separate, stems_dir=folder / "none"))).tracks != tracks:
        raise SystemExit("the made-up music is not planned")


def read_manifest(folder: Path, tracks: int) -> None:
    manifest = load_manifest(folder / "stems" / "plan.jsonl.gz")
    if manifest is None or len(manifest.tracks) != tracks:
        raise SystemExit("the manifest is not whole")


def write_failures_again(folder: Path, _: int) -> None:
    """From the sidecars, as the end of a run does."""
    shards = [shard for number in shard_numbers(folder / "stems") if (shard := read_shard(folder / "stems", number))]
    write_failures(folder / "failures.csv", failures_of(shards))


def open_inputs(folder: Path, _: int) -> None:
    """What each process of `train` does before its first step, and its workers hold a copy of."""
    from mixstyle.stages.features.described_stems import open_described_stems

    cache, store = open_described_stems(settings_of(folder))
    if not len(cache.tracks_with_pairs("train")) or not len(store.values()):
        raise SystemExit("nothing to train on")
    store.training_statistics()


def rows_of_index(places: range) -> list[IndexedSong]:
    rng = np.random.default_rng(places.start)
    embeddings = rng.standard_normal((len(places), DIMENSIONS)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    values = rng.standard_normal((len(places), len(DESCRIPTORS))).astype(np.float32)
    return [
        IndexedSong(f"{place // 1000:03}/{place:06}.wav", 4_000_000 + place, place, 30.0, *rows, "", -14.0, 6.0, -1.0)
        for place, rows in zip(places, zip(embeddings, values, strict=True), strict=True)
    ]


def make_index(folder: Path, tracks: int) -> None:
    (folder / "index").mkdir()
    songs = SongIndex(folder / "index")
    for first in range(0, tracks, 10_000):
        songs.add(rows_of_index(range(first, min(first + 10_000, tracks))))
    songs.keep([song.path for song in songs.usable])
    songs.write_nearest()


def open_index(folder: Path, tracks: int) -> None:
    if len(SongIndex(folder / "index").usable) < tracks:
        raise SystemExit("the made-up index is not whole")


def add_to_index(folder: Path, tracks: int) -> None:
    """As the end of a run of `index` does, after opening."""
    songs = SongIndex(folder / "index")
    songs.add(rows_of_index(range(tracks, tracks + 100)))
    songs.keep([song.path for song in songs.usable])
    songs.write_nearest()


def search_index(folder: Path, _: int) -> None:
    """The ten nearest with reasons, of a song that the index holds: opening it is in it."""
    songs = SongIndex(folder / "index")
    query = KnownSong.of("query", songs.usable[7])
    if matches(songs, query, 10, None, folder)[0].song.path != songs.usable[7].path:
        raise SystemExit("a song is not its own nearest")


def tell_status(folder: Path, _: int) -> None:
    from mixstyle.stages.status import status

    status(settings_of(folder))


def report_sample(folder: Path, _: int) -> None:
    """As `mixstyle report` with the shipped encoder: 2,000 of the tracks outside training, and figures of all."""
    from mixstyle.stages.common.assets import shipped_encoder
    from mixstyle.stages.report.stage import report

    settings = settings_of(folder)
    chosen = replace(
        settings.report, checkpoint=shipped_encoder(), report_dir=folder / "report", split="test", device="cpu"
    )
    report(replace(settings, report=chosen))


def evaluate_sample(folder: Path, _: int) -> None:
    """As `mixstyle evaluate` with the shipped encoder: 200 of the songs outside training, as they are."""
    from mixstyle.stages.common.chosen_encoder import SHIPPED_CHECKPOINT
    from mixstyle.stages.evaluate.stage import evaluate

    settings = settings_of(folder)
    chosen = replace(
        settings.evaluate,
        evaluate_dir=folder / "evaluation",
        checkpoints=(SHIPPED_CHECKPOINT,),
        tasks=("real-mixes",),
        whitening_chains=0,
        device="cpu",
    )
    evaluate(replace(settings, evaluate=chosen))


def verify_all(folder: Path, _: int) -> None:
    from mixstyle.stages.verify import verify

    if verify(settings_of(folder)).damages:
        raise SystemExit("the made-up outputs are damaged")


MADE_UP, HOLLOW = "writing made-up stems", "writing made-up stems with hollow tars"
WORK: dict[str, Callable[[Path, int], None]] = {
    MADE_UP: make_stems,
    "writing the store": make_store,
    "writing made-up music": make_music,
    "writing the index": make_index,
    "the manifest: listing, split": list_music,
    "mixstyle separate --plan": plan_separation,
    "reading the manifest": read_manifest,
    "opening the stems": open_stems,
    "opening the store": open_store,
    "failures.csv": write_failures_again,
    "training: opening its inputs": open_inputs,
    "opening the index": open_index,
    "index: 100 more": add_to_index,
    "index: a search": search_index,
    "mixstyle status": tell_status,
    "mixstyle report": report_sample,
    "mixstyle evaluate": evaluate_sample,
    "mixstyle verify": verify_all,
}


def do(name: str, folder: Path, tracks: int) -> None:
    """One piece of work; prints its seconds and its memory as JSON."""
    if name.startswith("writing"):
        os.fsync = lambda _: None  # the disk is not what is measured
    begun, cpu = time.perf_counter(), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (WORK | {HOLLOW: make_hollow_stems})[name](folder, tracks)
    told = {
        "cpu_s": time.process_time() - cpu,
        "s": time.perf_counter() - begun,
        "mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3,
    }
    print(f"\n{json.dumps(told)}")


def main(
    tracks: Annotated[list[int] | None, typer.Option(help="How many tracks; may be repeated.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the data go meanwhile.")] = None,
    holes: Annotated[bool, typer.Option(help="Tars take no room on the disk.")] = False,
    without: Annotated[list[str] | None, typer.Option(help="Leaves out rows that name this; may be repeated.")] = None,
    only: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measures all of it for each number of tracks."""
    numbers = tracks or [106_574]
    if only and folder is not None:
        do(only, folder, numbers[0])
        return
    kept = [name for name in WORK if not any(word in name for word in without or ())]
    chosen = [HOLLOW if holes and name == MADE_UP else name for name in kept]
    table = Table("what", "tracks", "s of the processor", "ms a track", "s passed", "MB more at most")
    for number in numbers:
        place = Path(tempfile.mkdtemp(dir=folder))
        try:
            for name in chosen:
                words = [sys.executable, __file__, "--only", name, "--folder", str(place), "--tracks", str(number)]
                found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
                print(f"{name}: {found}", file=sys.stderr, flush=True)  # a million tracks take long
                ms = f"{1e3 * found['cpu_s'] / number:.3f}"
                table.add_row(
                    name, f"{number:,}", f"{found['cpu_s']:.1f}", ms, f"{found['s']:.0f}", f"{found['mb']:.0f}"
                )
        finally:
            shutil.rmtree(place)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
