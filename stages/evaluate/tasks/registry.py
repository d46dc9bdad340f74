"""All tasks of the evaluation, by the name that `evaluate.tasks` has. To add one: a file here, and a line below."""

from collections.abc import Mapping

from mixstyle.stages.evaluate.tasks.content_hard import CONTENT_HARD
from mixstyle.stages.evaluate.tasks.parameters import PARAMETERS
from mixstyle.stages.evaluate.tasks.presets import PRESET_TASK
from mixstyle.stages.evaluate.tasks.robustness import ROBUSTNESS
from mixstyle.stages.evaluate.tasks.same_chain import SAME_CHAIN
from mixstyle.stages.evaluate.tasks.same_song import SAME_SONG
from mixstyle.stages.evaluate.tasks.separator_dependence import SEPARATOR_DEPENDENCE
from mixstyle.stages.evaluate.tasks.task import Task

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        SAME_CHAIN,
        CONTENT_HARD,
        PRESET_TASK,
        PARAMETERS,
        SAME_SONG,
        ROBUSTNESS,
        SEPARATOR_DEPENDENCE,
    )
}
"""In the order in which tables and page show them."""
