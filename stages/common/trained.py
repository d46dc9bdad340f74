"""Whether a trained encoder is there, and what to do where it is not."""

from pathlib import Path

from mixstyle.pipeline.core.errors import MixstyleError


def check_checkpoint(path: Path, trained_dir: Path) -> None:
    """Raises MixstyleError where there is no such file.

    trained_dir: of the profile. `train` makes what lies there, and no command makes what lies elsewhere.
    """
    if path.is_file():
        return
    if path.parent == trained_dir:
        raise MixstyleError(f"{path}: no such checkpoint", code="step-missing", remedy=("train",))
    raise MixstyleError(f"{path}: no such checkpoint", code="not-found")
