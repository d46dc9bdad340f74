"""Figures that stand on several pages are the same there: README, docs/evaluation.md, cards of what is shipped."""

import json
import re
import struct

import pytest
from helpers.paths import ROOT

from mixstyle.cache.storage.atomic import sha256_file

ESTIMATE = re.compile(r"\d+(?:\.\d+)? \[\d+, \d+\]")
"""A mean with its interval, such as 37 [28, 47]."""
ROWS = {
    "shipped encoder": "shipped encoder",
    "its descriptors, whitened": "whitened descriptors",
    "descriptors, z-scored": "raw descriptors",
    "MFCC statistics": "MFCC statistics",
}
"""Rows as README calls them, and as `mixstyle evaluate` prints them."""
SEPARATORS = ROOT / "Music-Source-Separation-Training"


def rows(text: str) -> dict[str, list[list[str]]]:
    """The cells of the tables' rows, by the name in their first column."""
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("|"):
            name, *cells = (cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|"))
            found.setdefault(name, []).append(cells)
    return found


def part(text: str, start: str, end: str) -> str:
    """From one line on to another one."""
    return text[text.index(f"\n{start}\n") : text.index(f"\n{end}\n")]


@pytest.fixture(scope="module")
def measured() -> dict[str, set[str]]:
    """What docs/evaluation.md has of the shipped encoder and of the baselines beside it: all cells of each row."""
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    own = part(
        page,
        "## What the shipped encoder reaches",
        "### What was measured of the encoder of the first training only",
    )
    return {name: {cell for cells in found for cell in cells} for name, found in rows(own).items()}


def test_readme_has_the_figures_of_the_evaluation(measured: dict[str, set[str]]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = rows(part(readme, "## What the embedding knows", "## The source code"))
    for name, own in ROWS.items():
        figures = [cell for cells in told[name] for cell in cells]
        assert len(figures) >= 10, name
        assert [figure for figure in figures if figure not in measured[own]] == [], name


def test_the_encoders_card_has_the_figures_of_the_evaluation(measured: dict[str, set[str]]) -> None:
    data = (ROOT / "api" / "encoder.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    card = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["mixstyle"])["card"]
    figures = ESTIMATE.findall(part(card, "## What it reached", "## More limits"))
    assert len(figures) >= 8
    assert [figure for figure in figures if figure not in measured["shipped encoder"]] == []


def test_the_separators_page_has_the_figures_of_its_card() -> None:
    card = json.loads((SEPARATORS / "scnet_tiny_2.json").read_text(encoding="utf-8"))
    for told in (card, card["start"] | {"name": "scnet_tiny"}):
        assert sha256_file(SEPARATORS / f"{told['name']}.safetensors") == told["sha256"]
    page = rows((SEPARATORS / "README.md").read_text(encoding="utf-8"))
    improved = card["heldout_songs_si_sdr"]
    for stem in ("vocals", "bass", "drums", "other"):
        values = [
            improved[name][stem][f"si_sdri_db_{how}"]
            for name in ("scnet_tiny", "scnet_tiny_2")
            for how in ("mean", "median")
        ]
        assert page[stem][0] == [f"{value:.2f} dB" for value in values]
    levels = card["heldout_music_levels"]
    unsung, heard = "where the teacher finds none (its vocals below -20 LU, N = 104), mean", "vocals_lu_mean"
    pair = [f"{levels['teacher_below_-20_lu'][name][heard]:.1f} LU" for name in ("scnet_tiny", "scnet_tiny_2")]
    assert page[unsung] == [pair]
    loud = [f"{levels['all'][name]['above_-12_lu_percent']:.0f}%" for name in ("scnet_tiny", "scnet_tiny_2")]
    assert page["share above -12 LU, all 157 excerpts"] == [loud]
