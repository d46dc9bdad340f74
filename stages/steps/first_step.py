"""The first step that is missing where a message tells to run a later one: the command that it prints then works."""

import shlex

from mixstyle.cache.storage.urls import url_of
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.stage_status import StageStatus
from mixstyle.stages.settings.profile import Settings

STEPS = ("separate", "remix", "features", "train")
"""In the order in which they need each other."""
MISSING = ("not started", "partly done")
"""States of steps that have to run. What is stale or damaged is told by the command that comes to it."""


def first_step(error: MixstyleError, settings: Settings) -> MixstyleError:
    """An error that tells to run a step ("step-missing"), with the first one that has to run before as its remedy.

    Others, and those whose step can run, are handed back as they are. Nothing is changed on the disk.
    """
    if error.code != "step-missing" or len(error.remedy) != 1 or error.remedy[0] not in STEPS:
        return error
    if settings.train.stems_url:
        return error  # the stems are made elsewhere
    begun = error.message if error.message.endswith(",") else f"{error.message};"
    lacking = what_separate_lacks(settings)
    if lacking is not None:
        return MixstyleError(f"{begun} {lacking.message}", code=error.code, remedy=lacking.remedy)
    found = _missing_before(settings, error.remedy[0])
    if found is not None:
        return MixstyleError(f"{begun} first of all,", code=error.code, remedy=shlex.split(found.run)[1:])
    return error


def what_separate_lacks(settings: Settings) -> MixstyleError | None:
    """What `separate` would say before it makes its first stems; None where it has begun, or can."""
    from mixstyle.cache.music.formats import LISTING_VERSION
    from mixstyle.stages.common.public_separator import check_separator
    from mixstyle.stages.common.stage_status import is_begun
    from mixstyle.stages.separate.music import listed_music

    chosen = settings.separate
    if is_begun(chosen.stems_dir) or url_of(chosen.data_path):
        return None
    try:
        listed_music(settings, LISTING_VERSION)
        if chosen.input != "stems":
            check_separator(chosen.separator_checkpoint)
    except MixstyleError as error:
        return error if error.remedy else None
    return None


def _missing_before(settings: Settings, step: str) -> StageStatus | None:
    """The first step before `step` that has to run."""
    if step == "separate":
        return None
    from mixstyle.stages.features.status import features_status
    from mixstyle.stages.remix.status import remix_status
    from mixstyle.stages.separate.status import separate_status
    from mixstyle.stages.train.provenance import reads_bank

    cache, separate = separate_status(settings)
    if separate.state in MISSING:
        return separate
    if step == "train":
        bank, remix = remix_status(settings, cache)
        if reads_bank(settings.train) and remix.state in MISSING:
            return remix
        _, features = features_status(settings, cache, bank)
        return features if features.state in MISSING else None
    return None
