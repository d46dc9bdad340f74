"""The music that the settings name, and what to do where it is not there."""

from pathlib import Path

from mixstyle.cache.music.listing import SETTING, Listing, list_tracks, with_spot_checks
from mixstyle.cache.music.stems_among_music import songs_and_stems
from mixstyle.cache.stem_store.manifest import ordered
from mixstyle.cache.storage.urls import shown
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.common.commands import ANY_FOLDER, completed
from mixstyle.stages.common.progress import remark
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.separate import SeparateSettings

TRY = ("data/demo", 16)
"""Where songs to try a profile on are rendered, and how many."""
SPOT_CHECKS = 64
"""Tracks whose files' ends are compared on every run, to notice a folder that was filled again."""


def listed_music(settings: Settings, version: int) -> Listing:
    """The tracks of `separate.data_path`. version: of the rule which files are music.

    Raises MixstyleError as `list_tracks` does, and where there are stems alone, with a command that helps.
    """
    chosen, demo = settings.separate, settings.demo_songs
    try:
        listing = list_tracks(chosen.data_path, chosen.input, version)
    except MixstyleError as error:
        empty = error.code == "no-music" and chosen.input == "mixtures"  # without stems it may well be one of songs
        if error.code != "not-found" and not empty:
            raise
        if demo.songs and chosen.data_path.is_relative_to(demo.output_dir):
            raise MixstyleError(error.message, code=error.code, remedy=("demo-songs",)) from error
        # not every command that says this has the option --data-path
        own = completed(("separate", "--data-path", ANY_FOLDER), settings)
        named = f"{error.message}; for your own music, give its folder: {own}"
        folder, songs = TRY
        made = f"{folder}/{'stems' if chosen.input == 'stems' else 'songs'}"
        if _is_music(Path(made), chosen, version):
            raise MixstyleError(
                f"{named}; to use the rendered songs,",
                code=error.code,
                remedy=("separate", "--data-path", made),
            ) from error
        raise MixstyleError(
            f"{named}; to try rendered songs,",
            code=error.code,
            remedy=("demo-songs", folder, "--songs", str(songs)),
        ) from error
    if listing.found and not listing.found.songs:
        told = listing.found.told("mixtures are separated")
        raise MixstyleError(
            f"{SETTING}{shown(chosen.data_path)}: {told}; to take the stems as they are,",
            code="no-music",
            remedy=("separate", "--set", "separate.input=stems"),
        )
    return listing


def tell_of_stems(listing: Listing, settings: Settings) -> None:
    """Says what becomes of folders of stems among the mixtures to be separated.

    They are left out, but for those that a list names, and those of a folder that was begun when each of their files
    counted as a track.
    """
    chosen = settings.separate
    found = listing.found or songs_and_stems(listing.sizes)
    if chosen.input == "stems" or not found.stem_folders:
        return
    if listing.found:
        remark(f"separate: {shown(chosen.data_path)}: {found.told('left out; separate.input=stems takes stems')}")
        return
    first = (*found.mixed, *found.unmixed)[0]
    stems = counted(len(listing.sizes) - len(found.songs), "stem")
    listed = chosen.data_path.suffix.lower() in (".txt", ".csv") and chosen.data_path.is_file()
    again = completed(("separate", "--rebuild"), settings)
    why = "as the list names them" if listed else "as they were when this was begun"
    without = "" if listed else f"; to leave them out and make all again, run: {again}"
    remark(
        f"separate: warning: {shown(chosen.data_path)}: {counted(found.stem_folders, 'folder')} of stems ({first}"
        f"{', ...' if found.stem_folders > 1 else ''}), whose {stems} are separated as songs, {why}{without}"
    )


def spot_checked(listing: Listing, chosen: SeparateSettings) -> Listing:
    """The listing with the hashes of the ends of some tracks' files, the first ones of the manifest."""
    return with_spot_checks(listing, ordered(listing, chosen.seed)[:SPOT_CHECKS], chosen.input)


def _is_music(place: Path, chosen: SeparateSettings, version: int) -> bool:
    """Whether songs to try were rendered there."""
    if place == chosen.data_path:
        return False
    try:
        return bool(list_tracks(place, chosen.input, version).sizes)
    except MixstyleError:
        return False
