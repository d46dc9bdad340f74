"""`mixstyle evaluate-musdb`: Fx-Encoder++'s protocol on the true stems of MUSDB18-HQ, in one command.

The stems of `test/` go into a cache, as `mixstyle separate` with `separate.input=stems` makes it, and are described.
The task `published-protocol` is measured on them, and `mix-published-protocol` where it is asked for. Those of
`train/`, where it is there, are what the whitened descriptors are fitted on. All of it is in the output folder, and
goes on where it was stopped.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mixstyle.cache.music.listing import list_folder
from mixstyle.cache.storage.urls import not_there
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.stages.common.assets import shipped_encoder
from mixstyle.stages.common.commands import helped_by
from mixstyle.stages.evaluate.stage import asked_rows, check_effects, evaluate
from mixstyle.stages.features.stage import features
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.evaluate import EvaluateSettings
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.refusals import build

CHAINS = 500
EFFECTS = (1, 2, 3, 4, 5, 6, 7, 8)
CLIP_S = 10.0
CLIPS_PER_SONG = 4
ALL = 1 - 1e-9
"""A fraction of the split: every song."""


def evaluate_musdb(
    musdb: Path,
    output: Path,
    settings: Settings,
    *,
    checkpoints: Sequence[Path] = (),
    chains: int = CHAINS,
    effects: Sequence[int] = EFFECTS,
    through_mix: bool = False,
    rebuild: bool = False,
) -> dict[str, Any]:
    """Runs the protocol on `musdb/test`, or on the song folders in `musdb` itself; returns the metrics.

    settings: of the profile, for devices, workers, the separator and the baselines' sizes. checkpoints: encoders; none
    takes the shipped one. through_mix: measures the sums of the processed stems too, separated by the profile's
    separator. Raises MixstyleError where there are no songs, and as the stages do.
    """
    asked, options = {"chains": chains, "effects": tuple(effects)}, {"chains": "--chains", "effects": "--effects"}
    check_effects(build(EvaluateSettings, "evaluate", asked, options))
    if not musdb.is_dir():
        raise not_there(musdb, "folder")
    with helped_by(*_command(musdb, output, checkpoints, chains, effects, through_mix)):
        return _evaluated(musdb, output, settings, checkpoints, chains, effects, through_mix, rebuild)


def _command(
    musdb: Path, output: Path, checkpoints: Sequence[Path], chains: int, effects: Sequence[int], through_mix: bool
) -> tuple[str, ...]:
    """The command that asks for the same again."""
    named = [word for path in checkpoints for word in ("--checkpoint", str(path))]
    if chains != CHAINS:
        named += ["--chains", str(chains)]
    if tuple(effects) != EFFECTS:
        named += ["--effects", ",".join(map(str, effects))]
    if through_mix:
        named.append("--through-mix")
    return "evaluate-musdb", str(musdb), str(output), *named


def _evaluated(
    musdb: Path,
    output: Path,
    settings: Settings,
    checkpoints: Sequence[Path],
    chains: int,
    effects: Sequence[int],
    through_mix: bool,
    rebuild: bool,
) -> dict[str, Any]:
    test, train = musdb / "test", musdb / "train"
    check_folder(output)
    list_folder(test if test.is_dir() else musdb, "stems")  # whose error names the folder that was given
    given = _given(settings, test if test.is_dir() else musdb, output, ALL)
    whitening = settings.evaluate.whitening_chains if train.is_dir() else 0
    options = replace(
        settings.evaluate,
        evaluate_dir=output,
        bank_dir=output / "banks",
        checkpoints=tuple(checkpoints) or (shipped_encoder(),),
        tasks=("mix-published-protocol", "published-protocol") if through_mix else ("published-protocol",),
        chains=chains,
        effects=tuple(effects),
        clip_s=CLIP_S,
        whitening_chains=whitening,
        training_stems_dir=output / "train" / "stems" if whitening else None,
    )
    given = replace(given, evaluate=options)
    asked_rows(given, resolve_device(options.device))  # what is refused is refused before the work
    separate(given, rebuild)
    features(given, rebuild)
    if train.is_dir():
        separate(_given(settings, train, output / "train", 0.0), rebuild)
    return evaluate(given, rebuild)


def _given(settings: Settings, songs: Path, folder: Path, test_fraction: float) -> Settings:
    """Settings that take stems from the song folders in `songs`, and keep everything in `folder`."""
    chosen = replace(
        settings.separate,
        data_path=songs,
        input="stems",
        stems_dir=folder / "stems",
        clip_s=CLIP_S,
        clips_per_track=CLIPS_PER_SONG,
        tracks_csv=None,
        validation_fraction=0.0,
        test_fraction=test_fraction,
    )
    described = replace(settings.features, features_path=folder / "features.zarr")
    train, remix = replace(settings.train, stems_url=""), replace(settings.remix, blocks=0)
    return replace(settings, separate=chosen, features=described, train=train, remix=remix)
