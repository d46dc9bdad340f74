"""`mixstyle demo-songs`: writes rendered songs, with their true stems, to try everything on.

Layout under the output folder:

    songs/0003-funk-104bpm.flac                       the mixture, 16 bits, 44.1 kHz, stereo
    stems/0003-funk-104bpm/{vocals,bass,drums,other,mixture}.flac
    songs.json                                        format 1, described below

songs.json holds `format` (1; other values are refused), `settings` (what the songs depend on) and
`songs`, one entry a finished song in order of its index: index, name, seed, style, tempo_bpm, key, mix
(the mixing settings drawn for it) and files (relative path to size in bytes). It is written before the
first song, with no songs, and again after each: a song is finished when it is listed and its files have
the listed sizes. Everything is written under a temporary name, synced and renamed.

Stems are rounded to 16 bits first and the mixture is the sum of the rounded stems, so the files add up
to the last bit.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile

from mixstyle.cache.music.writer import libsndfile_refusals
from mixstyle.cache.storage.atomic import atomic_write, write_text
from mixstyle.cache.storage.provenance import differences
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.synth.song import MIN_DURATION_S, render_song
from mixstyle.stages.common.processes import leave_ctrl_c_to_parent, processes_here, started_deaf_to_ctrl_c
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.demo_songs.listing import (
    FORMAT,
    is_whole,
    our_entries,
    provenance_of,
    read_listing,
    stale,
    stored_provenance,
    stored_settings,
)


@dataclass(frozen=True)
class DemoSongsSummary:
    """What a run of `demo_songs` did."""

    output_dir: Path
    songs: int
    rendered: int
    kept: int
    """Songs that an earlier run had finished."""
    duration_s: float
    """Length of each song."""


def song_seed(seed: int, index: int) -> int:
    """The seed of song `index` of a set; independent of how many songs the set has. Below 2**53."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]) >> 11


def demo_songs(
    output_dir: Path,
    songs: int,
    seed: int,
    duration_s: float = 48.0,
    stems: bool = True,
    workers: int = 2,
    rebuild: bool = False,
) -> DemoSongsSummary:
    """Renders `songs` songs of `duration_s` seconds into `output_dir`, in `workers` processes.

    Songs that an earlier run with the same settings finished are kept; a larger `songs` adds to them.
    `rebuild` removes the folder's songs first. Without songs nothing is made, not even the folder. The
    bytes depend on the settings alone, not on `songs` or `workers`.

    Raises MixstyleError for impossible settings, a folder that cannot be written, or songs made with
    other settings (naming the first that differs).
    """
    _check(songs, seed, duration_s, workers)
    output_dir = Path(output_dir)
    check_folder(output_dir)
    settings = stored_settings(seed, duration_s, stems)
    with _telling(output_dir):
        finished = _open_folder(output_dir, settings, songs, rebuild)
        if not songs:
            say(f"no songs were asked for: nothing is written to {output_dir} (the profile brings its own music)")
            return DemoSongsSummary(output_dir, 0, 0, 0, float(duration_s))
        todo = [index for index in range(songs) if index not in finished]
        for folder in ("songs", "stems") if stems else ("songs",):
            (output_dir / folder).mkdir(parents=True, exist_ok=True)
        _write_listing(output_dir, settings, finished)
        kept = songs - len(todo)
        jobs = [(output_dir, index, song_seed(seed, index), duration_s, stems) for index in todo]
        with progress("rendering songs", total=songs, unit="songs", done=kept) as bar:
            for entry in _render_all(jobs, min(workers, len(jobs))):
                finished[entry["index"]] = entry
                _write_listing(output_dir, settings, finished)
                bar.advance(1)
    earlier = f", {kept} of them from an earlier run" if kept else ""
    say(f"demo-songs: {counted(songs, 'song')} of {duration_s:g} s in {output_dir}{earlier}")
    return DemoSongsSummary(output_dir, songs, len(todo), kept, float(duration_s))


def _check(songs: int, seed: int, duration_s: float, workers: int) -> None:
    if songs < 0:
        raise MixstyleError(f"songs is {songs}: ask for 1 or more, or 0 for none", code="bad-setting")
    if seed < 0:
        raise MixstyleError(f"seed is {seed}: seeds are 0 or larger", code="bad-setting")
    if not (MIN_DURATION_S <= duration_s <= 3600):
        raise MixstyleError(
            f"duration_s is {duration_s:g}: choose {MIN_DURATION_S:g} to 3600 seconds", code="bad-setting"
        )
    if workers < 1:
        raise MixstyleError(f"workers is {workers}: ask for 1 or more", code="bad-setting")


@contextmanager
def _telling(output_dir: Path) -> Iterator[None]:
    """Turns the operating system's refusals into one line that names the folder or file."""
    try:
        yield
    except OSError as error:
        place = error.filename or output_dir
        raise MixstyleError(f"cannot write songs to {place}: {error.strerror or error}", code="cannot-write") from error
    except soundfile.LibsndfileError as error:
        raise MixstyleError(f"cannot write songs to {output_dir}: {error}", code="cannot-write") from error


def _open_folder(output_dir: Path, settings: dict[str, Any], songs: int, rebuild: bool) -> dict[int, dict[str, Any]]:
    """Finished songs by index, after checking that the folder's songs were made with equal settings."""
    if rebuild:
        _clear(output_dir)
    listing = read_listing(output_dir)
    if listing is None:
        if any(our_entries(output_dir)):
            raise stale(output_dir, f"{output_dir} holds songs but no songs.json; to replace them,")
        return {}
    changed = differences(stored_provenance(listing), provenance_of(settings))
    if changed:
        raise stale(output_dir, f"{output_dir} holds other songs ({'; '.join(changed)}); undo the change, or")
    entries = {entry["index"]: entry for entry in listing["songs"]}
    if any(index >= songs for index in entries):
        changed = f"demo_songs.songs: {max(entries) + 1} -> {songs}"
        raise stale(output_dir, f"{output_dir} holds other songs ({changed}); undo the change, or")
    return {index: entry for index, entry in entries.items() if is_whole(output_dir, entry)}


def _clear(output_dir: Path) -> None:
    """Removes the listing and the songs, and nothing that is not named as ours."""
    (output_dir / "songs.json").unlink(missing_ok=True)
    for path in list(our_entries(output_dir)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_listing(output_dir: Path, settings: dict[str, Any], finished: dict[int, dict[str, Any]]) -> None:
    listing = {"format": FORMAT, "settings": settings, "songs": [finished[index] for index in sorted(finished)]}
    write_text(output_dir / "songs.json", json.dumps(listing, indent=1) + "\n")


def _write_flac(path: Path, samples: np.ndarray) -> int:
    """Writes int16 [2, T] as FLAC, verified by its frame count; returns its size in bytes."""
    with atomic_write(path) as temporary:
        with temporary.open("w+b") as raw, libsndfile_refusals(raw) as kept:
            soundfile.write(cast(Any, kept), samples.T, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
        if soundfile.info(temporary).frames != samples.shape[-1]:
            raise MixstyleError(f"{path} came out shorter than it should be: is the disk full?", code="cannot-write")
    return path.stat().st_size


def _render_one(job: tuple[Path, int, int, float, bool]) -> dict[str, Any]:
    """Renders and writes one song (in a worker); returns its entry for songs.json."""
    output_dir, index, seed, duration_s, stems = job
    song = render_song(seed, duration_s)
    name = f"{index:04d}-{song.name}"
    rounded = np.rint(song.stems * 32768.0).astype(np.int16)
    mixture = rounded.astype(np.int32).sum(axis=0).astype(np.int16)
    files: dict[str, int] = {}
    if stems:
        folder = output_dir / "stems" / name
        folder.mkdir(parents=True, exist_ok=True)
        for stem, samples in zip((*STEMS, "mixture"), (*rounded, mixture), strict=True):
            files[f"stems/{name}/{stem}.flac"] = _write_flac(folder / f"{stem}.flac", samples)
    files[f"songs/{name}.flac"] = _write_flac(output_dir / "songs" / f"{name}.flac", mixture)
    return {
        "index": index,
        "name": name,
        "seed": seed,
        "style": song.genre,
        "tempo_bpm": song.tempo_bpm,
        "key": song.key,
        "mix": song.mix.record(),
        "files": files,
    }


def _follow_parent(stop: Connection) -> None:
    """Ends this worker when the process that started it is gone, so that a kill leaves no orphans, or closes the other
    end of `stop`, so that Ctrl-C does not wait for the end of a song."""
    leave_ctrl_c_to_parent()
    parent = parent_process()
    if parent is not None:
        sentinels = [parent.sentinel, stop]
        threading.Thread(target=lambda: (connection.wait(sentinels), os._exit(1)), daemon=True).start()


def _render_all(jobs: list[tuple[Path, int, int, float, bool]], workers: int) -> Iterator[dict[str, Any]]:
    """Entries of finished songs, as they finish."""
    if workers > 1:
        workers = processes_here(workers)
    if workers <= 1:
        yield from map(_render_one, jobs)
        return
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    with started_deaf_to_ctrl_c():  # the executor starts its processes with the jobs
        pool = ProcessPoolExecutor(workers, context, _follow_parent, (theirs,))
        waiting = {pool.submit(_render_one, job) for job in jobs}
    with ours, theirs, pool:
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise MixstyleError(
                "a process that rendered songs died (out of memory?): run the command again with fewer workers",
                code="worker-died",
            ) from error
        except BaseException:
            ours.close()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
