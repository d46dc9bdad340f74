"""Which encoder is meant, whether it is there, and what to do where it is not."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.cache.storage.remote_file import fetched_file
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.assets import shipped_encoder

SHIPPED_CHECKPOINT = Path("shipped")
"""What is written for the encoder that comes with mixstyle, where a checkpoint is asked for."""


def chosen_checkpoints(given: Sequence[Path], trained_dir: Path, cache_dir: Path | None = None) -> list[Path]:
    """The checkpoints that are given, as files of this machine; if none, the best one of the profile's training.

    trained_dir: of the profile. cache_dir: where copies of those behind URLs are, as for `fetched_file`. `shipped` is
    the shipped encoder, unless a file has this name. Raises MixstyleError where this installation has none, and where
    one behind a URL cannot be had.
    """
    from mixstyle.cache.models.checkpoints import BEST  # brings torch, which `status` may do without

    return [
        shipped_encoder() if path == SHIPPED_CHECKPOINT and not path.is_file() else fetched_file(path, cache_dir)
        for path in given or [trained_dir / BEST]
    ]


def check_checkpoint(path: Path, trained_dir: Path) -> None:
    """Raises MixstyleError where there is no such file.

    trained_dir: of the profile. `train` makes what is there, and no command makes what is elsewhere.
    """
    if path.is_file():
        return
    if path.parent == trained_dir:
        raise MixstyleError(f"{path}: no such checkpoint", code="step-missing", remedy=("train",))
    raise MixstyleError(f"{path}: no such checkpoint", code="not-found")


def checkpoint_hash(path: Path) -> str:
    """What provenances keep of an encoder's file: the first 16 hex digits of its SHA-256."""
    return sha256_file(path)[:16]


@contextmanager
def damage_helped(paths: Sequence[Path], trained_dir: Path) -> Iterator[None]:
    """A damaged checkpoint of the profile's own training is told with the command that takes it away, so that `train`
    makes it again. trained_dir: of the profile."""
    try:
        yield
    except MixstyleError as error:
        own = any(path.parent == trained_dir and error.message.startswith(f"{path}:") for path in paths)
        if error.code != "damaged-file" or error.remedy or not own:
            raise
        raise MixstyleError(error.message, code=error.code, remedy=("verify", "--repair")) from error
