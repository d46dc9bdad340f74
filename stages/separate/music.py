"""The music that the settings name, and what to do where it is not there."""

from pathlib import Path

from mixstyle.cache.music.listing import Listing, list_tracks, with_spot_checks
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

    Raises MixstyleError as `list_tracks` does, with a command that helps.
    """
    chosen, demo = settings.separate, settings.demo_songs
    try:
        return list_tracks(chosen.data_path, chosen.input, version)
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


def tell_of_stems(listing: Listing, chosen: SeparateSettings) -> None:
    """Warns where folders of stems are among the mixtures to be separated: each of their files counts as a track."""
    found = songs_and_stems(listing.sizes) if chosen.input == "mixtures" else None
    if found and found.stem_folders:
        first = (*found.mixed, *found.unmixed)[0]
        stems = len(listing.sizes) - len(found.songs)
        remark(
            f"separate: warning: {shown(chosen.data_path)}: {counted(found.stem_folders, 'folder')} of stems ({first}"
            f"{', ...' if found.stem_folders > 1 else ''}), whose {counted(stems, 'stem')} are separated as songs; to "
            "take the stems as they are: --set separate.input=stems"
        )


def spot_checked(listing: Listing, chosen: SeparateSettings) -> Listing:
    """The listing with the hashes of the ends of some tracks' files, the first ones of the manifest."""
    return with_spot_checks(listing, ordered(listing, chosen.seed)[:SPOT_CHECKS], chosen.input)


def _is_music(place: Path, chosen: SeparateSettings, version: int) -> bool:
    """Whether songs to try were rendered there."""
    if place == chosen.data_path:
        return False
    try:
        list_tracks(place, chosen.input, version)
    except MixstyleError:
        return False
    return True
