"""Text of unknown origin is one line that is UTF-8, moves no cursor, and tells every two names apart."""

import os
import shutil
import subprocess

import pytest

from mixstyle.pipeline.core.text import as_utf8, one_line, printable, shell_words

HOSTILE = [
    "plain [x] :smile: 音楽.mp3",
    os.fsdecode(b"caf\xe9"),
    "café",
    "caf\\xe9",
    "\x1b]0;title\x07\x1b[2J",
    "a\nb\rc\td",
    "a\\nb",
    "\x85\u2028\u2029",
    "\u202egnp.3pm",
    "\ud800 alone",
    "\x9b31m",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_printed_is_one_harmless_line(text: str) -> None:
    for told in (printable(text), one_line(text)):
        told.encode("utf-8")
        assert len(f"{told}.".splitlines()) == 1
        assert not set(told) & set("\x1b\x07\x9b\u202e\u2028\t")


def test_no_two_names_are_written_alike() -> None:
    assert len({one_line(text) for text in HOSTILE}) == len(HOSTILE)


def test_what_can_be_shown_stays() -> None:
    assert printable(HOSTILE[0]) == as_utf8(HOSTILE[0]) == HOSTILE[0]
    assert as_utf8("a\nb") == "a\nb"
    assert as_utf8(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert printable("a\x1b[31m\n") == r"a\x1b[31m\n"


BASH = shutil.which("bash")


@pytest.mark.skipif(BASH is None, reason="no bash here")
def test_a_shell_reads_the_words_of_a_command_as_they_are() -> None:
    """Also what a terminal is not shown as it is: the command can be copied from there."""
    words = [name for name in HOSTILE if name != "\ud800 alone"]  # no name of a file has half of a character
    words += ["it's", "\x1b'\\", "$HOME `id` \x07!", "", "-x\n"]
    line = shell_words(words)
    assert printable(line) == line
    done = subprocess.run([str(BASH), "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]
