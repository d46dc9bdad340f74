"""Which kind of trial a number is, and of which command."""

import random

from torture.commands import BY_NAME, STAGES, Stage
from torture.damage import HARM, STORED, damage_trial
from torture.killing import kill_trial, write_trial
from torture.machine import clock_trial, disk_trial, locks_trial
from torture.workplace import Outcome, Workplace

KINDS = {
    "kill": 9,
    "kill at a write": 9,
    "damage": 5,
    "full disk": 2,
    "read-only": 1,
    "no locks": 1,
    "clock set back": 1,
}
"""How often each is drawn."""
OF_A_STAGE = {
    "kill": kill_trial,
    "kill at a write": write_trial,
    "no locks": locks_trial,
    "clock set back": clock_trial,
}


def trial(place: Workplace, stages: tuple[Stage, ...], number: int, seed: int, kinds: tuple[str, ...]) -> Outcome:
    """The trial of a number: the same one for the same seed, commands, kinds and code. One that hangs did not hold."""
    draw = random.Random(f"{seed} {number}")
    kind = draw.choices(kinds, [KINDS[name] for name in kinds])[0]
    stage = draw.choices(stages, [stage.weight for stage in stages])[0]
    try:
        if kind == "damage":
            known = sorted(name for name, (of, _) in STORED.items() if BY_NAME[of] in stages)
            return damage_trial(place, draw.choice(known), draw.choice(HARM), draw)
        if kind in ("full disk", "read-only"):
            return disk_trial(place, stage, draw, kind == "read-only")
        return OF_A_STAGE[kind](place, stage, draw)
    except TimeoutError as error:
        return Outcome(kind, stage.name, "", "hung", str(error))


__all__ = ["KINDS", "STAGES", "Outcome", "Workplace", "trial"]
