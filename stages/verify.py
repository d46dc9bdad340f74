"""`mixstyle verify`: reads everything that a profile stored and compares it with its checksums.

Outputs of earlier versions that have no checksums are read anyway, which tells what cannot be decoded. What is
damaged is named; with `repair` it is taken away, so that the command that made it makes it again. What another version
of mixstyle wrote, or somebody else, is named too, and left where it is. Hashes are computed by several threads.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mixstyle.cache.storage.urls import shown
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.common.commands import completed
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.verify_checks import Check, all_checks

AT_ONCE = max(4, usable_cores())
"""Hashes that are computed at once; a few where there are fewer cores, since a store has to be waited for."""
AHEAD = 4 * AT_ONCE
"""Checks whose hashes may be computed before their turn."""
NOT_OURS = ("unknown-version", "wrong-file")
"""Codes of what is whole, for all that can be told."""


@dataclass(frozen=True)
class Damage:
    """Something that is not what was written. remake: the command that makes it again. repaired: it was taken away.
    ours: whether this version of mixstyle may take it away."""

    path: Path
    what: str
    remake: tuple[str, ...]
    repaired: bool = False
    ours: bool = True


@dataclass(frozen=True)
class VerifySummary:
    """checked: files, each shard with its sidecar as one. damages: in the order of the steps that made them."""

    checked: int
    damages: tuple[Damage, ...]


def verify(settings: Settings, repair: bool = False) -> VerifySummary:
    """Checks all outputs of the profile and prints what is damaged; `repair` takes that away.

    Raises MixstyleError ("in-use") where something is to be repaired that another process is writing, and "remote"
    where a store does not answer.
    """
    checks = list(all_checks(settings))
    damages: list[Damage] = []
    with progress("verify", len(checks), "files") as bar:
        for check, found in _all_checked(checks):
            if found is not None and found.ours and repair and check.repair is not None:
                found = _repaired(check)
            damages += [found] if found is not None else []
            bar.note(f"{len(damages)} damaged" if damages else "")
            bar.advance()
    summary = VerifySummary(len(checks), tuple(damages))
    _tell(summary, settings, repair)
    return summary


def _all_checked(checks: Sequence[Check]) -> Iterator[tuple[Check, Damage | None]]:
    """The checks in their order, each with what it found: hashes ahead in threads, all else in this one.

    Threads help because reading a file and hashing it, and waiting for a store, leave Python's lock alone. A damaged
    file may be taken away before the next check: a hash that is computed ahead reads the files of its own check alone.
    """
    waiting = deque[tuple[Check, Future[Damage | None] | None]]()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="verify") as threads:
        try:
            for check in checks:
                waiting.append((check, threads.submit(_checked, check) if check.is_hash else None))
                if len(waiting) > AHEAD:
                    yield _answered(*waiting.popleft())
            while waiting:
                yield _answered(*waiting.popleft())
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _answered(check: Check, ahead: Future[Damage | None] | None) -> tuple[Check, Damage | None]:
    return check, _checked(check) if ahead is None else ahead.result()


def _checked(check: Check) -> Damage | None:
    try:
        check.check()
    except MixstyleError as error:
        if error.code == "remote":  # a store that does not answer tells nothing of what is there
            raise
        ours = error.code not in NOT_OURS
        what = error.what if ours else error.message
        what = what.removeprefix(f"{check.path}: ").removeprefix(f"{shown(check.path)}: ")
        return Damage(check.path, what, check.remake if ours else error.remedy, ours=ours)
    except OSError as error:
        return Damage(check.path, f"cannot be read ({error.strerror or error})", check.remake)
    return None


def _repaired(check: Check) -> Damage | None:
    """Takes something away that is damaged still, now that nobody else writes it."""
    with check.lock():
        found = _checked(check)
        if found is None or not found.ours or check.repair is None:
            return found
        check.repair()
        return Damage(found.path, found.what, found.remake, repaired=True)


def _tell(summary: VerifySummary, settings: Settings, repair: bool) -> None:
    for damage in summary.damages:
        done = "; removed" if damage.repaired else ""
        say(f"verify: {shown(damage.path)}: {damage.what}{done}")
    if not summary.damages:
        are = "is" if summary.checked == 1 else "are"
        whole = f"{counted(summary.checked, 'file')} {are} unchanged"
        say(f"verify: {whole if summary.checked else 'there is nothing to check yet'}")
        return
    are = "is" if summary.checked == 1 else "are"
    say(f"verify: {counted(len(summary.damages), 'file', of=summary.checked)} {are} damaged")
    if repair:
        for command in dict.fromkeys(damage.remake for damage in summary.damages if damage.remake):
            say(f"verify: to make it again, run: {completed(command, settings)}")


def failure(summary: VerifySummary, repair: bool) -> MixstyleError | None:
    """The error that ends the command if something is damaged and was not removed."""
    left = [damage for damage in summary.damages if not damage.repaired]
    if not left:
        return None
    first = next((damage for damage in left if damage.ours), left[0])
    rest = f" and {counted(len(left) - 1, 'other file')}" if len(left) > 1 else ""
    remedy = ("verify", "--repair") if first.ours and not repair else first.remake
    what = "damaged" if first.ours else first.what
    return MixstyleError(f"{shown(first.path)}{rest}: {what}", code="damaged-file", remedy=remedy)
