"""Settings of `mixstyle evaluate`: what embeddings know, on songs that were not trained on."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mixstyle.stages.settings.base import STRICT, ContradictionError, Device, Location, Several, setting

EvaluationTask = Literal[
    "same-chain", "content-hard", "presets", "parameters", "songs", "robustness", "separator-dependence"
]
EVALUATION_TASKS: tuple[EvaluationTask, ...] = get_args(EvaluationTask)
"""Those of `mixstyle.stages.evaluate.tasks.registry`; a test holds both together."""


@dataclass(frozen=True, config=STRICT)
class EvaluateSettings:
    """`mixstyle evaluate`: what embeddings know, on songs that were not trained on."""

    evaluate_dir: Location = setting(Path("evaluation"))
    """The folder that metrics, tables and the page go to."""
    checkpoints: Several[Location] = setting((), shapes_output=True)
    """Checkpoints or exported encoders; none takes best_model.pt of the training's checkpoint folder."""
    models: Several[str] = setting((), shapes_output=True)
    """Models of your own, as package.module:name, with `name` and `embed(mixtures, stems)`."""
    tasks: Several[EvaluationTask] = setting(EVALUATION_TASKS[:-1], min_length=1)
    """Which tasks are done; also `separator-dependence`, which needs `rendered_dir`."""
    songs: int = setting(200, unit="songs", ge=2, shapes_output=True)
    """At most this many held-out songs, drawn by the seed."""
    chains: int = setting(500, unit="chains", ge=10, shapes_output=True)
    """Effect chains for each number of effects; a query is looked for among as many."""
    effects: Several[Annotated[int, Field(ge=1)]] = setting(
        (1, 2, 3, 4, 5, 6, 7, 8), unit="effects", min_length=1, shapes_output=True
    )
    """Numbers of effects in a chain; each is measured with `chains` chains."""
    hard_chains: int = setting(20, unit="chains", ge=2, shapes_output=True)
    """Candidates of a query of content-hard: effect chains on its own clip."""
    hard_effects: int = setting(4, unit="effects", ge=1, shapes_output=True)
    """Effects of the chains of all tasks but same-chain."""
    preset_clips: int = setting(2, unit="clips", ge=1, shapes_output=True)
    """Clips of each song that the presets are put on."""
    parameter_clips: int = setting(100, unit="clips", ge=10, shapes_output=True)
    """Clips that each effect is put on with drawn parameters."""
    rendered_dir: Location | None = setting(None, shapes_output=True)
    """Songs with true stems (of `mixstyle demo-songs`), for the task separator-dependence."""
    seed: int = setting(0, unit="1", ge=0, shapes_output=True)
    """Draws songs, clips, chains and parameters."""
    device: Device = setting("auto")
    """Where encoders run: auto, cpu, cuda or cuda:N."""
    batch_clips: int = setting(8, unit="clips", ge=1)
    """Clips that are embedded together."""
    workers: int = setting(2, unit="processes", ge=0)
    """Processes that mix and describe clips; 0 does it in the command's own."""

    @model_validator(mode="after")
    def _fits(self) -> "EvaluateSettings":
        if len(set(self.effects)) < len(self.effects):
            raise ContradictionError("effects", "should name each number of effects once")
        if "separator-dependence" in self.tasks and self.rendered_dir is None:
            raise ContradictionError(
                "rendered_dir", "should be a folder of rendered songs: evaluate.tasks has separator-dependence"
            )
        return self
