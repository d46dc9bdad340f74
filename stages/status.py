"""`mixstyle status`: what each stage has done, what is left, what failed, what is stale and why.

It compares what stands on the disk with what the stages would make now, and changes nothing.
"""

import dataclasses
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table

from mixstyle.cache.features_store import FeatureStore
from mixstyle.cache.models.checkpoints import FINAL, newest_checkpoint
from mixstyle.cache.music.listing import describe_change, list_tracks, with_spot_checks
from mixstyle.cache.stem_store.failures import count_by_kind, failures_of
from mixstyle.cache.stem_store.manifest import load_plan, ordered
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import read_json
from mixstyle.cache.storage.provenance import differences, read_provenance
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.commands import completed
from mixstyle.stages.common.progress import say
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.features.stage import stale_reasons
from mixstyle.stages.report.stage import METRICS
from mixstyle.stages.report.stage import SETTINGS as REPORT_SETTINGS
from mixstyle.stages.report.stage import provenance_of as report_provenance
from mixstyle.stages.separate.cutting import cutting_version_of
from mixstyle.stages.separate.parallelism import choose_streams, device_of, provenance_of
from mixstyle.stages.separate.stage import SPOT_CHECKS
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.stage import OTHER_INPUTS, unversioned
from mixstyle.stages.train.stage import SETTINGS as TRAIN_SETTINGS
from mixstyle.stages.train.stage import provenance_of as train_provenance

State = Literal["not started", "partly done", "done", "stale", "damaged"]
COLOURS: dict[str, str] = {"done": "green", "partly done": "yellow", "stale": "red", "damaged": "red"}


@dataclass(frozen=True)
class StageStatus:
    """One stage."""

    stage: str
    state: State
    done: str = ""
    """What is there, in words."""
    problems: tuple[str, ...] = ()
    """What failed, what is stale and why, what could not be compared."""
    run: str = ""
    """The command that goes on; empty where nothing is left."""


@dataclass(frozen=True)
class StatusSummary:
    """All stages, in their order."""

    stages: tuple[StageStatus, ...]

    def __getitem__(self, stage: str) -> StageStatus:
        return next(found for found in self.stages if found.stage == stage)

    @property
    def next_command(self) -> str:
        """The command to give now; empty when all is done."""
        return next((found.run for found in self.stages if found.run), "")


def status(settings: Settings) -> StatusSummary:
    """Prints, and returns, where each stage of the profile stands. Never raises for what it finds on the disk."""
    cache, separate = _separate(settings)
    store, features = _features(settings, cache)
    summary = StatusSummary(
        (separate, features, _train(settings, cache, store), _report(settings, cache, store)),
    )
    _print(summary, settings)
    return summary


def _separate(settings: Settings) -> tuple[StemCache | None, StageStatus]:
    folder = settings.separate.stems_dir
    if not (folder / "settings.json").exists():
        return None, StageStatus("separate", "not started", run="mixstyle separate")
    try:
        cache = StemCache(folder)
    except MixstyleError as error:
        return None, StageStatus("separate", "damaged", problems=(str(error),), run="mixstyle separate")
    failures = failures_of(cache.shards)
    tracks = sum(len(shard.tracks) for shard in cache.shards)
    clips = sum(len(track.clips) for track in cache.tracks)
    size = sum(shard.size for shard in cache.shards)
    done = (
        f"{len(cache.shards)} of {cache.n_shards} shards, {len(cache.tracks)} of {tracks} tracks "
        f"({clips} clips), {_bytes(size)}"
    )
    problems = []
    for what, found in (
        ("tracks that failed", [failure for failure in failures if not failure.clip]),
        ("clips that failed in other tracks", [failure for failure in failures if failure.clip]),
    ):
        if found:
            kinds = ", ".join(f"{count} {kind}" for kind, count in count_by_kind(found).items())
            problems.append(f"{what}: {kinds}; see {folder / 'failures.csv'}")
    changed, unknown = _separate_changes(settings, cache)
    if changed:
        problems.append(f"made with other settings: {'; '.join(changed)}")
        return cache, StageStatus("separate", "stale", done, tuple(problems), "mixstyle separate --rebuild")
    if unknown:
        problems.append(f"could not be compared with the settings: {unknown}")
    state, run = ("done", "") if cache.complete else ("partly done", "mixstyle separate")
    return cache, StageStatus("separate", state, done, tuple(problems), run)


def _separate_changes(settings: Settings, cache: StemCache) -> tuple[list[str], str]:
    """Settings that differ from those of the stems; or why that cannot be told (music that is not there, say)."""
    chosen = settings.separate
    try:
        listing = list_tracks(chosen.data_path, chosen.input)
        listing = with_spot_checks(listing, ordered(listing, chosen.seed)[:SPOT_CHECKS], chosen.input)
        device = device_of(chosen)
        # The separator's fingerprint hangs on neither device nor precision: a GPU that is at work stays untouched.
        separator = configured_separator(dataclasses.replace(chosen, precision="fp32"), torch.device("cpu"))
        streams = choose_streams(chosen, separator, device, measure=False)
        cutting = cutting_version_of(chosen.stems_dir)
        now = provenance_of(chosen, listing, separator, device, streams, cutting)
        before = load_plan(chosen.stems_dir / "plan.jsonl.gz")
    except MixstyleError as error:
        return [], str(error)
    change = describe_change(before.listing, listing) if before else "other music than in the plan"
    told = {"listing": f"{chosen.data_path}: {change}", "tracks": ""}
    return differences(cache.provenance, now, told=told), ""


def _features(settings: Settings, cache: StemCache | None) -> tuple[FeatureStore | None, StageStatus]:
    path = settings.features.features_path
    if not path.exists():
        return None, StageStatus("features", "not started", run="mixstyle features")
    try:
        store = FeatureStore.open(path)
        shards = store.done
        done = f"{int(shards.sum())} of {len(shards)} shards, {len(store.names)} descriptors"
        stale = stale_reasons(store, cache) if cache else []
    except MixstyleError as error:
        return None, StageStatus("features", "damaged", problems=(str(error),), run="mixstyle features --rebuild")
    if stale:
        problem = f"made from other stems or descriptors: {'; '.join(stale)}"
        return store, StageStatus("features", "stale", done, (problem,), "mixstyle features --rebuild")
    if not shards.all():
        return store, StageStatus("features", "partly done", done, run="mixstyle features")
    return store, StageStatus("features", "done", done)


def _train(settings: Settings, cache: StemCache | None, store: FeatureStore | None) -> StageStatus:
    options = settings.train
    folder = options.checkpoint_dir
    newest = newest_checkpoint(folder) if folder.is_dir() else None
    if newest is None:
        return StageStatus("train", "not started", run="mixstyle train")
    path, content, torn = newest
    step, total = content["step"], _total_steps(settings, cache)
    of = f" of {total}" if total else ""
    done = f"step {step}{of}, epoch {content['epoch']} of {options.num_epochs}, best loss {content['best_loss']:.4f}"
    problems = [f"passed over {line}" for line in torn]
    try:
        stored = read_provenance(folder / TRAIN_SETTINGS)
    except MixstyleError as error:
        return StageStatus("train", "damaged", done, (*problems, str(error)), "mixstyle train --rebuild")
    # inputs that are not finished cannot be compared: then they count as the same
    inputs = {name: str(stored.made_from.get(name, "")) for name in OTHER_INPUTS}
    if cache and cache.complete:
        inputs["stems"] = cache.fingerprint
    if store and store.complete:
        inputs["features"] = store.fingerprint
    now = train_provenance(options, inputs)
    changed = differences(stored, now, absent=unversioned(options), told=OTHER_INPUTS)
    if changed:
        problems.append(f"trained otherwise: {'; '.join(changed)}")
        return StageStatus("train", "stale", done, tuple(problems), "mixstyle train --rebuild")
    ended = (folder / FINAL).is_file() and (total is None or step >= total)
    if ended:
        return StageStatus("train", "done", f"{done}, {path.name}", tuple(problems))
    return StageStatus("train", "partly done", f"{done}, {path.name}", tuple(problems), "mixstyle train")


def _total_steps(settings: Settings, cache: StemCache | None) -> int | None:
    """Steps that the training will have; None where the tracks are not known yet."""
    if cache is None or not cache.complete:
        return None
    options = settings.train
    tracks = sum(track.split == "train" and len(track.clips) >= 2 for track in cache.tracks)
    total = (options.steps_per_epoch or tracks // options.batch_size) * options.num_epochs
    return min(total, options.max_steps) if options.max_steps else total


def _report(settings: Settings, cache: StemCache | None, store: FeatureStore | None) -> StageStatus:
    folder = settings.report.report_dir
    metrics_path = folder / METRICS
    if not metrics_path.is_file() or not (folder / REPORT_SETTINGS).is_file():
        return StageStatus("report", "not started", run="mixstyle report")
    made = datetime.fromtimestamp(metrics_path.stat().st_mtime).astimezone()
    try:
        found = read_json(metrics_path)["retrieval"]
        numbers = ", ".join(f"{row} {100 * found[row]['top1']:.1f}%" for row in ("trained", "raw", "untrained"))
        done = f"{made:%Y-%m-%d %H:%M}; top-1 of {found['pool']} songs: {numbers}"
        stored = read_provenance(folder / REPORT_SETTINGS)
        names = {"checkpoint": "the checkpoint", "stems": "the stems", "features": "the descriptors"}
        now = report_provenance(settings, cache, store) if cache and store else stored
        changed = differences(stored, now, told=names)
    except (MixstyleError, KeyError, TypeError) as error:
        return StageStatus("report", "damaged", problems=(f"{metrics_path}: {error}",), run="mixstyle report")
    if changed:
        return StageStatus("report", "stale", done, (f"changed since: {', '.join(changed)}",), "mixstyle report")
    return StageStatus("report", "done", done)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB" if size < 1000 else f"{size / 1000:.2f} TB"


def _print(summary: StatusSummary, settings: Settings) -> None:
    """A table on a terminal, a line each elsewhere; what needs attention below, in full."""

    def command(run: str) -> str:
        return completed(run.split()[1:], settings)

    if sys.stdout.isatty():
        table = Table("stage", "state", "what is there", box=None, pad_edge=False, header_style="bold")
        for found in summary.stages:
            colour = COLOURS.get(found.state, "dim")
            table.add_row(
                found.stage, f"[{colour}]{found.state}[/{colour}]", found.done or f"run: {command(found.run)}"
            )
        Console().print(table)
    else:
        for found in summary.stages:
            say(f"{found.stage}: {found.state}; " + (found.done or f"run: {command(found.run)}"))
    for found in summary.stages:
        for problem in found.problems:
            say(f"{found.stage}: {problem}")
    say(f"next: {command(summary.next_command)}" if summary.next_command else "nothing is left to do")
