"""`mixstyle compare`: how two songs' mixes differ, in a sentence, as a distance, stem by stem and by descriptors."""

from pathlib import Path

from matplotlib import rc_context

from mixstyle.cache.storage.atomic import write_json, write_text
from mixstyle.cache.storage.writable import check_file
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.outputs import write_or_keep
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.presentation.figures import STYLE, save
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.compare.comparison import Comparison, comparison
from mixstyle.stages.songs.compare.png_page import draw
from mixstyle.stages.songs.compare.text import comparison_as_csv, comparison_as_json, show
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.index.stage import pairs_of_index
from mixstyle.stages.songs.names import distinct_names, refuse_clashes
from mixstyle.stages.songs.song_arguments import check_song


def compare(
    settings: Settings,
    first: Path,
    second: Path,
    png: Path | None = None,
    json_path: Path | None = None,
    csv_path: Path | None = None,
) -> Comparison:
    """Compares two songs (files, or folders of stems), prints tables, and writes the files that are asked for.

    Raises MixstyleError for songs that cannot be read, and, before any work, for files that cannot be written.
    """
    if png is not None and png.suffix.lower() != ".png":
        raise MixstyleError(f"{png}: should end in .png", code="bad-option")
    for path in (png, json_path, csv_path):
        if path is not None:
            check_file(path)
    refuse_clashes([png, json_path, csv_path], [first, second])
    for song in (first, second):
        check_song(song)
    names = distinct_names([first, second])
    with embedder_of(settings, measure=True) as embedder:
        with progress("compare", 2, "songs", brief=True) as bar:
            songs = []
            for path in (first, second):
                songs.append(embedder.song(path))
                bar.advance()
        pairs = pairs_of_index(settings, embedder)
        found = comparison(embedder, songs[0], songs[1], pairs, names=(names[0], names[1]))
    show(found)
    if json_path is not None:
        write_or_keep(json_path, lambda path: write_json(path, comparison_as_json(found)))
    if csv_path is not None:
        write_or_keep(csv_path, lambda path: write_text(path, comparison_as_csv(found)))
    if png is not None:
        with rc_context(STYLE):
            figure = draw(found)
            write_or_keep(png, lambda path: save(figure, path))
    for path in (png, json_path, csv_path):
        if path is not None:
            say(f"compare: wrote {path}")
    return found
