"""The kinds of trials of `kills.py`: what is broken in each, and what must hold afterwards."""

import ctypes
import errno
import fcntl
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torture.commands import BY_NAME, CONFIG, STAGES, Run, Stage, fresh, kill, one_line_told
from torture.outcomes import differences, in_child

ORPHANS_S = 60
"""Processes whose main process was killed are to be gone by then."""
DAY_S = 86_400


@dataclass(frozen=True)
class Outcome:
    """What a trial came to. what: how it was broken. met: what was seen. problem: what did not hold, or empty."""

    kind: str
    stage: str
    what: str
    met: str
    problem: str = ""


class Workplace:
    """A folder to break things in, with what an unbroken run made there.

    took_s: seconds that each stage took then.
    """

    def __init__(self, folder: Path, took_s: dict[str, float]) -> None:
        self.work, self.reference, self.took_s = folder / "work", folder / "reference", took_s

    def run(self, stage: Stage, *more: str, prepare: Callable[[], None] = lambda: None) -> Run:
        """Starts a stage's command."""
        return Run(self.work, (stage.name, *stage.words, *more), prepare)

    def differ(self, stage: Stage) -> list[str]:
        """What of a stage's outputs is not as an unbroken run made it."""
        return differences(self.work, self.reference, (stage,))


def finish(place: Workplace, stage: Stage, prepare: Callable[[], None] = lambda: None) -> str:
    """Runs the stage's command to its end and compares; what does not hold."""
    run = place.run(stage, prepare=prepare)
    try:
        status = run.wait()
    except TimeoutError as error:
        return str(error)
    said = run.said()
    run.forget()
    if status != 0:
        return f"the same command ended with {status}: {said[-800:]}"
    found = place.differ(stage)
    return "; ".join(found[:6])


def refused_well(run: Run) -> str:
    """Why a command that ended did so otherwise than well or in one line; "" where it did not."""
    status = run.poll()
    said = run.said()
    if status == 0 or (status == 1 and one_line_told(said)):
        return ""
    return f"ended with {status}, and said {said[-600:]}"


# Kills


def kill_trial(place: Workplace, stage: Stage, draw: random.Random) -> Outcome:
    """Kills one of one or two runs at a random moment; the same command goes on, at once or when all are gone."""
    victim, pair, at_once = draw.choice(("main", "worker", "group")), draw.random() < 0.3, draw.random() < 0.5
    moment_s = draw.uniform(0.0, place.took_s[stage.name])
    fresh(place.work, place.reference, stage)
    runs = [place.run(stage) for _ in range(1 + pair)]
    deadline = time.monotonic() + moment_s
    while time.monotonic() < deadline and runs[0].poll() is None:
        time.sleep(0.005)
    killed = kill(runs[0], victim, draw.choice)
    problems: list[str] = []
    try:
        for run in runs[1:] if killed in ("main", "group") else runs:
            run.wait()
            problems.append(refused_well(run))
        if not at_once:
            problems.append(_orphans(runs[0]))
        problems.append(finish(place, stage))
        problems.append(_orphans(runs[0]))
    except TimeoutError as error:
        problems.append(str(error))
    for run in runs:
        run.kill_group()
        run.forget()
    what = f"{killed or 'ended before'}{', two runs' if pair else ''}"
    return Outcome("kill", stage.name, what, "killed" if killed else "not hit", "; ".join(filter(None, problems)))


def _orphans(run: Run) -> str:
    deadline = time.monotonic() + ORPHANS_S
    while (found := run.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return f"{len(found)} processes are left after {ORPHANS_S} s" if found else ""


# Damage


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
    "checkpoint": ("train", "checkpoints/*.pt"),
    "evaluation's embeddings": ("evaluate", "evaluation/*.npz"),
    "evaluation's metrics": ("evaluate", "evaluation/metrics.json"),
    "evaluation's bank": ("evaluate", "banks/*/stems-*.tar"),
    "export": ("export", "encoder.safetensors"),
    "songs of an index": ("index", "index/songs-*.parquet"),
    "search structure": ("index", "index/nearest.faiss"),
}
HARM = ("bit", "truncation", "deletion")


def damage_trial(place: Workplace, kind: str, how: str, draw: random.Random) -> Outcome:
    """One stored file is damaged; who verifies names it, or the command heals it, or `verify --repair` and it do."""
    stage = BY_NAME[STORED[kind][0]]
    fresh(place.work, place.reference, stage, after=True)
    path = draw.choice(sorted(file for file in place.work.glob(STORED[kind][1]) if file.is_file()))
    name = str(path.relative_to(place.work))
    _damage(path, how, draw)
    if kind == "evaluation's bank":  # it is asked for again where there are no embeddings of it
        for kept in place.work.glob("evaluation/*.npz"):
            kept.unlink()
    verified = _said(place, "verify")
    noticed = "noticed by verify" if verified[0] == 1 and stage_output(name) in verified[1] else ""
    met, problem = "", ""
    run = place.run(stage)
    run.wait()
    problem = refused_well(run)
    noticed = noticed or ("noticed by the command" if path.name in run.said() else "")
    if run.poll() == 0 and not place.differ(stage):
        met = "the same command"
    else:
        _said(place, "verify", "--repair")
        again = finish(place, stage)
        met = "verify --repair"
        if again and "--rebuild" in verified[1] + run.said() + again:
            rebuilt = place.run(stage, "--rebuild")
            again = "" if rebuilt.wait() == 0 and not place.differ(stage) else rebuilt.said()[-500:] or again
            met = "--rebuild, as told"
        problem = problem or again
    run.forget()
    if not noticed and met != "the same command":
        problem = problem or "nobody named it"
    return Outcome("damage", stage.name, f"{kind}, {how}: {name}", f"{noticed or 'not named'}; {met}", problem)


def stage_output(name: str) -> str:
    """What verify names of a file: a store as a whole, and a shard by its tar."""
    top = name.partition("/")[0]
    return top if top.endswith(".zarr") else Path(name).stem


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


# The machine


def without_locks() -> None:
    """Locking fails, as on a file system that has none."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.lockf = fcntl.flock = refuse


def locks_trial(place: Workplace, stage: Stage, draw: random.Random) -> Outcome:
    """Two runs at once where nothing can be locked: a warning, whole outputs or a line, and one run more heals."""
    fresh(place.work, place.reference, stage)
    first = place.run(stage, prepare=without_locks)
    time.sleep(draw.uniform(0.0, place.took_s[stage.name] / 2))
    second = place.run(stage, prepare=without_locks)
    first.wait()
    second.wait()
    problem = refused_well(first) or refused_well(second) or finish(place, stage, without_locks)
    met = f"the two ended with {first.poll()} and {second.poll()}"
    first.forget()
    second.forget()
    return Outcome("no locks", stage.name, "two runs", met, problem)


def clock_trial(place: Workplace, stage: Stage, draw: random.Random) -> Outcome:
    """A killed run goes on after the clock was set back: all that is there is from the future."""
    fresh(place.work, place.reference, stage)
    run = place.run(stage)
    time.sleep(draw.uniform(0.3, 0.9) * place.took_s[stage.name])
    run.kill_group()
    run.forget()
    back_s = draw.choice((3_600, DAY_S, 3_650 * DAY_S))
    later = time.time() + back_s
    for path in place.work.rglob("*"):
        os.utime(path, (later, later))
    return Outcome("clock set back", stage.name, f"by {back_s // 3_600} h", "went on", finish(place, stage))


CLONE_NEWNS, CLONE_NEWUSER, MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 1, 32, 16384, 1 << 18


def _call(done: int, what: str) -> None:
    if done != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(folder: Path, flags: int, data: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, data.encode()), "mount")


def _own_mounts() -> None:
    """A namespace of mounts for this process and those that it forks."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _call(libc.unshare(CLONE_NEWNS | CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _call(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount")


def disk_trial(place: Workplace, stage: Stage, draw: random.Random, read_only: bool) -> Outcome:
    """The folder is a tmpfs with too little room, or one that cannot be written; then one that can."""
    kind = "read-only" if read_only else "full disk"
    share = draw.uniform(0.0, 0.9)

    def tried() -> dict[str, str]:
        _own_mounts()
        fresh(place.work, place.reference, stage)
        small = sum(_rounded(path) for path in place.work.rglob("*"))
        made = sum(_rounded(path) for name in stage.made for path in _all(place.reference / name))
        kept = place.work.with_name("kept")
        place.work.rename(kept)
        place.work.mkdir()
        size = 1 << 30 if read_only else small + max(4096, int(share * made) // 4096 * 4096)
        _mount(place.work, 0, f"size={size}")
        os.system(f"cp -a '{kept}/.' '{place.work}/' && rm -r '{kept}'")
        if read_only:
            _mount(place.work, MS_REMOUNT | MS_RDONLY, f"size={size}")
        run = place.run(stage)
        status = run.wait()
        problem, met = refused_well(run), f"ended with {status}: {_last(run.said())}"
        if read_only and status == 0:
            problem = "ended with 0 though nothing can be written"
        _mount(place.work, MS_REMOUNT, f"size={1 << 30}")
        return asdict(Outcome(kind, stage.name, f"{share:.2f} of its output", met, problem or finish(place, stage)))

    found = in_child(tried, place.work.parent / "tried.json")
    if isinstance(found, str):
        return Outcome(kind, stage.name, "", f"left out: {found}", "" if found.startswith("PermissionError") else found)
    return Outcome(**found)


def _last(said: str) -> str:
    return next((line for line in reversed(said.strip().splitlines()) if line.startswith("mixstyle: ")), "")[:300]


def _all(path: Path) -> list[Path]:
    return [path, *path.rglob("*")]


def _rounded(path: Path) -> int:
    """Bytes of a file or a folder on a tmpfs."""
    return -(-path.stat().st_size // 4096) * 4096 if path.is_file() else 0


def trial(place: Workplace, stages: tuple[Stage, ...], number: int, seed: int, kinds: tuple[str, ...]) -> Outcome:
    """The trial of a number: the same one for the same seed."""
    draw = random.Random(f"{seed} {number}")
    kind = draw.choices(kinds, [KINDS[name] for name in kinds])[0]
    weights = [1 / (1 + place.took_s[stage.name]) for stage in stages]
    stage = draw.choices(stages, weights)[0]
    if kind == "damage":
        known = sorted(name for name, (of, _) in STORED.items() if BY_NAME[of] in stages)
        return damage_trial(place, draw.choice(known), draw.choice(HARM), draw)
    if kind in ("full disk", "read-only"):
        return disk_trial(place, stage, draw, kind == "read-only")
    return {"kill": kill_trial, "no locks": locks_trial, "clock set back": clock_trial}[kind](place, stage, draw)


KINDS = {"kill": 12, "damage": 4, "full disk": 1, "read-only": 1, "no locks": 1, "clock set back": 1}
"""How often each is drawn."""
__all__ = ["KINDS", "STAGES", "Outcome", "Workplace", "trial"]
