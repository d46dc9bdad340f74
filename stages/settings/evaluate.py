"""Settings of what embeddings know."""

from dataclasses import dataclass
from pathlib import Path

from mixstyle.stages.settings.base import Device

EVALUATION_PARTS = ("same-chain", "content-hard", "presets", "parameters", "songs", "robustness", "fingerprint")


@dataclass(frozen=True)
class EvaluateSettings:
    """`mixstyle evaluate`: what embeddings know, on songs that were not trained on."""

    evaluate_dir: Path = Path("evaluation")
    checkpoints: tuple[Path, ...] = ()
    """Checkpoints or exported encoders; none takes best_model.pt of the training's checkpoint folder."""
    models: tuple[str, ...] = ()
    """Models of your own, as package.module:name, with `name` and `embed(mixtures, stems)`."""
    parts: tuple[str, ...] = EVALUATION_PARTS[:-1]
    """Which questions are asked; also `fingerprint`, which needs `rendered_dir`."""
    songs: int = 200
    """At most this many held-out songs, drawn by the seed."""
    styles: int = 500
    effects: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    """Numbers of effects in a style; each is measured with `styles` styles."""
    hard_styles: int = 20
    """Candidates of the content-hard test."""
    hard_effects: int = 4
    """Effects of the styles of all questions but same-chain."""
    preset_clips: int = 2
    """Clips of each song that the presets are put on."""
    parameter_clips: int = 100
    """Clips that each effect is put on with drawn parameters."""
    rendered_dir: Path | None = None
    """Songs with true stems (of `mixstyle demo-songs`), for the separator's fingerprint."""
    seed: int = 0
    device: Device = "auto"
    batch_clips: int = 8
    workers: int = 2
    """Processes that mix and describe clips."""
