"""The words and tables of the report's page."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mixstyle.cache.stem_store.failures import count_by_kind, failures_of
from mixstyle.cache.storage.remote_folder import by_url
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.bands_and_floors import REGIONS_HZ
from mixstyle.pipeline.encoder.objectives.registry import chance_loss, grid_objectives
from mixstyle.pipeline.retrieval import BOOTSTRAP_DRAWS, Estimate, chance
from mixstyle.stages.presentation.estimates import evidence_note, share
from mixstyle.stages.presentation.html import PageFigure, Section, Table, page
from mixstyle.stages.presentation.pages import REPORT, links_of
from mixstyle.stages.report.results import COLOURED_ALL, ROWS, TOP, Report, Retrieval

SPLITS = {
    "held-out": "tracks outside training (validation and test)",
    "all": "all tracks",
    "train": "training tracks",
    "validation": "validation tracks",
    "test": "test tracks",
}
SONGS = {
    "held-out": "songs outside training",
    "all": "songs",
    "train": "training songs",
    "validation": "validation songs",
    "test": "test songs",
}
GROUPS = {
    "dynamics": "Dynamics",
    "spectral": "Spectrum",
    "stereo": "Stereo image",
    "masking": "Masking between stems",
}


def html(result: Report, figures: Mapping[str, Path]) -> str:
    """The page. figures: by name (retrieval, map, loss, descriptors_<group>)."""
    main = result.main
    trained, raw = (main.top[row][1] for row in ("trained", "raw"))
    lead = (
        f"Given a song's last clip, the trained encoder picks the song's first clip out of {main.pool} at the first "
        f"try for {trained.value:.0%} of {main.queries} {SONGS[result.split]}. Raw descriptors do so for "
        f"{raw.value:.0%}, chance for {chance(1, main.pool):.1%}. {evidence_note(main.queries)}"
    ).strip()
    sections = [_retrieval(result, figures["retrieval"]), _map(result, figures["map"])]
    if "loss" in figures:
        sections.append(_loss(result, figures["loss"]))
    sections.append(_descriptors(result, figures))
    sections.append(Section("How this was made", facts=facts(result)))
    return page("mixstyle report", lead, sections, links_of(result.settings, REPORT))


def _retrieval(result: Report, figure: Path) -> Section:
    paragraphs = [
        "Query: a track's last clip. Pool: the first clips of all tracks. Similarity: cosine. An answer counts as "
        "top-k when the query's own song is among the k most similar; ties count against it. Brackets hold 95% "
        f"intervals, by {BOOTSTRAP_DRAWS} bootstrap resamples of the queries.",
    ]
    if len(result.tracks) < len(result.cache.tracks):
        paragraphs.append(f"{len(result.tracks)} of {len(result.cache.tracks)} tracks stand for all of them here.")
    if not result.known:
        paragraphs.append("The encoder was trained on other stems than these.")
    elif result.split in ("all", "train"):
        trained_on = sum(track.split == "train" for track in result.tracks)
        paragraphs.append(
            f"{trained_on} of the {len(result.tracks)} tracks were trained on: for them this shows what was learned, "
            "not how it carries over to other songs."
        )
    elif any(np.isfinite(row.validation_loss) for row in result.loss):
        paragraphs.append(
            "No query was trained on. The checkpoint is the one of the lowest validation loss, so validation tracks "
            "had a say in choosing it."
        )
    tables = [_retrieval_table(name, retrieval) for name, retrieval in result.retrieval.items()]
    caption = (
        f"Song retrieval for {SPLITS[result.split]}. Whiskers are 95% intervals. Raw descriptors are the encoder's own "
        "conditioning: (value - median) / scale of the training split, within 5 either way. The untrained encoder has "
        "the trained one's architecture and random weights."
    )
    alt = "Bars of top-1 and top-5 song retrieval for the trained encoder, raw descriptors and an untrained encoder"
    return Section("Does it find the song again?", paragraphs, tables, [PageFigure(figure, alt, caption)])


def _retrieval_table(name: str, retrieval: Retrieval) -> Table:
    rows = []
    for row, label in ROWS.items():
        cells = [cell(retrieval.top[row][k]) for k in TOP]
        rows.append((label, [*cells, (f"{retrieval.median_rank[row]:g}", "")]))
    rows.append(("trained minus raw", [*(cell(retrieval.gain[k], signed=True) for k in TOP), ("", "")]))
    by_chance = [(f"{chance(k, retrieval.pool):.1%}", "") for k in TOP]
    rows.append(("chance", [*by_chance, (f"{(retrieval.pool + 1) / 2:g}", "")]))
    caption = f"{SPLITS[name].capitalize()}: {retrieval.queries} queries, {retrieval.pool} songs in the pool."
    return Table(caption, ["", *(f"top-{k}" for k in TOP), "median rank"], rows)


def cell(estimate: Estimate, signed: bool = False) -> tuple[str, str]:
    """A share as `62.5%` with its interval `[50.0, 75.0]` as the remark; differences carry their sign."""
    return share(estimate.value, estimate.low, estimate.high, digits=1, signed=signed)


def _map(result: Report, figure: Path) -> Section:
    caption = (
        "Each mark is a clip, joined to the middle of its song; a song keeps its colour and mark in both maps. Axes "
        "are the first two principal components of the vectors at unit length: a straight shadow of many dimensions, "
        "of which the axes tell how much is seen. Songs that overlap here may be apart in the others."
    )
    if len(result.tracks) > COLOURED_ALL:
        caption += (
            f" Colours: {SONGS[result.split]}, the first of them in the manifest's random order; others are grey."
        )
    alt = "Two scatter plots of clips, coloured by song: by the trained encoder and by raw descriptors"
    text = (
        "Clips of a song should be together, whatever is played in them; songs that are mixed alike, near each other."
    )
    return Section("The map", [text], figures=[PageFigure(figure, alt, caption)])


def chance_of(settings: Mapping[str, Any]) -> float:
    """The loss in nats of an encoder that knows nothing, by the settings that trained one."""
    train, bank = settings["train"], settings.get("remix", {})
    return chance_loss(train.get("objective", "same-song"), train["batch_size"], bank.get("contents", 0))


def batch_of(settings: Mapping[str, Any]) -> str:
    """What a batch was made of, by the settings that trained an encoder."""
    train = settings["train"]
    if train.get("objective", "same-song") not in grid_objectives():
        return f"{train['batch_size']} tracks"
    return f"{train['batch_size']} groups of {settings['remix']['contents']} clips"


def _loss(result: Report, figure: Path) -> Section:
    train = result.loaded.settings["train"]
    objective = train.get("objective", "same-song")
    guess = chance_of(result.loaded.settings)
    caption = (
        f"Contrastive loss by optimiser step. An encoder that knows nothing has ln {round(math.exp(guess))} = "
        f"{guess:.2f}, with batches of {batch_of(result.loaded.settings)} under the objective {objective}."
    )
    if any(np.isfinite(row.validation_loss) for row in result.loss):
        caption += " Validation batches may be of another size, which moves their level."
    return Section("Training", figures=[PageFigure(figure, "Training and validation loss by step", caption)])


def _descriptors(result: Report, figures: Mapping[str, Path]) -> Section:
    clips = int(np.isfinite(result.store.values()).all(axis=1).sum())
    edges = ", ".join(
        f"{name} {low:g} to {high:g} Hz" if np.isfinite(high) else f"{name} above {low:g} Hz"
        for name, low, high in ((name, round(low), high) for name, low, high in REGIONS_HZ)
    )
    captions = {
        "dynamics": "RMS, crest factor and loudness of each stem, and its loudness relative to the mix.",
        "spectral": f"Energy by band against the whole stem (bands: {edges}), tilt, flatness, and octave by octave.",
        "stereo": "Level difference (left minus right), correlation and mid/side ratio, also by band.",
        "masking": "By how much, and in what share of its time-frequency tiles, a stem is below the others.",
    }
    reading = f" Mark: median of {clips} clips; box or dark band: middle half; line or light band: middle 90%."
    shown = []
    for name, path in figures.items():
        if name.startswith("descriptors_"):
            group = name.removeprefix("descriptors_")
            title = GROUPS.get(group, group.capitalize())
            caption = f"{title}. {captions.get(group, '')}{reading}"
            shown.append(PageFigure(path, f"Distributions of the {group} descriptors by stem", caption))
    text = (
        f"{len(result.store.names)} values a clip, version {result.store.descriptors_version} of the table; they "
        "condition the encoder, and are the raw descriptors above."
    )
    return Section("The descriptors, by stem", [text], figures=shown)


def facts(result: Report) -> list[tuple[str, str]]:
    """What the run was, line by line."""
    return [*_data_facts(result), *_training_facts(result)]


def _data_facts(result: Report) -> list[tuple[str, str]]:
    cache = result.cache
    clips = sum(len(track.clips) for track in cache.tracks)
    clip_s = cache.clip_frames / SAMPLE_RATE
    music_s = sum(float(cache.read_metadata(track).get("duration_s") or 0) for track in cache.tracks)
    sides = [f"{sum(t.split == side for t in cache.tracks)} {side}" for side in ("train", "validation", "test")]
    failures = failures_of(cache.shards)
    whole = [failure for failure in failures if not failure.clip]
    single = [failure for failure in failures if failure.clip]
    stored = cache.settings
    separator = stored.get("separator", "unknown")
    name = result.settings.separate.separator_checkpoint.name
    named = "none, the stems existed" if separator == "stems" else f"{name}, fingerprint {separator}"
    rows = [
        (
            "Tracks",
            f"{len(cache.tracks)} of {cache.n_tracks}; {', '.join(sides)}",
        ),
        ("Music", f"{music_s / 3600:.2f} h" if music_s else "length not stored"),
        ("Clips", f"{clips} of {clip_s:g} s, {clips * clip_s / 3600:.2f} h"),
        ("Tracks that failed", _counts(count_by_kind(whole))),
        ("Clips that failed in other tracks", _counts(count_by_kind(single))),
        ("Separator", named),
    ]
    if separator != "stems":
        how = [str(stored[key]) for key in ("precision", "device") if stored.get(key)]
        rows.append(("Separated in", ", on ".join(how) or "unknown"))
    return rows


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


def _counts(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"


def _training_facts(result: Report) -> list[tuple[str, str]]:
    loaded = result.loaded
    train, config = loaded.settings["train"], loaded.encoder.config
    parameters = sum(p.numel() for p in loaded.encoder.parameters())
    seconds = float(loaded.content.get("training_seconds") or 0)
    mel, precision = loaded.mel, train["precision"]
    if precision == "auto":
        precision = {"cpu": "fp32", "cuda": "bf16"}.get(train["device"].partition(":")[0], "auto")
    crop = f"{train['clip_duration_s']:g} s of each clip"
    return [
        ("Checkpoint", f"{by_url(result.checkpoint.as_posix())}, step {loaded.step}, epoch {loaded.epoch}"),
        (
            "Encoder",
            f"{parameters / 1e6:.2f} M parameters, {config.encoder_dim} dimensions, "
            f"{len(config.band_starts)} sub-bands of {config.band_mels} of {config.n_mels} mels, "
            f"channels {config.channels[0]} and {config.channels[1]}, n_fft {mel.n_fft}, hop {mel.hop_length}",
        ),
        (
            "Training",
            f"batches of {train['batch_size']} tracks, {crop}, AdamW at {train['learning_rate']:g}, temperature "
            f"{train['temperature']:g}, precision {precision}, device {train['device']}, {_duration(seconds)}",
        ),
        (
            "This report",
            f"float32 on {result.device}; clips are embedded whole, with the descriptors of the store; "
            f"{len(result.tracks)} of {len(result.cache.tracks)} tracks embedded",
        ),
    ]
