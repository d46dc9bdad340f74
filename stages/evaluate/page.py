"""The page of an evaluation: one HTML file with its figures, each of which can be used alone in a paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mixstyle.cache.storage.atomic import write_text
from mixstyle.stages.evaluate.tasks.registry import TASKS
from mixstyle.stages.evaluate.tasks.task import Embeddings, Metrics, PageInput
from mixstyle.stages.presentation.estimates import evidence_note
from mixstyle.stages.presentation.html import page
from mixstyle.stages.settings.evaluate import EvaluateSettings


def write_page(
    path: Path,
    metrics: Metrics,
    embeddings: Mapping[str, Mapping[str, Embeddings]],
    options: EvaluateSettings,
    links: Sequence[tuple[str, str]],
) -> None:
    """Writes the page, and beside it its figures.

    embeddings: by task and row, of the tasks that keep them. links: to other pages, names and
    addresses.
    """
    sections = [
        task.section(PageInput(path.parent, metrics, options, embeddings.get(task.name, {})))
        for task in TASKS.values()
        if task.key in metrics
    ]
    lead = (
        f"{metrics['songs']} held-out songs. Values are percent with 95% intervals from resampling songs, unless "
        "said otherwise."
    )
    note = evidence_note(metrics["songs"])
    write_text(path, page("What the embedding knows", f"{lead} {note}".strip(), sections, links))
