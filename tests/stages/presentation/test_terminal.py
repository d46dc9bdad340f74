"""How sentences are printed."""

import io

from rich.console import Console

from mixstyle.stages.presentation.terminal import print_lines


def test_a_sentence_is_one_line_however_narrow_the_output() -> None:
    out = io.StringIO()
    print_lines(Console(file=out, width=20), ["word " * 30 + "end", "[bold]b"])
    assert out.getvalue() == "word " * 30 + "end\n[bold]b\n"
