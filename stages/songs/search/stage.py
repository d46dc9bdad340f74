"""`mixstyle search`: which songs of an index are mixed like this one, and why."""

from pathlib import Path
from typing import TYPE_CHECKING

from mixstyle.cache.song_index.index import SongIndex
from mixstyle.cache.storage.atomic import write_json, write_text
from mixstyle.cache.storage.writable import check_file
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.limits import COUNT
from mixstyle.stages.common.outputs import write_or_keep
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.separate.rule_versions import rules_of_index
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import with_encoder
from mixstyle.stages.songs.embed.provenance import embedding_models, keep_models
from mixstyle.stages.songs.index.indexed import known_song
from mixstyle.stages.songs.index.readable_index import readable_index
from mixstyle.stages.songs.names import refuse_clashes
from mixstyle.stages.songs.search.by_stem import check_stem
from mixstyle.stages.songs.song_arguments import check_song

if TYPE_CHECKING:
    pass  # brings torch
from mixstyle.stages.songs.search.matches import Match, Query, matches
from mixstyle.stages.songs.search.text import matches_as_csv, matches_as_json, show


def search(
    settings: Settings,
    song: Path,
    k: int = 10,
    json_path: Path | None = None,
    csv_path: Path | None = None,
    stem: str = "",
) -> list[Match]:
    """The k songs of the index that are mixed most like a song, nearest first; prints them as a table.

    json_path, csv_path: the same as files. stem: ranks by that stem's descriptors instead (`by_stem`). The song
    itself, where the index holds it, is left out. Raises MixstyleError for a song that cannot be read, and, before any
    work, for files that cannot be written.
    """
    check_k(k)
    if stem:
        check_stem(stem)
    for path in (json_path, csv_path):
        if path is not None:
            check_file(path)
    refuse_clashes([json_path, csv_path], [song])
    check_song(song)
    with readable_index(settings) as here:
        query, songs, root = known_song(here, song) or _embedded(here, song)
        found = matches(songs, query, k, without=song, root=root, stem=stem)
    show(song, query, found, len(songs.usable), stem)
    if json_path is not None:
        write_or_keep(json_path, lambda path: write_json(path, matches_as_json(query, found, len(songs.usable), stem)))
    if csv_path is not None:
        write_or_keep(csv_path, lambda path: write_text(path, matches_as_csv(found, stem)))
    for path in (json_path, csv_path):
        if path is not None:
            say(f"search: wrote {path}")
    return found


def _embedded(settings: Settings, song: Path) -> tuple[Query, SongIndex, Path]:
    """A song as the networks have it, the index, and its music folder."""
    from mixstyle.stages.songs.embed.stage import embedder_of  # brings torch
    from mixstyle.stages.songs.index.stage import check_index, open_index

    check_index(settings)  # before the networks are loaded
    settings = with_encoder(settings)
    models = embedding_models(settings)
    with embedder_of(settings, rules=rules_of_index(settings.embed.index_dir), measure=True) as embedder:
        keep_models(models, embedder.fingerprint)
        songs, root = open_index(settings, embedder)
        with progress("search", 1, "songs", brief=True) as bar:
            found = embedder.song(song)
            bar.advance()
    return found, songs, root


def check_k(k: int) -> None:
    """Raises MixstyleError (bad-option) for a number of songs below 1."""
    if not 1 <= k <= COUNT:
        raise MixstyleError(f"-k {k}: should be 1 to {COUNT}", code="bad-option")
