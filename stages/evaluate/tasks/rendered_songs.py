"""Songs with true stems that `mixstyle demo-songs` rendered, as clips that are read when they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixstyle.cache.music.clip_positions import CuttingRule
from mixstyle.cache.music.listing import list_folder
from mixstyle.cache.music.reader import frames_at_44100
from mixstyle.cache.music.stem_folders import probe_stems, read_stem_windows, stem_files
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.evaluate.tasks.task import Audio

ENOUGH = 16
"""Songs that are worth to be rendered for an evaluation; as many as the demo has."""


@dataclass(frozen=True)
class TrueClip:
    """A clip of a song's true stems. start, frames: at 44.1 kHz."""

    root: Path
    song: str
    start: int
    frames: int

    def read(self) -> Audio:
        """Stems [4, 2, frames]. Raises UnreadableMusic for files that cannot be read."""
        return read_stem_windows(stem_files(self.root, self.song), [(self.start, self.start + self.frames)])[0]

    def to_json(self) -> dict[str, Any]:
        return {"song": self.song, "frame": self.start}


def rendered_songs(folder: Path, most: int) -> list[str]:
    """Songs with true stems in `folder/stems`, the first of them by name. Raises MixstyleError for fewer than two."""
    if not (folder / "stems").is_dir():
        raise MixstyleError(
            f"evaluate.rendered_dir={folder}: has no folder stems", code="no-music", remedy=_render(folder)
        )
    try:
        found = sorted(list_folder(folder / "stems", "stems").sizes)[:most]
    except MixstyleError as error:
        if error.code != "no-music":
            raise
        found = []
    if len(found) < 2:
        raise MixstyleError(
            f"evaluate.rendered_dir={folder}: {counted(len(found), 'song')}, and 2 are needed",
            code="no-music",
            remedy=_render(folder),
        )
    return found


def _render(folder: Path) -> tuple[str, ...]:
    """The command that renders songs there, whatever number of them the profile asks for."""
    return ("demo-songs", str(folder), "--songs", str(ENOUGH), "--stems")


def true_clip(root: Path, song: str, frames: int, seed: int = 0) -> TrueClip:
    """A clip of a song in `root`, cut as every command cuts. Raises MixstyleError for a song shorter than a clip, and
    UnreadableMusic for stems that cannot be read."""
    start = CuttingRule(frames, clips=1, seed=seed).starts(frames_at_44100(probe_stems(stem_files(root, song))), song)[
        0
    ]
    if start is None:
        raise MixstyleError(f"{root / song}: is shorter than a clip; take longer songs", code="bad-audio")
    return TrueClip(root, song, start, frames)


def rendered_clips(folder: Path, clip_s: float, most: int) -> Sequence[Sequence[TrueClip]]:
    """A clip of each of the songs, cut as every command cuts. Raises MixstyleError for songs shorter than a clip."""
    frames = round(clip_s * SAMPLE_RATE)
    return [[true_clip(folder / "stems", song, frames)] for song in rendered_songs(folder, most)]
