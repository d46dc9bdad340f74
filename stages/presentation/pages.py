"""Where the pages of a profile's commands lie, so that they can link to one another."""

from pathlib import Path

from mixstyle.stages.presentation.html import links_from
from mixstyle.stages.settings.profile import Settings

REPORT, EVALUATION = "report", "evaluation"
NAMES = {REPORT: "report.html", EVALUATION: "evaluation.html"}


def page_paths(settings: Settings) -> dict[str, Path]:
    """The pages by name, whether they are there or not."""
    folders = {REPORT: settings.report.report_dir, EVALUATION: settings.evaluate.evaluate_dir}
    return {name: folder / NAMES[name] for name, folder in folders.items()}


def links_of(settings: Settings, own: str) -> list[tuple[str, str]]:
    """Links of a page to the others that are there."""
    paths = page_paths(settings)
    return links_from(paths[own], {name: path for name, path in paths.items() if name != own})
