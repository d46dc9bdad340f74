"""The learning rate of each step."""

import math

from mixstyle.stages.settings.train import TrainSettings


def learning_rate(options: TrainSettings, step: int, total: int) -> float:
    """The learning rate of a step, counted from 0: a function of it alone, so that no state is needed to go on.

    It rises linearly over `warmup_steps`, then stays, or falls to 0 along half a cosine (Loshchilov, Hutter: "SGDR",
    ICLR 2017, eq. 5, without restarts).
    """
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    if options.schedule == "constant":
        return options.learning_rate
    share = (step - options.warmup_steps) / max(total - options.warmup_steps, 1)
    return options.learning_rate * (1 + math.cos(math.pi * min(share, 1.0))) / 2
