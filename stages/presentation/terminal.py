"""Where commands print sentences and tables: a terminal of any width, or a file or pipe, which has none."""

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from mixstyle.pipeline.core.text import printable

PLAIN_WIDTH = 110
"""Of tables where there is no terminal, in characters: a value a stem."""
WIDE_WIDTH = 150
"""The same, of tables with three values a stem."""


def output(plain_width: int = PLAIN_WIDTH) -> Console:
    """The standard output. plain_width: of tables where it is no terminal, in characters."""
    return Console(width=None if sys.stdout.isatty() else plain_width, highlight=False)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Prints sentences, each on one line however long, as logs need them."""
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)
