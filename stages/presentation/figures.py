"""How every figure looks and is saved: colours, text, PNG files that are equal for equal pictures.

Colours are Okabe and Ito's, which people with colour blindness tell apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixstyle.cache.storage.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 144
STEM_COLOURS = {"vocals": "#D55E00", "bass": "#0072B2", "drums": "#009E73", "other": "#CC79A7"}
SONG_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
SONG_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, FAINT = "#666666", "#D0D0D0"

STYLE: Any = {  # a dict that matplotlib's stubs want keyed by literals
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
}


@contextmanager
def saved_figure(path: Path, width_in: float, height_in: float, **style: Any) -> Iterator["Figure"]:
    """A new figure in the house's style, which is saved at the end. style: what differs from `STYLE`.

    matplotlib is imported here, where a figure is drawn: it takes long, and much that draws figures is also asked for
    its version alone, by `mixstyle status`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE | style):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        yield figure
        save(figure, path)


def save(figure: "Figure", path: Path) -> None:
    """Writes the figure as PNG, whole or not at all."""
    with atomic_write(path) as temporary:
        # Without the version of matplotlib inside, equal pictures are equal files.
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def label(text: str, limit: int = 30) -> str:
    """Text that matplotlib shows as it is: no formulas from `$`, no missing glyphs, shortened in the middle."""
    known = _glyphs()
    text = "".join(c if ord(c) in known else "?" for c in text)
    if len(text) > limit:
        text = f"{text[: limit - 9]}…{text[-8:]}"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # a leading underscore hides a legend's entry


@lru_cache
def _glyphs() -> frozenset[int]:
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    font = FT2Font(font_manager.findfont("DejaVu Sans"))
    return frozenset(font.get_charmap())
