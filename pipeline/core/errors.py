"""The one exception a user's mistake raises, and the codes that tell programs which mistake it was."""

import copyreg
import pickle
import struct
from collections.abc import Sequence
from typing import Any, Literal, get_args

from mixstyle.pipeline.core.text import shell_words

ErrorCode = Literal[
    "bad-setting",
    "unknown-setting",
    "bad-option",
    "not-found",
    "no-music",
    "bad-audio",
    "bad-list",
    "damaged-file",
    "unknown-version",
    "wrong-file",
    "misfit",
    "stale",
    "step-missing",
    "in-use",
    "cannot-write",
    "no-memory",
    "no-device",
    "no-package",
    "remote",
    "worker-died",
    "not-finite",
]
"""What went wrong, for programs and tests; the message is for people.

- bad-setting, unknown-setting: a setting's value, or a name that there is not. bad-option: a command line's option or
  a function's argument.
- not-found: a file, a folder or a profile. no-music: nothing there that can be used. bad-audio: a file or
  samples that cannot be used: no music, damaged, of a wrong shape, too short or not finite. bad-list: a list of music
  or a table that cannot be read.
- damaged-file: of the right kind but not whole. unknown-version: written by another version. wrong-file: of another
  kind. misfit: two inputs that do not belong together.
- stale: made with other settings or from other inputs. step-missing: another command has to run first. in-use: another
  process is at it.
- cannot-write, no-memory, no-device, no-package, remote: what the machine or a server lacks or refuses.
- worker-died: a process of ours ended. not-finite: training or separation came to NaN or infinity.
"""
ERROR_CODES: tuple[str, ...] = get_args(ErrorCode)


UNREADABLE_BY_TORCH: tuple[type[Exception], ...] = (
    *(pickle.UnpicklingError, struct.error, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError, MemoryError),
)
"""What `torch.load` raises over damaged files: its reader of pickles has no one exception for them."""
GET_AGAIN = "get the file again, or name another one"
"""The hint where a file of weights is damaged that no command of mixstyle makes."""

_JOINTS = (",", " or", " then")
"""How messages end that go on with the command that helps."""


class MixstyleError(Exception):
    """Bad input, told in one line that names the file or the setting and says what to do.

    The command line prints it without a traceback and exits with status 1.

    message: what happened. code: one of ERROR_CODES, the same for the same mistake whatever the message says. remedy:
    the words of the mixstyle command that helps, such as ("features", "--rebuild"). It ends the line, where the command
    line adds the options that it was given (its --config among them), so that what is printed works as it is. hint:
    what helps, in words, where no command does.

    >>> str(MixstyleError("x.zarr: no feature store", code="step-missing", remedy=("features",)))
    'x.zarr: no feature store; run: mixstyle features'
    """

    def __init__(self, message: str, *, code: ErrorCode, remedy: Sequence[str] = (), hint: str = "") -> None:
        self.message, self.hint = message, hint
        self.code: ErrorCode = code
        self.remedy: tuple[str, ...] = tuple(remedy)
        super().__init__(self.told(shell_words(["mixstyle", *remedy]) if remedy else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its code: an exception's own way would call the class with the message alone."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def what(self) -> str:
        """The message without what is to be done before the remedy.

        >>> MixstyleError("a.json: damaged; delete it, then", code="damaged-file", remedy=("separate",)).what
        'a.json: damaged'
        """
        return (self.message.rpartition("; ")[0] if self.message.endswith(_JOINTS) else "") or self.message

    def told(self, command: str) -> str:
        """The line with a command at its end, or else the hint. A message may end in a comma, "or" or "then"."""
        if not command:
            return f"{self.message}; {self.hint}" if self.hint else self.message
        joint = " " if self.message.endswith(_JOINTS) else "; "
        return f"{self.message}{joint}run: {command}"


def one_line(error: BaseException, length: int = 120) -> str:
    """What an error says, on one line, and not longer than that where it is another package's; its kind where it says
    nothing.

    >>> one_line(ValueError("bad\\nbytes")), one_line(EOFError())
    ('bad bytes', 'EOFError')
    >>> one_line(ValueError("a word that is cut"), length=13)
    'a word tha...'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MixstyleError):
        return text  # ours, with the name of a file or setting in it
    return text if len(text) <= length else f"{text[: length - 3]}..."
