"""Stores behind URLs for `mixstyle doctor`: how fast the profile's are, or the one that is named."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mixstyle.cache.storage.store_trial import StoreSpeed, store_speed
from mixstyle.cache.storage.urls import url_of
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.doctor.findings import Failure, Problem, Section
from mixstyle.stages.settings.profile import Settings

WRITTEN = frozenset(
    {
        *("separate.stems_dir", "remix.remix_dir", "features.features_path", "remix.features_path"),
        *("train.checkpoint_dir", "report.report_dir", "evaluate.evaluate_dir", "evaluate.bank_dir"),
        "embed.index_dir",
    }
)
"""Settings of what commands write; other URLs are only read."""
ONLY_READ = ("http", "https")
"""Kinds of URLs to which nothing is sent."""


def stores_of(settings: Settings) -> dict[str, bool]:
    """The settings' URLs, one of each store (a bucket, a server), and whether commands write there.

    Of several of one store that is the first to which something is written.
    """
    found: dict[tuple[str, str], tuple[str, bool]] = {}
    for section in fields(settings):
        chosen = getattr(settings, section.name)
        for setting in fields(chosen) if hasattr(chosen, "__dataclass_fields__") else ():
            value, writes = getattr(chosen, setting.name), f"{section.name}.{setting.name}" in WRITTEN
            for place in value if isinstance(value, tuple) else (value,):
                url = url_of(place) if isinstance(place, Path | str) else ""
                store = urlsplit(url)[:2]
                if url and (store not in found or (writes and not found[store][1])):
                    found[store] = (url, writes)
    return dict(found.values())


def store_section(stores: Iterable[tuple[str, bool]]) -> Section:
    """The speed of each store. stores: URLs, and whether an object may be written there for a moment."""
    facts, problems = dict[str, Any](), list[Problem]()
    for url, writes in stores:
        try:
            speed = store_speed(url, writes and urlsplit(url).scheme not in ONLY_READ)
        except MixstyleError as error:
            why = error.message.removesuffix("; to see more,")  # that is this command
            facts[url] = Failure(why)
            again = f"when it answers, measure it with: mixstyle doctor --store {url}"
            problems.append(Problem(why, again if error.code == "remote" else ""))
            continue
        facts[url] = _facts(speed)
        if speed.left_over:
            problems.append(Problem(f"{speed.left_over}: could be written, but not removed; remove it yourself"))
        elif writes and speed.write_mb_per_s is None:
            problems.append(Problem(f"{url}: can only be read, and commands write there"))
    return Section("store", facts, tuple(problems))


def _facts(speed: StoreSpeed) -> dict[str, Any]:
    if not speed.bytes:
        return {"round_trip_ms": speed.round_trip_ms, "note": "nothing is there that could be read"}
    written = {} if speed.write_mb_per_s is None else {"write_mb_per_s": speed.write_mb_per_s}
    read = {"read_mb_per_s": speed.read_mb_per_s, "round_trip_ms": speed.round_trip_ms}
    return {"measured_with_bytes": speed.bytes, **written, **read}
