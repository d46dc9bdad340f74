"""The tables that an evaluation prints."""

from typing import Any

from rich.console import Console
from rich.table import Table

from mixstyle.stages.evaluate.metrics import means
from mixstyle.stages.evaluate.tasks import OTHER_STYLE


def show(metrics: dict[str, Any]) -> None:
    """Prints a table for each question that was asked."""
    console = Console(width=None if Console().is_terminal else 150)
    for table in (_same_chain(metrics), _others(metrics), _robustness(metrics), _fingerprint(metrics)):
        if table is not None:
            console.print(table)


def _table(first: str, title: str, columns: list[str]) -> Table:
    table = Table(first, title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _same_chain(metrics: dict[str, Any]) -> Table | None:
    if "same_chain" not in metrics:
        return None
    numbers = list(metrics["same_chain"])
    table = _table("R@1, %", "same chain, different content, by number of effects", numbers)
    for name in metrics["rows"]:
        table.add_row(name, *(percent(metrics["same_chain"][n][name], "r1") for n in numbers))
    first = metrics["rows"][0]
    table.add_row("chance", *(f"{100 * metrics['same_chain'][n][first]['chance_r1']:.1f}" for n in numbers))
    return table


def _others(metrics: dict[str, Any]) -> Table | None:
    columns = {
        "content-hard R@1, %": ("content_hard", lambda e: percent(e, "r1"), "chance_r1"),
        "song probe, %": ("leakage", lambda e: percent(e, "accuracy"), "chance"),
        "song top-1, %": ("song_retrieval", lambda e: percent(e, "r1"), "chance_r1"),
        "presets: nearest, %": ("presets", lambda e: percent(e, "nearest_accuracy"), "chance"),
        "probe, %": ("presets", lambda e: percent(e, "probe_accuracy"), "chance"),
        "parameters: rho": ("parameters", lambda e: f"{means(e, 'spearman'):.2f}", None),
        "R2": ("parameters", lambda e: f"{means(e, 'r2'):.2f}", None),
    }
    asked = {title: column for title, column in columns.items() if column[0] in metrics}
    if not asked:
        return None
    table = _table("", "other questions (song probe and top-1: lower knows less of the song)", list(asked))
    for name in metrics["rows"]:
        table.add_row(name, *(told(metrics[part][name]) for part, told, _ in asked.values()))
    first = metrics["rows"][0]
    chances = [f"{100 * metrics[part][first][chance]:.1f}" if chance else "0.00" for part, _, chance in asked.values()]
    table.add_row("chance", *chances)
    return table


def _robustness(metrics: dict[str, Any]) -> Table | None:
    if "robustness" not in metrics:
        return None
    changes = list(metrics["robustness"][metrics["rows"][0]])
    title = "robustness: cosine to the clip as it is, and songs for which it is above that of another style"
    table = _table("", title, changes)
    for name in metrics["rows"]:
        entries = metrics["robustness"][name]
        cells = [
            f"{entries[c]['cosine']:.3f}"
            + ("" if c == OTHER_STYLE else f" {100 * entries[c]['nearer_than_style']:.0f}%")
            for c in changes
        ]
        table.add_row(name, *cells)
    return table


def _fingerprint(metrics: dict[str, Any]) -> Table | None:
    if "fingerprint" not in metrics:
        return None
    kinds = {"true": "true stems", "separated": "separated stems", "true_to_separated": "true to separated"}
    title = "the separator's fingerprint: R@1 on rendered songs, %, and the cosine of one mixture's two embeddings"
    table = _table("", title, [*kinds.values(), "same mix"])
    for name in metrics["rows"]:
        entry = metrics["fingerprint"][name]
        table.add_row(name, *(percent(entry[kind], "r1") for kind in kinds), f"{entry['same_mix_cosine']:.3f}")
    return table


def percent(entry: dict[str, float], name: str) -> str:
    """A share and its interval, in percent."""
    return f"{100 * entry[name]:.1f} [{100 * entry[f'{name}_low']:.0f}, {100 * entry[f'{name}_high']:.0f}]"
