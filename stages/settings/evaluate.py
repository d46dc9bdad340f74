"""Settings of `mixstyle evaluate`: what embeddings know, on songs that were not trained on."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mixstyle.stages.common import limits
from mixstyle.stages.settings.base import (
    STRICT,
    ContradictionError,
    Device,
    Location,
    LocationOrUrl,
    Number,
    Several,
    setting,
)

EvaluationTask = Literal[
    "same-chain",
    "content-hard",
    "presets",
    "parameters",
    "real-mixes",
    "songs",
    "robustness",
    "stems-same-chain",
    "stems-content-hard",
    "stems-presets",
    "stems-parameters",
    "songs-same-chain",
    "unseen-effects",
    "true-same-chain",
    "separator-dependence",
    "published-protocol",
    "mix-published-protocol",
]
EVALUATION_TASKS: tuple[EvaluationTask, ...] = get_args(EvaluationTask)
"""Those of `mixstyle.stages.evaluate.tasks.registry`; a test holds both together."""
USUAL_TASKS: tuple[EvaluationTask, ...] = EVALUATION_TASKS[:8]
"""Those that are done where no others are asked for."""
NEED_RENDERED = ("true-same-chain", "separator-dependence")
"""Tasks on songs with true stems."""
GroupedBy = Literal["auto", "manifest", "folder", "tags"]


@dataclass(frozen=True, config=STRICT)
class EvaluateSettings:
    """`mixstyle evaluate`: what embeddings know, on songs that were not trained on."""

    evaluate_dir: LocationOrUrl = setting(Path("evaluation"))
    """The folder that metrics, tables and the page go to, or a URL such as s3://bucket/evaluation."""
    checkpoints: Several[LocationOrUrl] = setting((), shapes_output=True)
    """Checkpoints or exported encoders, their URLs, or `shipped`; none takes best_model.pt of the training's folder."""
    models: Several[str] = setting((), shapes_output=True)
    """Models of your own, as package.module:name, with `name` and `embed(mixtures, stems)`."""
    tasks: Several[EvaluationTask] = setting(USUAL_TASKS, min_length=1)
    """Which tasks are done. `stems-...` and `true-...` are diagnostics; `songs-same-chain` takes
    `song_stretches` times as long as `same-chain`; `unseen-effects` needs the package multiafx,
    `true-same-chain` and `separator-dependence` need `rendered_dir`, `published-protocol` and `mix-published-protocol`
    stems that are given."""
    bank_dir: LocationOrUrl = setting(Path("cache/evaluation-banks"))
    """The folder of clips that were mixed, summed and separated again: made once, for any number of encoders."""
    clip_s: Number = setting(4.0, ge=limits.LEAST_CLIP_S, le=limits.CLIP_S, shapes_output=True)
    """Length of the stretches of clips that are remixed; clips as they are keep the cached length."""
    songs: int = setting(200, unit="songs", ge=2, le=limits.COUNT, shapes_output=True)
    """At most this many held-out songs, drawn by the seed."""
    chains: int = setting(500, unit="chains", ge=10, le=limits.CHAINS, shapes_output=True)
    """Effect chains for each number of effects; a query is looked for among as many."""
    effects: Several[Annotated[int, Field(ge=0, le=limits.EFFECTS)]] = setting(
        (0, 1, 4, 8), unit="effects", min_length=1, shapes_output=True
    )
    """Numbers of effects in a chain; each is measured with `chains` chains. 0: the stems' loudnesses alone."""
    song_stretches: int = setting(4, unit="stretches", ge=1, le=limits.GRID, shapes_output=True)
    """Stretches of each song that songs-same-chain mixes with a chain; the song's embedding is the mean of theirs."""
    hard_songs: int = setting(50, unit="songs", ge=2, le=limits.COUNT, shapes_output=True)
    """At most this many songs in the grids of content-hard and of presets."""
    hard_chains: int = setting(20, unit="chains", ge=2, le=limits.GRID, shapes_output=True)
    """Candidates of a query of content-hard: effect chains on its own clip."""
    hard_effects: int = setting(4, unit="effects", ge=1, le=limits.EFFECTS, shapes_output=True)
    """Effects of the chains of all tasks but same-chain and unseen-effects."""
    unseen_chains: int = setting(100, unit="chains", ge=10, le=limits.CHAINS, shapes_output=True)
    """Chains of the task unseen-effects."""
    unseen_effects: int = setting(4, unit="effects", ge=1, le=limits.EFFECTS, shapes_output=True)
    """Effects on each stem in these chains."""
    whitening_chains: int = setting(100, unit="chains", ge=0, le=limits.CHAINS, shapes_output=True)
    """Chains, on clips of four training songs each, that the whitened descriptors are fitted on; 0 leaves them out."""
    training_stems_dir: Location | None = setting(None)
    """Stems whose training songs these are; none takes those of separate.stems_dir."""
    group_by: GroupedBy = setting("auto", shapes_output=True)
    """What tells which songs are of one album, soundtrack or artist: the stems' manifest, folders or tags."""
    preset_clips: int = setting(2, unit="clips", ge=1, le=limits.GRID, shapes_output=True)
    """Clips of each song that the presets are put on."""
    parameter_clips: int = setting(100, unit="clips", ge=10, le=limits.CHAINS, shapes_output=True)
    """Clips that each effect is put on with drawn parameters."""
    rendered_dir: Location | None = setting(None, shapes_output=True)
    """Songs with true stems (of `mixstyle demo-songs`), for true-same-chain and separator-dependence."""
    seed: int = setting(0, unit="1", ge=0, le=limits.SEED, shapes_output=True)
    """Draws songs, clips, chains and parameters."""
    device: Device = setting("auto")
    """Where encoders run: auto, cpu, cuda or cuda:N."""
    batch_clips: int = setting(8, unit="clips", ge=1, le=limits.BATCH)
    """Clips that are embedded together."""
    workers: int = setting(2, unit="processes", ge=0, le=limits.PROCESSES)
    """Processes that mix and describe clips; 0 does it in the command's own."""

    @model_validator(mode="after")
    def _fits(self) -> "EvaluateSettings":
        if len(set(self.effects)) < len(self.effects):
            raise ContradictionError("effects", "should name each number of effects once")
        needing = next((task for task in NEED_RENDERED if task in self.tasks), "")
        if needing and self.rendered_dir is None:
            raise ContradictionError(
                "rendered_dir", f"should be a folder of rendered songs: evaluate.tasks has {needing}"
            )
        return self
