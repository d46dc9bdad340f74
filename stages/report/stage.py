"""`mixstyle report`: one page about a trained encoder.

Writes into the report folder: `report.html` (stands alone), the figures as PNG, `loss.csv` (for `dvc plots show`) and
`metrics.json` (for `dvc metrics show`), and last `settings.json`, which tells what all of it was made from. The report
is made again on every run, since it takes little time; equal stems, descriptors and checkpoint give equal files. The
page links to that of `evaluate` where there is one.

Song retrieval: the query is a track's last clip, the pool holds the first clips of all tracks, and similarity is the
cosine. Queries are the tracks of the chosen split; the pool is the same for every split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.checkpoints import MIXED_FROM, LoadedEncoder
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.cache.storage.atomic import write_json, write_text
from mixstyle.cache.storage.provenance import SETTINGS, Provenance, guard
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.table import GROUPS
from mixstyle.pipeline.retrieval import chance, principal_components, unit
from mixstyle.stages.common.chosen_encoder import damage_helped
from mixstyle.stages.common.progress import remark, say
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.presentation.estimates import evidence_note
from mixstyle.stages.presentation.pages import NAMES, REPORT
from mixstyle.stages.report.descriptor_figures import group_figure
from mixstyle.stages.report.embeddings import Embeddings, embed
from mixstyle.stages.report.figures import LossRow, MapPanel, loss_figure, map_figure, retrieval_figure
from mixstyle.stages.report.provenance import LOSS, METRICS, checkpoint_of, provenance_of, with_reported
from mixstyle.stages.report.results import COLOURED_ALL, ROWS, TOP, Report, bundled, by_validation, metrics_of, retrieve
from mixstyle.stages.report.text import cell, chance_of, html
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import report_folder
from mixstyle.stages.train.log import read_loss

MOST_TRACKS = 2000
"""Tracks that are embedded at most: those of the split first, then others in the order of the manifest."""
LEAST_HELD_OUT = 10
"""`auto` reports the tracks outside training from this many on."""
MAPPED_TRACKS = 200
"""Tracks on the map at most."""
COLOURED_FIRST = 14
"""Songs with a colour on a map of more than COLOURED_ALL."""
LOSS_ROWS = 1000
"""Rows of loss.csv at most; longer trainings are averaged."""


@dataclass(frozen=True)
class ReportSummary:
    """What was written. metrics: what metrics.json holds."""

    html: Path
    metrics_path: Path
    metrics: dict[str, Any]


def report(settings: Settings, rebuild: bool = False) -> ReportSummary:
    """Writes the page, its figures and the metrics; `rebuild` changes nothing, since all is made again.

    Raises MixstyleError where stems, descriptors or the checkpoint are missing or do not fit each other, and where
    `report.split` has fewer than 2 tracks.
    """
    del rebuild
    kept = report_folder(settings)
    device = resolve_device(settings.report.device)
    check_folder(kept.folder)
    with kept.turn("mixstyle report"):
        kept.fetch(rebuild=True)  # before the work: a store that does not answer is told at once
        summary = _report(with_reported(settings), kept.folder, device)
        kept.send()
        kept.show(NAMES[REPORT], METRICS)
    say(f"report: {summary.html}")
    return summary


def _report(settings: Settings, folder: Path, device: torch.device) -> ReportSummary:
    """The same, into a folder of this machine, of a checkpoint of this machine."""
    chosen = settings.report
    cache, store = open_described_stems(settings)
    provenance = provenance_of(settings, cache, store)  # before it is read: a newer one then counts as another
    path = checkpoint_of(settings)
    with damage_helped([path], settings.train.checkpoint_dir):
        loaded = load_encoder(path, device)
    known = _known(loaded, cache, store)
    if not known and chosen.checkpoint is None:
        raise MixstyleError(
            f"{path}: was trained on other stems or descriptors than the current ones; name it with "
            "report.checkpoint to report on it anyway, or",
            code="stale",
            remedy=("train", "--rebuild"),
        )
    split, queries = choose_split(cache.tracks, chosen.split, known)
    tracks = limited(cache.tracks, queries, MOST_TRACKS)
    clips = [clip for track in tracks for clip in track.clips]
    remark(f"report: {path}, step {loaded.step}; {len(clips)} clips of {len(tracks)} tracks on {device}")
    embeddings = embed(
        cache,
        store,
        loaded,
        clips,
        device=device,
        batch_clips=chosen.batch_clips,
        workers=settings.features.workers,
    )
    of_split = {track.track_id for track in queries}
    asked = [index for index, track in enumerate(tracks) if track.track_id in of_split]
    retrieval = {split: retrieve(tracks, embeddings, asked)}
    if len(asked) < len(tracks):
        retrieval["all"] = retrieve(tracks, embeddings, list(range(len(tracks))))
    loss = bundled(read_loss(path.parent / LOSS), LOSS_ROWS)
    result = Report(settings, cache, store, loaded, path, device, split, known, tracks, retrieval, loss)
    return _write(folder, result, embeddings, asked, provenance)


def choose_split(tracks: Sequence[CachedTrack], wanted: str, known: bool) -> tuple[str, list[CachedTrack]]:
    """The name of the reported set of tracks, and the set.

    known: whether the encoder was trained on these stems; where not, none of them is held out. Raises MixstyleError
    where the wanted split has fewer than 2 tracks.
    """
    held = [track for track in tracks if track.split != "train"]
    if wanted == "auto":
        wanted = "held-out" if known and len(held) >= LEAST_HELD_OUT else "all"
    found = held if wanted == "held-out" else [track for track in tracks if wanted in ("all", track.split)]
    if len(found) < 2:
        raise MixstyleError(
            f"report.split={wanted}: {len(found)} of {len(tracks)} tracks are in it, 2 are needed; take "
            "report.split=all",
            code="bad-setting",
        )
    return wanted, found


def _known(loaded: LoadedEncoder, cache: StemCache, store: FeatureStore) -> bool:
    """Whether the encoder was trained on these very stems and descriptors, or on a bank that was mixed from them."""
    made_from = loaded.content.get("made_from", {})
    if MIXED_FROM in made_from:
        return made_from[MIXED_FROM] == cache.fingerprint
    return made_from.get("stems") == cache.fingerprint and made_from.get("features") == store.fingerprint


def limited(tracks: Sequence[CachedTrack], queries: Sequence[CachedTrack], most: int) -> list[CachedTrack]:
    """At most `most` tracks, the queries first in line, in the order of the manifest (which is random)."""
    first = {track.track_id for track in queries[:most]}
    others = [track.track_id for track in tracks if track.track_id not in first][: most - len(first)]
    kept = first | set(others)
    return [track for track in tracks if track.track_id in kept]


def _write(
    folder: Path, result: Report, embeddings: Embeddings, asked: Sequence[int], provenance: Provenance
) -> ReportSummary:
    """Figures, loss.csv, the page, and the metrics last."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"retrieval": folder / "retrieval.png", "map": folder / "map.png"}
    split, main = result.split, result.main
    bars = {k: [main.top[row][k] for row in ROWS] for k in TOP}
    title = f"Song retrieval, {main.queries} queries ({split if split != 'all' else 'all songs'})"
    retrieval_figure(figures["retrieval"], list(ROWS.values()), bars, main.pool, title)
    _draw_map(figures["map"], result.tracks, embeddings, asked)
    if result.loss:
        figures["loss"] = folder / "loss.png"
        train = result.loaded.settings["train"]
        guess = chance_of(result.loaded.settings)
        loss_figure(figures["loss"], result.loss, guess, train["temperature"], result.loaded.step)
    values = result.store.values()
    for group in GROUPS:
        path = folder / f"descriptors_{group}.png"
        if group_figure(path, values, group):
            figures[f"descriptors_{group}"] = path
    write_text(folder / "loss.csv", _loss_csv(by_validation(result.loss)))
    metrics = metrics_of(result)
    write_text(folder / NAMES[REPORT], html(result, figures))
    write_json(folder / METRICS, metrics, checksum=True)
    guard(folder / SETTINGS, provenance, rebuild=True)  # only tells: all is made again in every run
    summary = ReportSummary(folder / NAMES[REPORT], folder / METRICS, metrics)
    for name, retrieval in result.retrieval.items():
        say(f"report: song retrieval, {retrieval.queries} queries ({name}), {retrieval.pool} songs to find them among")
        for row, label in ROWS.items():
            cells = [f"top-{k} {' '.join(filter(None, cell(retrieval.top[row][k])))}" for k in TOP]
            say(f"report:   {label:<18} {'   '.join(cells)}")
        say(f"report:   {'chance':<18} " + "   ".join(f"top-{k} {100 * chance(k, retrieval.pool):.1f}%" for k in TOP))
    if note := evidence_note(main.queries):
        say(f"report: {note}")
    return summary


def _loss_csv(rows: Sequence[LossRow]) -> str:
    lines = ["step,train_loss,validation_loss"]
    for row in rows:
        held = f"{row.validation_loss:.6g}" if np.isfinite(row.validation_loss) else ""
        lines.append(f"{row.step},{row.train_loss:.6g},{held}")
    return "".join(f"{line}\n" for line in lines)


def _draw_map(path: Path, tracks: Sequence[CachedTrack], embeddings: Embeddings, asked: Sequence[int]) -> None:
    """Two maps of the clips: by the trained encoder and by the raw descriptors, of unit length as for the cosine."""
    # The queries come first, then the others; so held-out songs are those with a colour.
    of_split = set(asked)
    order = [*asked, *(index for index in range(len(tracks)) if index not in of_split)][:MAPPED_TRACKS]
    ends = np.cumsum([len(track.clips) for track in tracks])
    rows = [row for index in order for row in range(ends[index] - len(tracks[index].clips), ends[index])]
    song = np.array([place for place, index in enumerate(order) for _ in tracks[index].clips])
    panels = []
    for name, title in (("trained", "Trained encoder"), ("raw", "Raw descriptors")):
        points, share = principal_components(unit(getattr(embeddings, name)[rows]))
        panels.append(MapPanel(f"{title}: {len(rows)} clips of {len(order)} songs", points, share))
    coloured = len(order) if len(order) <= COLOURED_ALL else min(COLOURED_FIRST, len(asked))
    names = [PurePosixPath(tracks[index].path).stem for index in order]
    if len(set(names)) < len(names):
        names = [str(PurePosixPath(tracks[index].path).with_suffix("")) for index in order]
    map_figure(path, panels, song, names, list(range(coloured)))
