"""What `mixstyle match` takes: the closed form, the search for effects, and rendering and writing the song.

    uv run python benchmarks/match.py                       # a song of 4 minutes, true stems and separated ones
    uv run python benchmarks/match.py --search-rounds 0     # without the search, which takes minutes

Song and reference are rendered music, joined end to end for their length. *True stems* are given as a folder and never
separated; otherwise the profile's separator makes them (`--config`, `--set`). The ways take turns; the first round also
loads libraries, so it is beside the median of all. Rates are against the song's length.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer
from rich.console import Console
from rich.table import Table
from separation import processor

from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.cache.music.writer import AudioForm
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.pipeline.synth.song import render_song
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.settings.profile import Settings, load_settings
from mixstyle.stages.settings.remote_folders import encoder_file
from mixstyle.stages.songs.clips import SongClips, SongReader
from mixstyle.stages.songs.match.metric import metric_of_file
from mixstyle.stages.songs.match.render import Targets
from mixstyle.stages.songs.match.song_match import SongMatch, make_match
from mixstyle.stages.songs.whole_song import WholeSong

RENDERED_S = 60.0
SEEDS = (900_001, 900_002)
"""Of the song and of the reference."""


@dataclass
class Row:
    """Seconds of each round, on the clock and of the processor. aim: in words, or empty. song_s: for a rate."""

    name: str
    aim: str
    song_s: float
    wall_s: list[float]
    cpu_s: list[float]

    def told(self) -> list[str]:
        """Cells of the table."""
        median, cpu = statistics.median(self.wall_s), statistics.median(self.cpu_s)
        rate = f"{self.song_s / median:.0f}" if self.song_s else ""
        return [self.name, f"{self.wall_s[0]:.2f}", f"{median:.2f}", f"{cpu:.2f}", rate, self.aim]


def main(
    config: str = "demo",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.name=value")] = None,
    song_s: float = 240.0,
    rounds: int = 3,
    search_rounds: int = 1,
) -> None:
    """Measures and prints a table."""
    settings = load_settings(config, overrides or [])
    console = Console(width=130)
    console.print(
        f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, a song of {song_s:g} s, "
        f"{rounds} rounds, of the search {search_rounds}, load average {os.getloadavg()[0]:.0f}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        songs = [write_song(folder / str(seed), seed, song_s) for seed in SEEDS]
        separator = configured_separator(settings.separate, resolve_device(settings.separate.device))
        if separator is None:
            raise SystemExit("separate.input=stems: give a profile with a separator")
        kinds = {
            "true stems": Kind(settings, None, songs),
            "separated": Kind(settings, separator, [song / "mix.wav" for song in songs]),
        }
        rows = measured(kinds, folder, song_s, rounds, search_rounds)
    table = Table("what", title="seconds")
    for column in ("first round", "median", "of the processor", "x real time"):
        table.add_column(column, justify="right")
    table.add_column("aim")
    for row in rows:
        table.add_row(*row.told())
    console.print(table)


class Kind:
    """A song and its reference, read and (with a separator) separated."""

    def __init__(self, settings: Settings, separator: Separator | None, songs: list[Path]) -> None:
        self.settings, self.separator = settings, separator
        self.whole = WholeSong(songs[0])
        reader = SongReader(settings.separate, separator, measure=True)
        self.clips: list[SongClips] = []
        for song, clips in zip(songs, reader.read(songs, 1), strict=True):
            if isinstance(clips, UnreadableMusic):
                raise SystemExit(f"{song}: {clips}")
            self.clips.append(clips)
        _ = self.whole.look
        self.matched: SongMatch | None = None

    def closed_form(self) -> None:
        """Makes the match that `render` takes."""
        self.matched = self._made(search=False)

    def search(self) -> None:
        """With effects. What comes of it is not rendered: reverb takes time that the closed form does not."""
        self._made(search=True)

    def render(self, path: Path) -> None:
        """All of the song, separated on the way where its stems are not given, and written as 24 bits."""
        if self.matched is None:
            raise ValueError("closed_form comes first")
        self.matched.render(Targets(path, AudioForm.of(path, "24")))

    def _made(self, search: bool) -> SongMatch:
        metric = metric_of_file(encoder_file(self.settings)) if search else None
        mine, reference = self.clips
        return make_match(self.whole, mine, [reference], self.separator, self.settings.separate, 1.0, (), metric)


def measured(kinds: dict[str, Kind], folder: Path, song_s: float, rounds: int, search_rounds: int) -> list[Row]:
    """All ways in turns."""
    rows: list[Row] = []
    ways: list[tuple[Row, Callable[[], None], int]] = []

    def way(name: str, aim: str, rate_of_s: float, turns: int, work: Callable[[], None]) -> None:
        row = Row(name, aim, rate_of_s, [], [])
        if turns:
            rows.append(row)
        ways.append((row, work, turns))

    for name, kind in kinds.items():
        way(f"closed form, {name}", "2 s", 0.0, rounds, kind.closed_form)
        way(f"closed form and search, {name}", "90 s", 0.0, search_rounds, kind.search)
        aim = "20 x" if kind.separator is None else ""
        way(
            f"rendering and writing, {name}", aim, song_s, rounds, lambda kind=kind: kind.render(folder / "matched.wav")
        )
    for turn in range(max(rounds, search_rounds)):
        for row, work, turns in ways:
            if turn < turns:
                start, cpu = time.perf_counter(), time.process_time()
                work()
                row.wall_s.append(time.perf_counter() - start)
                row.cpu_s.append(time.process_time() - cpu)
    return rows


def write_song(folder: Path, seed: int, song_s: float) -> Path:
    """A folder with vocals, bass, drums and other, and mix.wav: rendered music, again and again."""
    folder.mkdir()
    stems = render_song(seed, min(song_s, RENDERED_S)).stems
    frames = round(song_s * SAMPLE_RATE)
    stems = np.tile(stems, (1, 1, -(-frames // stems.shape[-1])))[..., :frames]
    for name, audio in (*zip(STEMS, stems, strict=True), ("mix", stems.sum(0))):
        soundfile.write(folder / f"{name}.wav", audio.T, SAMPLE_RATE, "FLOAT")
    return folder


if __name__ == "__main__":
    typer.run(main)
