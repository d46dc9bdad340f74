"""All tasks of the evaluation, by the name that `evaluate.tasks` has. To add one: a file here, and a line below."""

from collections.abc import Mapping

from mixstyle.stages.evaluate.tasks.content_hard import CONTENT_HARD, STEMS_CONTENT_HARD
from mixstyle.stages.evaluate.tasks.parameters import PARAMETERS, STEMS_PARAMETERS
from mixstyle.stages.evaluate.tasks.presets import PRESET_TASK, STEMS_PRESETS
from mixstyle.stages.evaluate.tasks.published_protocol import MIX_PUBLISHED_PROTOCOL, PUBLISHED_PROTOCOL
from mixstyle.stages.evaluate.tasks.real_mixes import REAL_MIXES
from mixstyle.stages.evaluate.tasks.robustness import ROBUSTNESS
from mixstyle.stages.evaluate.tasks.same_chain import SAME_CHAIN, SONGS_SAME_CHAIN, STEMS_SAME_CHAIN, TRUE_SAME_CHAIN
from mixstyle.stages.evaluate.tasks.same_song import SAME_SONG
from mixstyle.stages.evaluate.tasks.separator_dependence import SEPARATOR_DEPENDENCE
from mixstyle.stages.evaluate.tasks.task import Task
from mixstyle.stages.evaluate.tasks.unseen_effects import UNSEEN_EFFECTS

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        SAME_CHAIN,
        SONGS_SAME_CHAIN,
        UNSEEN_EFFECTS,
        REAL_MIXES,
        CONTENT_HARD,
        PRESET_TASK,
        PARAMETERS,
        SAME_SONG,
        ROBUSTNESS,
        STEMS_SAME_CHAIN,
        STEMS_CONTENT_HARD,
        STEMS_PRESETS,
        STEMS_PARAMETERS,
        TRUE_SAME_CHAIN,
        SEPARATOR_DEPENDENCE,
        PUBLISHED_PROTOCOL,
        MIX_PUBLISHED_PROTOCOL,
    )
}
"""In the order in which tables and page show them."""
