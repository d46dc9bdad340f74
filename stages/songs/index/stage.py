"""`mixstyle index`: a folder of songs embedded into an index, what is new or has changed alone."""

import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.song_index.index import IndexedSong, SongIndex, all_made_with
from mixstyle.cache.song_index.left_out import left_out_csv
from mixstyle.cache.song_index.nearest import NEAREST, RECALL_NEAREST, RECALL_SONGS, STATE
from mixstyle.cache.song_index.place import LEFT_OUT, MACHINES, index_place
from mixstyle.cache.storage.atomic import write_text
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.provenance import SETTINGS, guard, read_provenance
from mixstyle.cache.storage.urls import not_there
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.cluster.mixed import forget_mixed_at
from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.common.commands import ANY_FOLDER
from mixstyle.stages.common.progress import progress, remark, say
from mixstyle.stages.common.songs_left_out import LeftOut
from mixstyle.stages.separate.rule_versions import PRESENT, rules_of_index
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import with_encoder
from mixstyle.stages.songs.embed.embedder import Embedder
from mixstyle.stages.songs.embed.provenance import INPUTS, embedding_models, index_provenance, keep_models, read_index
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.index.indexed import files_of, is_kept
from mixstyle.stages.songs.index.on_ray import embedded_on_ray
from mixstyle.stages.songs.index.readable_index import in_folder, place_of_index, readable_index
from mixstyle.stages.songs.index.rows import row_of_song
from mixstyle.stages.songs.song_arguments import folder_to_index, music_of, stem_folders_passed_over

KEEP_S = 60.0
"""Songs are written down this often: what a killed run loses."""


def index(settings: Settings, folder: Path, rebuild: bool = False, ray: RayOptions | None = None) -> SongIndex:
    """Embeds a folder's songs into the index: those that are new or have changed; songs that are gone are forgotten.

    ray: a cluster whose processes embed them. Raises MixstyleError where there is no music, or none that can be used,
    and where the index holds songs of another folder or was made with another encoder or separator.
    """
    if folder.is_file():
        raise MixstyleError(
            f"{folder}: is a file, and an index is made from a folder; give the folder of the file", code="bad-option"
        )
    if not folder.is_dir():
        raise not_there(folder, "folder")
    place = place_of_index(settings)
    try:
        place.refresh()
        with place.told():
            return _indexed(in_folder(settings, place), place, folder, rebuild, ray)
    except MixstyleError as error:
        if error.remedy or not (error.code == "in-use" or (error.code == "not-found" and place.is_remote)):
            raise
        raise MixstyleError(
            f"{place.name}: another process writes this index at the same time ({error.message}); when it has ended,",
            code="in-use",
            remedy=("index", str(folder), "--index", place.name),
        ) from error


def _indexed(settings: Settings, place: Place, folder: Path, rebuild: bool, ray: RayOptions | None) -> SongIndex:
    """The same, by settings that name the folder of the place."""
    here, root = place.folder, folder.resolve()
    check_folder(here)
    begun = (here / SETTINGS).exists()
    music = music_of(root)
    files = files_of(root, music)
    rules = PRESENT if rebuild else rules_of_index(here)
    local = with_encoder(settings)  # other machines fetch their own
    models = embedding_models(local)
    # the lock last: models that are refused leave no folder behind
    with embedder_of(local, rules=rules, measure=True) as embedder, locked(here, "mixstyle index"):
        outputs = [*place.outputs(("songs-", LEFT_OUT)), here / NEAREST, here / STATE]
        settle = functools.partial(
            guard,
            here / SETTINGS,
            index_provenance(embedder.fingerprint, root),
            remove=outputs,
            told=INPUTS,
            remedy=("index", str(folder), "--rebuild"),
            fitting_too=True,
            vouched=functools.partial(all_made_with, here),
        )
        made_with = settle(rebuild=rebuild)
        if rebuild:
            forget_mixed_at(place, MACHINES)
        if begun:
            place.keep(SETTINGS)
        elif not place.keep_first(SETTINGS):  # another machine began it at the same moment
            made_with = settle(rebuild=False)
        keep_models(models, embedder.fingerprint)
        songs = SongIndex(
            here,
            lambda error: remark(f"index: {error.message}; its songs are embedded again"),
            place,
            made_with=made_with.fingerprint,
        )
        wanted = [path for path, stat in files.items() if not is_kept(songs, root, path, stat)]
        if stems := stem_folders_passed_over(root, music):
            remark(f"index: {folder}: {stems}")
        remark(f"index: {counted(len(files), 'song')} in {folder}, {len(wanted)} of them new or changed")
        left_out = LeftOut("index")
        if ray is None:
            made = _embedded(embedder, root, wanted, files, settings.embed.workers)
        else:
            made = embedded_on_ray(ray, settings, embedder, root, wanted, files, rules, place)
        _add(songs, made, len(wanted), left_out)
        songs.keep(files)
        recall = songs.write_nearest()
        with place.turn():
            _write_left_out(place, songs.failed)
    for song in songs.failed:
        left_out.tell(song.path, song.reason)
    left_out.end(f"{place.name}/{LEFT_OUT}")
    say(f"index: {counted(len(songs.usable), 'song')} in {place.name}")
    if recall < 1:
        say(
            f"index: with so many songs, search is approximate: it finds {recall:.1%} of the {RECALL_NEAREST} nearest "
            f"(measured on {RECALL_SONGS} songs)"
        )
    if not songs.usable:
        raise MixstyleError(f"{folder}: none of its {len(files)} music files can be used", code="no-music")
    return songs


def open_index(settings: Settings, embedder: Embedder | None = None) -> tuple[SongIndex, Path]:
    """The index and its music folder. Raises MixstyleError where there is none, or the embedder did not make it."""
    return opened_index(settings.embed.index_dir, embedder, _made_by(settings))


def check_index(settings: Settings) -> None:
    """Raises MixstyleError (step-missing) where the settings' folder holds no index."""
    _check_there(settings.embed.index_dir, _made_by(settings))


def _made_by(settings: Settings) -> tuple[str, ...]:
    """The command that makes the settings' index."""
    return "index", folder_to_index(settings), "--index", str(settings.embed.index_dir)


def _check_there(place: Path, first: Sequence[str]) -> None:
    if not (place / SETTINGS).is_file():
        hint = f"; with your music folder in place of {ANY_FOLDER}," if ANY_FOLDER in first else ""
        raise MixstyleError(f"{place}: no index there{hint}", code="step-missing", remedy=first)


def _music_of(place: Path) -> Path:
    """The music folder of an index. Raises MixstyleError where its settings do not tell it."""
    again = ("index", ANY_FOLDER, "--index", str(place))  # writes them again, where the songs tell what they are of
    try:
        return read_index(place / SETTINGS)[1]
    except MixstyleError as error:
        told = f"{error.message}; with its music folder in place of {ANY_FOLDER},"
        raise MixstyleError(told, code=error.code, remedy=again) from error


def opened_index(where: Path, embedder: Embedder | None, first: Sequence[str] = ()) -> tuple[SongIndex, Path]:
    """As `open_index`, of a folder or a URL. first: the command that makes an index; without it, one of any folder."""
    kept = index_place(where)
    if kept.is_remote:
        kept.refresh()
        with kept.told():
            return opened_index(kept.folder, embedder, first)
    place, words = kept.folder, embedder.words if embedder is not None else ()
    _check_there(place, first or ("index", ANY_FOLDER, "--index", str(place), *words))
    root = _music_of(place)
    if embedder is not None:
        again = ("index", str(root), "--rebuild", "--index", str(place), *words)
        guard(place / SETTINGS, index_provenance(embedder.fingerprint, root), rebuild=False, told=INPUTS, remedy=again)
    songs = SongIndex(place)
    if not songs.usable:
        raise MixstyleError(
            f"{place}: holds no songs", code="no-music", remedy=("index", str(root), "--index", str(place), *words)
        )
    return songs, root


def pairs_of_index(settings: Settings, embedder: Embedder) -> NDArray[np.float32] | None:
    """Cosines of the index's pairs of songs, ascending; None where there is no index of this encoder and separator."""
    try:
        with readable_index(settings) as here:
            place = here.embed.index_dir
            made_from = read_provenance(place / SETTINGS).made_from if (place / SETTINGS).is_file() else {}
            if any(made_from.get(name) != embedder.fingerprint[name] for name in ("encoder", "separator")):
                return None
            return SongIndex(place).pair_cosines()
    except MixstyleError:
        return None  # told by the commands that are about the index


def _embedded(
    embedder: Embedder, root: Path, wanted: list[str], files: dict[str, tuple[int, int]], workers: int
) -> Iterator[tuple[IndexedSong, str]]:
    """The songs in their order, as the index stores them, each with its note."""
    made = embedder.songs([root / path for path in wanted], workers)
    for path, found in zip(wanted, made, strict=True):
        yield row_of_song(path, files[path], found), getattr(found, "note", "")


def _add(songs: SongIndex, made: Iterable[tuple[IndexedSong, str]], count: int, left_out: LeftOut) -> None:
    waiting: list[IndexedSong] = []
    written = time.monotonic()
    with progress("index", count, "songs") as bar:
        try:
            for song, note in made:
                waiting.append(song)
                if not song.reason:
                    left_out.note(song.path, note)
                bar.advance()
                if time.monotonic() - written >= KEEP_S:
                    songs.add(waiting)
                    waiting, written = [], time.monotonic()
        finally:
            songs.add(waiting)  # also what Ctrl-C cuts short


def _write_left_out(place: Place, failed: Sequence[IndexedSong]) -> None:
    """The songs that were left out, a row each; no file where there are none."""
    text = left_out_csv(failed)
    if not text:
        place.take_away(LEFT_OUT)
        return
    write_text(place.folder / LEFT_OUT, text)
    place.keep(LEFT_OUT)
