"""Trials that damage a stored file: who notices, and what makes it whole again."""

import random
from pathlib import Path

from torture.commands import BY_NAME, CONFIG, Run, fresh
from torture.workplace import Outcome, Workplace, finish, refused_well

STORED = {
    "shard": ("separate", "stems/stems-*.tar"),
    "sidecar": ("separate", "stems/stems-*.json"),
    "manifest": ("separate", "stems/plan.jsonl.gz"),
    "failure log": ("separate", "stems/failures.csv"),
    "settings": ("separate", "stems/settings.json"),
    "shard of a bank": ("remix", "remix/stems-*.tar"),
    "sidecar of a bank": ("remix", "remix/stems-*.json"),
    "Zarr chunk": ("features", "features.zarr/*/c/**/[0-9]*"),
    "Zarr metadata": ("features", "features.zarr/**/zarr.json"),
    "checkpoint": ("train", "checkpoints/[bfl]*.pt"),
    "checkpoint of an epoch": ("train", "checkpoints/checkpoint_epoch_*.pt"),
    "settings of a training": ("train", "checkpoints/settings.json"),
    "evaluation's embeddings": ("evaluate", "evaluation/*.npz"),
    "evaluation's metrics": ("evaluate", "evaluation/metrics.json"),
    "evaluation's bank": ("evaluate", "banks/*/stems-*.tar"),
    "export": ("export", "encoder.safetensors"),
    "songs of an index": ("index", "index/songs-*.parquet"),
    "search structure": ("index", "index/nearest.faiss"),
}
NOT_MADE_AGAIN = ("checkpoint of an epoch",)
"""What people may remove at any time."""
HARM = ("bit", "truncation", "deletion")


def damage_trial(place: Workplace, kind: str, how: str, draw: random.Random) -> Outcome:
    """One stored file is damaged. `verify` has to name a file that holds something else than before; the command, or
    `verify --repair` and it, or what the command says, have to make it again.
    """
    stage = BY_NAME[STORED[kind][0]]
    fresh(place.work, place.reference, stage, after=True)
    path = draw.choice(sorted(file for file in place.work.glob(STORED[kind][1]) if file.is_file()))
    name = str(path.relative_to(place.work))
    _damage(path, how, draw)
    harmless = not place.differ(stage)
    if kind == "evaluation's bank":  # it is asked for again where there are no embeddings of it
        for kept in place.work.glob("evaluation/*.npz"):
            kept.unlink()
    status, verified = _said(place, "verify")
    noticed = "named by verify" if status == 1 and named(verified, name) else ""
    run = place.run(stage)
    run.wait()
    problem = refused_well(run)
    noticed = noticed or ("named by the command" if _told_of(run.said(), path.name) else "")
    if run.poll() == 0 and not _lacking(place, kind, name):
        met = "harmless" if harmless and not noticed else "the same command"
    else:
        met, again = _repaired(place, kind, name, verified + run.said())
        problem = problem or again
    run.forget()
    if not harmless and not noticed and (how != "deletion" or met != "the same command"):
        problem = problem or "nobody named it"
    elif how != "deletion" and not harmless and noticed != "named by verify":
        problem = problem or "verify did not name it"
    return Outcome("damage", stage.name, f"{kind}, {how}: {name}", f"{noticed or 'not named'}; {met}", problem)


def _repaired(place: Workplace, kind: str, name: str, told: str) -> tuple[str, str]:
    """How it was made again where the command did not do so, and what does not hold after that."""
    stage = BY_NAME[STORED[kind][0]]
    repaired = _said(place, "verify", "--repair")
    again = finish(place, stage)
    if not again or _lacking(place, kind, name) == []:
        return "verify --repair", ""
    if "--rebuild" not in told + repaired[1] + again:
        return "verify --repair", again
    rebuilt = place.run(stage, "--rebuild")
    status, said = rebuilt.wait(), rebuilt.said()
    rebuilt.forget()
    left = _lacking(place, kind, name)
    return "--rebuild, as told", "" if status == 0 and not left else f"{said[-500:]} {left[:3]}"


def _lacking(place: Workplace, kind: str, name: str) -> list[str]:
    """What of the stage's outputs is not as it was; without what no command makes again, where that is gone."""
    gone = [f"lacks {name}"] if kind in NOT_MADE_AGAIN else []
    return [line for line in place.differ(BY_NAME[STORED[kind][0]]) if line not in gone]


def named(verified: str, name: str) -> bool:
    """Whether a line of verify names a file: a store as a whole, a shard by its tar, any other by itself."""
    top = name.partition("/")[0]
    path = name.removesuffix(".json") + ".tar" if Path(name).match("stems-*.json") else name
    path = top if top.endswith(".zarr") else path
    lines = [line.removeprefix("verify: ") for line in verified.splitlines() if line.startswith("verify: ")]
    return any(line.startswith(f"{path}: ") or f"/{path}: " in line for line in lines)


def _told_of(said: str, name: str) -> bool:
    """Whether an error or a warning of a command names a file."""
    return any(name in line for line in said.splitlines() if "error: " in line or "warning: " in line)


def _damage(path: Path, how: str, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == "deletion":
        path.unlink()
    elif how == "truncation":
        path.write_bytes(data[: draw.randrange(len(data))])
    else:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)


def _said(place: Workplace, *words: str) -> tuple[int, str]:
    run = Run(place.work, (*words, *CONFIG))
    status, said = run.wait(), run.said()
    run.forget()
    return status, said
