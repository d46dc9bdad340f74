"""`mixstyle evaluate`: does an embedding know how music was mixed, whatever the music is?

On held-out songs alone, all of it seeded. What is rendered and measured for which task is in
`mixstyle.stages.evaluate.tasks`; embeddings are kept as each part of a task is done. Parts that go through a mix are
rendered and separated into a bank of their own (`mixstyle.stages.evaluate.banks`), once for any number of encoders.

Writes into the evaluation's folder: `metrics.json` (format version 3: figures by task, then by row), the figures as
PNG, `evaluation.html`, the embeddings as `*.npz` and `settings.json`, which tells what all of it was made from.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.checkpoints import BEST
from mixstyle.cache.stem_store.place import stems_place
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.provenance import SETTINGS
from mixstyle.cache.storage.remote_folder import KeptFolder
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.fxnorm import StemTargets
from mixstyle.stages.common.chosen_encoder import check_checkpoint, chosen_checkpoints, damage_helped
from mixstyle.stages.common.commands import helped_by
from mixstyle.stages.common.progress import progress, remark, say
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.common.worker_errors import worker_deaths
from mixstyle.stages.evaluate.banks import EvaluationBanks
from mixstyle.stages.evaluate.clips import Row
from mixstyle.stages.evaluate.embeddings import embedded, missing_rows
from mixstyle.stages.evaluate.models import DescriptorRow, EncoderRow, rows_of, with_shipped, with_whitened
from mixstyle.stages.evaluate.page import write_page
from mixstyle.stages.evaluate.provenance import METRICS, PAGE, prepare, provenance_of
from mixstyle.stages.evaluate.tables import show
from mixstyle.stages.evaluate.tasks.groups import song_groups
from mixstyle.stages.evaluate.tasks.registry import TASKS
from mixstyle.stages.evaluate.tasks.task import Audio, Context, Embeddings, Part, Separate, Task, some_of
from mixstyle.stages.evaluate.tasks.variants import Way
from mixstyle.stages.evaluate.whitened import training_songs, whitened_row
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.presentation.estimates import FEW_SONGS
from mixstyle.stages.presentation.pages import EVALUATION, links_of
from mixstyle.stages.separate.current_separator import separator_now
from mixstyle.stages.separate.tuned_streams import tuned_separation
from mixstyle.stages.settings.evaluate import EvaluateSettings, GroupedBy
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import evaluation_folder, with_trained

METRICS_VERSION = 3
"""Of metrics.json. 3: same_chain, content_hard, presets and parameters go through the mix; what they were before has
keys that begin with `stems_`. In version 1, which named none, chains were called styles, and separator_dependence
fingerprint."""
Asked = list[tuple[Task, list[Part]]]


@worker_deaths("evaluate.workers")
def evaluate(settings: Settings, rebuild: bool = False) -> dict[str, Any]:
    """Measures, prints tables, writes metrics.json and a page, and returns the metrics; goes on where it was stopped.

    Raises MixstyleError where stems, descriptors or checkpoints are missing or do not fit.
    """
    if not settings.evaluate.checkpoints:
        settings = with_trained(settings, BEST)
    kept = evaluation_folder(settings)
    options, folder = replace(settings.evaluate, evaluate_dir=kept.folder), kept.folder
    for output in (folder, stems_place(options.bank_dir, settings.train.stems_cache_dir).folder):
        check_folder(output)
    cache, store = open_described_stems(settings)
    device = resolve_device(options.device)
    checkpoints, rows = asked_rows(settings, device)
    songs, of_known_albums = apart_from_albums(cache, held_out(cache, rows), rows, options.group_by)
    songs = some_of(songs, options.songs, options.seed)
    rows = with_shipped(rows, songs, device)
    asked = asked_tasks(settings, cache, songs, store)
    if _separates(asked, options) and not (folder / SETTINGS).exists():  # what is refused leaves no folder behind
        separator_now(replace(settings.separate, input="mixtures"))
    training = training_songs(training_cache(settings, cache), songs)
    banks = EvaluationBanks(settings, rebuild)
    with locked(folder, "mixstyle evaluate"):
        _fetch(kept, rebuild)
        prepare(folder, provenance_of(settings, cache, checkpoints), rebuild)
        kept.send()

        def described(part: Part) -> Embeddings:
            row = DescriptorRow()
            found = embedded(options, training.cache, part, [row], device, lambda _: None, banks)[row.name]
            kept.send()
            return found

        rows = with_whitened(rows, whitened_row(training, options, _ways(asked), described))
        total = sum(len(part) for _, parts in asked for part in parts)
        remark(f"evaluate: {len(songs)} held-out songs, {total} clips to embed, {len(rows)} rows, on {device}")
        _make_banks(banks, cache, asked, rows, options)
        with progress("evaluate", total, "clips") as bar:

            def embed(part: Part) -> dict[str, Embeddings]:
                found = embedded(options, cache, part, rows, device, bar.advance, banks)
                kept.send()
                return found

            metrics, shown = _measure(options, asked, len(songs), rows, embed)
        metrics |= {"songs_of_known_albums": of_known_albums, "stems_given": settings.separate.input == "stems"}
        write_json(folder / METRICS, metrics, checksum=True)
        show(metrics)
        write_page(folder / PAGE, metrics, shown, options, links_of(settings, EVALUATION))
        kept.send()
        kept.show(PAGE, METRICS)
    say(f"evaluate: wrote {folder / METRICS} and {folder / PAGE}")
    return metrics


def asked_rows(settings: Settings, device: torch.device) -> tuple[list[Path], list[Row]]:
    """The encoders' files and the rows that the settings ask for. Raises MixstyleError for settings and files that
    cannot be used."""
    options, train = settings.evaluate, settings.train
    check_options(options)
    checkpoints = chosen_checkpoints(options.checkpoints, train.checkpoint_dir, train.stems_cache_dir)
    for path in checkpoints:
        check_checkpoint(path, train.checkpoint_dir)
    with damage_helped(checkpoints, train.checkpoint_dir):
        return checkpoints, rows_of(checkpoints, options.models, device)


def _fetch(kept: KeptFolder, rebuild: bool) -> None:
    """Fetches what earlier runs have kept behind a URL, and tells what is not whole there: it is made again."""
    left_out: list[str] = []
    kept.fetch(left_out=left_out, rebuild=rebuild)
    for line in left_out:
        remark(f"evaluate: warning: left out {line}")


def _make_banks(
    banks: EvaluationBanks, cache: StemCache, asked: Asked, rows: Sequence[Row], options: EvaluateSettings
) -> None:
    """Mixes and separates the clips that go through a mix and are not embedded yet."""
    for part in (part for _, parts in asked for part in parts):
        if part.way == "through-mix" and missing_rows(options, part, rows):
            remark(f"evaluate: {part.name}: {len(part)} clips go through the mix")
            banks.of(cache, part)  # with a bar of its own, before that of the embeddings


def training_cache(settings: Settings, cache: StemCache) -> StemCache:
    """The stems whose training songs the whitened descriptors are fitted on."""
    other = settings.evaluate.training_stems_dir
    if other is None:
        return cache
    with helped_by("separate", "--set", f"separate.stems_dir={other}"):
        return StemCache(other)


def _ways(asked: Asked) -> list[Way]:
    """Which maps the parts need: music as it is takes that of what went through a mix."""
    ways: dict[Way, None] = {
        "as-processed" if part.way == "as-processed" else "through-mix": None for _, parts in asked for part in parts
    }
    return list(ways)


def _separates(asked: Asked, options: EvaluateSettings) -> bool:
    """Whether clips are separated: those of a task, or those that the whitened descriptors are fitted on."""
    ways = {part.way for _, parts in asked for part in parts}
    fitted = options.whitening_chains > 0 and "as-is" in ways
    return fitted or "through-mix" in ways or any(task.separates for task, _ in asked)


def check_options(options: EvaluateSettings) -> None:
    """Raises MixstyleError as `check_effects` and the checks of the tasks do."""
    check_effects(options)
    for name in options.tasks:
        if (check := TASKS[name].check) is not None:
            check(options)


def check_effects(options: EvaluateSettings) -> None:
    """Raises MixstyleError (bad-setting) for more effects than there are."""
    for name in ("effects", "hard_effects"):
        if not np.max(getattr(options, name)) <= len(EFFECTS):
            raise MixstyleError(
                f"evaluate.{name}={getattr(options, name)}: there are {len(EFFECTS)} effects", code="bad-setting"
            )


def _measure(
    options: EvaluateSettings,
    asked: Asked,
    songs: int,
    rows: Sequence[Row],
    embed: Callable[[Part], dict[str, Embeddings]],
) -> tuple[dict[str, Any], dict[str, dict[str, Embeddings]]]:
    """The metrics as JSON gives them back, and the embeddings by row of the tasks that keep them."""
    metrics: dict[str, Any] = {
        "version": METRICS_VERSION,
        "songs": songs,
        "chains": options.chains,
        "rows": [row.name for row in rows],
    }
    kept: dict[str, dict[str, Embeddings]] = {}
    for task, parts in asked:
        for part in parts:
            found = embed(part)
            for row in rows:
                for key, figure in task.measure(found[row.name], part, row.name, options).items():
                    first, _, second = key.partition(".")
                    place = metrics.setdefault(first, {})
                    (place.setdefault(second, {}) if second else place)[row.name] = figure
            if task.keeps_embeddings:
                kept[task.name] = found
    return json.loads(json.dumps(metrics)), kept


def held_out(cache: StemCache, rows: Sequence[Row] = ()) -> list[CachedTrack]:
    """Songs that are not for training, and that no encoder of the rows was trained on: they are known by their path
    within the music folder. Raises MixstyleError for fewer than two."""
    known = {number for row in rows if isinstance(row, EncoderRow) for number in row.trained_on}
    songs = [track for track in cache.tracks if track.split != "train" and int(track.track_id, 16) not in known]
    if len(songs) < 2:
        raise MixstyleError(
            f"{cache.stems_dir}: {counted(len(songs), 'song')} that no encoder was trained on, and 2 are needed; "
            "separate more music, or raise separate.validation_fraction and separate.test_fraction",
            code="no-music",
        )
    return songs


def apart_from_albums(
    cache: StemCache, songs: Sequence[CachedTrack], rows: Sequence[Row], by: GroupedBy
) -> tuple[list[CachedTrack], int]:
    """The songs that are of no album, soundtrack or artist that an encoder was trained on, where enough are left; and
    how many are of one, where not: their figures are better than those of new music."""
    known = {number for row in rows if isinstance(row, EncoderRow) for number in row.trained_on}
    groups = song_groups(cache, cache.tracks, by)
    heard = {
        label
        for track, label in zip(cache.tracks, groups.labels, strict=True)
        if label and int(track.track_id, 16) in known
    }
    label_of = dict(zip((track.track_id for track in cache.tracks), groups.labels, strict=True))
    apart = [song for song in songs if label_of[song.track_id] not in heard]
    count = len(songs) - len(apart)
    if not count:
        return list(songs), 0
    if len(apart) >= FEW_SONGS:
        remark(f"evaluate: {count} songs are left out: an encoder was trained on other songs of the same {groups.by}")
        return apart, 0
    remark(
        f"evaluate: {count} of {len(songs)} songs are of a {groups.by} that an encoder was trained on, and there "
        "are too few others: the figures are better than they would be on new music"
    )
    return list(songs), count


def asked_tasks(settings: Settings, cache: StemCache, songs: Sequence[CachedTrack], store: FeatureStore) -> Asked:
    """The tasks that were asked for, each with its parts; those that need a separator only where there is one."""
    options = settings.evaluate

    def separate() -> Separate:
        return _separation(settings, resolve_device(options.device))

    def targets() -> StemTargets:
        rows = [clip.row for song in songs for clip in song.clips]
        return StemTargets.from_medians(store.names, store.statistics(rows)[0])

    context = Context(options, cache, songs, separate, song_groups(cache, songs, options.group_by), targets)
    asked: Asked = []
    for name in dict.fromkeys(options.tasks):
        task = TASKS[name]
        if task.separates and settings.separate.input == "stems":
            remark(f"evaluate: {name} is left out: it needs a separator, and separate.input is stems")
        else:
            asked.append((task, task.parts(context)))
    return asked


def _separation(settings: Settings, device: torch.device) -> Separate:
    """What separates clips' mixtures, in tuned batches and streams."""
    separator = configured_separator(settings.separate, device, for_encoder=True)
    if separator is None:
        raise ValueError("stems that are given have no separator")
    separated = tuned_separation(settings.separate, separator)

    def separate(mixtures: Sequence[Audio]) -> list[Audio]:
        return [stems.numpy() for stems in separated([torch.from_numpy(np.ascontiguousarray(m)) for m in mixtures])]

    return separate
