"""What the page is told about songs, as JSON has it."""

from typing import Any

import numpy as np

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.absent_stems import is_meaningful
from mixstyle.stages.presentation.audible_differences import heard_differences, in_words
from mixstyle.stages.presentation.descriptor_names import KINDS, shown, shown_unit
from mixstyle.stages.songs.browse import words
from mixstyle.stages.songs.browse.listening import Opened
from mixstyle.stages.songs.browse.songs import Library, Neighbour, Songs, Track, Vector, known
from mixstyle.stages.songs.search.matches import reasons

FAR_PERCENT = 50.0
"""Two songs further apart than this, in percentiles of the index, are marked."""


def listed(songs: Songs) -> list[list[Any]]:
    """Each song's path, length in s and loudness in LUFS, in order."""
    rows = zip(songs.names, songs.durations_s, songs.loudness_lufs, strict=True)
    return [[name, round(duration_s, 1), known(lufs)] for name, duration_s, lufs in rows]


def mapped(songs: Songs) -> dict[str, Any]:
    """Points of all songs, and how much of the variance the two axes explain."""
    points, share = songs.map
    return {"points": [[round(float(x), 4), round(float(y), 4)] for x, y in points], "share": share}


def track(found: Track) -> dict[str, Any]:
    """What is shown of a track beside its number."""
    return {
        "key": found.key,
        "name": found.name,
        "seconds": round(found.duration_s, 1),
        "lufs": known(found.loudness_lufs),
        "embedded": len(found.embedding) > 0,
    }


def song(library: Library, found: Track) -> dict[str, Any]:
    """A song with its neighbours and its descriptors."""
    if not len(found.embedding):
        return track(found)
    near = library.songs.near(found)
    return {
        **track(found),
        "near": [_neighbour(library.songs, found, one) for one in near],
        "cosines": [round(float(cosine), 4) for cosine in library.songs.cosines(found)],
        "descriptors": _descriptors(library.songs, [found]),
    }


def pair(library: Library, first: Track, second: Track) -> dict[str, Any]:
    """Two songs: how near they are, in what they differ, and the descriptors of both."""
    if not len(first.embedding) or not len(second.embedding):
        return {"first": track(first), "second": track(second)}
    cosine = float(first.embedding @ second.embedding)
    return {
        "first": track(first),
        "second": track(second),
        **_why(first.values, second.values, cosine, library.songs.closer_than(cosine)),
        "alike": list(map(str, reasons(first.values, second.values, library.songs.descriptors)[0])),
        "descriptors": _descriptors(library.songs, [first, second]),
    }


def audio(found: Track, opened: Opened) -> dict[str, Any]:
    """Where a song's mix is, and what it looks like."""
    return {
        "key": found.key,
        "frames": opened.frames,
        "rate": SAMPLE_RATE,
        "lufs": round(opened.loudness_lufs, 2),
        "heard": opened.heard,
        "waveform": [round(100 * float(level)) for level in opened.waveform],
        "url": f"/audio/{found.key}/mix",
    }


def stems(found: Track, opened: Opened, clip: int) -> dict[str, Any]:
    """Where the stems of a clip are; of all of the song, where there are such. bytes: of a sample. header: bytes before
    the first one."""
    if found.stems:
        urls = {stem: f"/audio/{found.key}/whole/{stem}" for stem in STEMS}
        header = next(iter(found.stems.values())).stat().st_size - opened.frames * 2 * 3
        return {"clip": clip, "start": 0, "frames": opened.frames, "bytes": 3, "header": header, "urls": urls}
    first, last = opened.heard[clip]
    urls = {stem: f"/audio/{found.key}/{clip}/{stem}" for stem in STEMS}
    return {"clip": clip, "start": first, "frames": last - first, "bytes": 2, "header": 44, "urls": urls}


def _neighbour(songs: Songs, own: Track, near: Neighbour) -> dict[str, Any]:
    why = _why(own.values, songs.descriptors[near.song], near.score, near.closer_than)
    return {"song": near.song, **why, "alike": list(map(str, near.alike))}


def _why(first: Vector, second: Vector, cosine: float, closer_than: float) -> dict[str, Any]:
    heard = heard_differences(first, second)
    return {
        "cosine": round(cosine, 3),
        "closeness": words.closeness(closer_than),
        "exception": words.exception(heard, closer_than),
        "heard": in_words(heard, 4),
    }


def _descriptors(songs: Songs, chosen: list[Track]) -> list[dict[str, Any]]:
    """By group the rows of a table, a cell a stem: the values, and the percentile or whether they are far apart."""
    return [
        {
            "group": group,
            "rows": [
                {
                    "title": kind.title,
                    "unit": shown_unit(kind.descriptor.unit),
                    "cells": [_cell(songs, chosen, kind.columns.get(stem)) for stem in STEMS],
                }
                for kind in of_group
            ],
        }
        for group, of_group in KINDS.items()
    ]


def _cell(songs: Songs, chosen: list[Track], column: int | None) -> dict[str, Any] | None:
    if column is None:
        return None
    there = [is_meaningful(column, one.values) for one in chosen]
    texts = [shown(column, float(one.values[column])) if on else "-" for one, on in zip(chosen, there, strict=True)]
    ranks = [songs.percentile(one.values, column) for one in chosen]
    cell: dict[str, Any] = {"text": " / ".join(texts)}
    if len(chosen) == 1 and there[0]:
        cell["rank"] = round(ranks[0])
    elif len(chosen) == 2 and all(there) and np.ptp(ranks) > FAR_PERCENT:
        cell["far"] = True
    return cell
