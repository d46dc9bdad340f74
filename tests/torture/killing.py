"""Trials that kill: at a random moment, or at a write that is counted."""

import random
import time

from torture.commands import Run, Stage, fresh, kill
from torture.workplace import Outcome, Workplace, finish, refused_well
from torture.writes import Writes

ORPHANS_S = 60
"""Processes whose main process was killed are to be gone by then."""


def kill_trial(place: Workplace, stage: Stage, draw: random.Random) -> Outcome:
    """Kills one of one or two runs at a random moment; the same command goes on, at once or when all are gone."""
    victim, pair, at_once = draw.choice(("main", "worker", "group")), draw.random() < 0.3, draw.random() < 0.5
    moment_s = draw.random() * place.took_s[stage.name]
    fresh(place.work, place.reference, stage)
    runs = [place.run(stage) for _ in range(1 + pair)]
    deadline = time.monotonic() + moment_s
    while time.monotonic() < deadline and runs[0].poll() is None:
        time.sleep(0.005)
    killed = kill(runs[0], victim, draw.choice)
    problem = _goes_on(place, stage, runs, at_once, ended=killed in ("main", "group"))
    what = f"{killed or 'ended before'}{', two runs' if pair else ''}"
    return Outcome("kill", stage.name, what, "killed" if killed else "not hit", problem)


def write_trial(place: Workplace, stage: Stage, draw: random.Random) -> Outcome:
    """A process is killed, alone or with its group, right before the n-th write of its command; the same goes on."""
    all_at_once, at_once = draw.random() < 0.5, draw.random() < 0.5
    number = draw.randrange(place.writes[stage.name]) + 1
    fresh(place.work, place.reference, stage)
    writes = Writes()
    run = place.run(stage, prepare=writes.watch(place.work, number, all_at_once))
    try:
        ended = run.wait() < 0
    except TimeoutError as error:
        return Outcome("kill at a write", stage.name, f"{number}", "killed", str(error))
    problem = _goes_on(place, stage, [run], at_once, ended)
    what = f"{number} of {place.writes[stage.name]}, {'its group' if all_at_once else 'alone'}"
    return Outcome("kill at a write", stage.name, what, "killed" if writes.count >= number else "not hit", problem)


def _goes_on(place: Workplace, stage: Stage, runs: list[Run], at_once: bool, ended: bool) -> str:
    """What does not hold of those that were not killed, and of the same command after them. ended: the first was."""
    problems: list[str] = []
    try:
        for run in runs[1:] if ended else runs:
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
    return "; ".join(filter(None, problems))


def _orphans(run: Run) -> str:
    deadline = time.monotonic() + ORPHANS_S
    while (found := run.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return f"{len(found)} processes are left after {ORPHANS_S} s" if found else ""
