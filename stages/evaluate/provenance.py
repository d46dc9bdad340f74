"""What an evaluation's folder was made from: settings, inputs, and the versions of tasks and effects.

Where other settings were asked for, the user decides: refused, or made again with --rebuild. Where inputs or versions
have changed since, what follows from them is measured again; of tasks, those alone whose version has changed.
"""

from collections.abc import Sequence
from pathlib import Path

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.provenance import FIRST, SETTINGS, Provenance, differences, guard, read_provenance
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.mixing.effects import effect_versions, first_versions
from mixstyle.pipeline.mixing.versions import chain_versions
from mixstyle.stages.common.assets import shipped, shipped_encoder
from mixstyle.stages.common.progress import remark
from mixstyle.stages.evaluate.tasks.registry import TASKS
from mixstyle.stages.evaluate.tasks.task import Task
from mixstyle.stages.settings.base import shaping
from mixstyle.stages.settings.profile import Settings

METRICS, PAGE = "metrics.json", "evaluation.html"
RENAMED = {"made_from.checkpoints": "encoders", "styles": "chains", "hard_styles": "hard_chains"}
"""Names in what evaluations stored that were others: old -> new."""
RENAMED_FILES = {"fingerprint.npz": "separator_dependence.npz"}
"""Files of embeddings that had another name: old -> new."""

LATER = (
    "clip_s",
    "hard_songs",
    "unseen_chains",
    "unseen_effects",
    "whitening_chains",
    "group_by",
    "training_stems",
    "separator",
    "song_stretches",
)
"""Settings and inputs that came with version 2 of the tasks that they shape, or with a task of their own."""


def provenance_of(settings: Settings, cache: StemCache, checkpoints: Sequence[Path]) -> Provenance:
    """What the figures follow from."""
    options = settings.evaluate
    other = options.training_stems_dir
    inputs = {
        "stems": cache.fingerprint,
        "training_stems": cache.fingerprint if other is None else StemCache(other).fingerprint,
        "separator": separator_hash(settings),
        "encoders": [sha256_file(path) for path in checkpoints],
        "shipped_encoder": _shipped_hash(),
        "effect_versions": chain_versions(effect_versions()),
    }
    return Provenance("evaluate", shaping(options), {_version_name(t): t.version for t in TASKS.values()}, inputs)


def absent(provenance: Provenance) -> dict[str, object]:
    """What evaluations did not store before effects had versions and the shipped encoder was a row; and before tasks
    went through a mix: their versions tell that, and only once."""
    later = {name: provenance.flat[name] for name in LATER}
    return {
        **later,
        "effect_versions": chain_versions(first_versions(), stem_loudness=1),
        "shipped_encoder": _shipped_hash(),
    }


def changes(folder: Path, provenance: Provenance) -> list[str]:
    """One text for each thing that is not as it was when the folder was made; a setting's begins with `evaluate.`."""
    if not (folder / SETTINGS).is_file():
        return []
    return differences(read_provenance(folder / SETTINGS, RENAMED), provenance, absent=absent(provenance))


def changed_tasks(folder: Path) -> list[Task]:
    """Tasks whose version is another than when the folder was made."""
    if not (folder / SETTINGS).is_file():
        return []
    stored = read_provenance(folder / SETTINGS, RENAMED).versions
    return [task for task in TASKS.values() if stored.get(_version_name(task), FIRST) != task.version]


def prepare(folder: Path, provenance: Provenance, rebuild: bool) -> None:
    """Makes sure that what the folder holds has this provenance: removes what is stale.

    Raises MixstyleError ("stale") where other settings were asked for, without rebuild.
    """
    for old, new in RENAMED_FILES.items():
        if (folder / old).is_file() and not (folder / new).exists():
            (folder / old).replace(folder / new)
    outputs = [folder / METRICS, folder / PAGE, *folder.glob("*.npz"), *folder.glob("*.png")]
    try:
        told, tasks = changes(folder, provenance), changed_tasks(folder)
    except MixstyleError:
        told, tasks = [], []  # settings that cannot be read: `guard` tells it, or makes all again
    if told and not rebuild and not any(line.startswith("evaluate.") for line in told):
        if len(told) == len(tasks):
            names = ", ".join(task.name for task in tasks)
            remark(f"evaluate: measured again, in another version than before: {names}")
            outputs = [folder / METRICS, folder / PAGE]
            outputs += [path for task in tasks for path in folder.glob(f"{task.key}*.npz")]
        else:
            remark("evaluate: encoders, stems, effects or tasks have changed: measured again")
        rebuild = True
    guard(
        folder / SETTINGS,
        provenance,
        rebuild=rebuild,
        remove=outputs,
        renamed=RENAMED,
        absent=absent(provenance),
        fitting_too=True,
    )


def _version_name(task: Task) -> str:
    return f"{task.name.replace('-', '_')}_task"


def separator_hash(settings: Settings) -> str:
    """Of the files and the setting that the separator follows from; of a file that is not there, of its name alone."""
    chosen = settings.separate
    files = [shipped(path) for path in (chosen.separator_config, chosen.separator_checkpoint)]
    told = [sha256_file(path) if path.is_file() else path.name for path in files]
    return fingerprint({"files": told, "num_overlap": chosen.num_overlap, "precision": chosen.precision})


def _shipped_hash() -> str:
    """Of the encoder that comes with mixstyle; empty where there is none."""
    try:
        return sha256_file(shipped_encoder())
    except MixstyleError:
        return ""
