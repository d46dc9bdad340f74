"""Text of unknown origin, names of files above all, made safe to print and to store as UTF-8; and words for counts."""

import shlex
import unicodedata
from collections.abc import Iterable

_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
"""Controls, halves of characters, and separators of lines: they move a terminal's cursor or end a line."""
_TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They turn the direction of what follows, so that a line shows other than it is."""


def as_utf8(text: str) -> str:
    r"""The text with the bytes of a name that are no UTF-8 as `\xe9`; all else stays.

    >>> print(as_utf8("caf\udce9.mp3"))
    caf\xe9.mp3
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of characters that stand for no byte
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    r"""One line that a terminal shows as it is: controls, line ends and what is no UTF-8 as backslashes and a number.

    >>> print(printable("a\x1b[31m\n.mp3"))
    a\x1b[31m\n.mp3
    """
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSEEN or c in _TURNING else c for c in as_utf8(text))


def one_line(text: str) -> str:
    r"""As `printable`, with backslashes doubled, so that the text can be had back: Python's `unicode_escape`, say.

    >>> print(one_line("a\\b\n.mp3"))
    a\\b\n.mp3
    """
    return printable(text.replace("\\", "\\\\"))


def shell_words(words: Iterable[str]) -> str:
    r"""Words quoted for a shell, in one line that a terminal shows as it is, and that bash and zsh read as these words.

    >>> print(shell_words(["mixstyle", "a song.wav", "caf\udce9.wav"]))
    mixstyle 'a song.wav' $'caf\xe9.wav'
    """
    return " ".join(shlex.quote(word) if printable(word) == word else _quoted_with_escapes(word) for word in words)


def counted(count: int, what: str, of: int | None = None) -> str:
    """A number of things, or so many of all: the word is for one of them.

    >>> counted(1, "shard"), counted(2, "shard"), counted(1, "shard", of=1), counted(0, "shard", of=4)
    ('1 shard', '2 shards', '1 of 1 shard', '0 of 4 shards')
    """
    told = f"{count:,}" if of is None else f"{count:,} of {of:,}"
    return f"{told} {what}{'' if (count if of is None else of) == 1 else 's'}"


def _escaped(c: str) -> str:
    return c.encode("unicode_escape").decode("ascii")


def _quoted_with_escapes(word: str) -> str:
    made = ""
    for c in word:
        if printable(c) == c:
            made += f"\\{c}" if c in "\\'" else c
        else:
            how = "surrogateescape" if "\udc80" <= c <= "\udcff" else "surrogatepass"
            made += "".join(f"\\x{byte:02x}" for byte in c.encode("utf-8", how))
    return f"$'{made}'"
