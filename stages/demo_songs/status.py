"""What `mixstyle status` tells of the rendered songs."""

import functools

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.common.stage_status import StageStatus
from mixstyle.stages.settings.profile import Settings

OWN_MUSIC = "the profile brings its own music"
VERSIONS = {"renderer": "the renderer's version has changed", "soundfont_sha256": "the instruments have changed"}


def demo_songs_status(settings: Settings) -> StageStatus:
    """How many of the songs are there, and whether they are those that the settings ask for.

    They are needed where `separate` takes its music from their folder, or `evaluate` its rendered songs.
    """
    chosen, folder = settings.demo_songs, settings.demo_songs.output_dir
    read = [path.absolute() for path in (settings.separate.data_path, settings.evaluate.rendered_dir) if path]
    needed = chosen.songs > 0 and any(folder.absolute() in (path, *path.parents) for path in read)
    status = functools.partial(StageStatus, "demo-songs", optional=not needed)
    rebuild = "mixstyle demo-songs --rebuild"
    if not (folder / "songs.json").exists() and not (folder / "songs").is_dir():
        return status("not started", run="mixstyle demo-songs") if needed else status("not needed", OWN_MUSIC)
    from mixstyle.cache.storage.provenance import differences
    from mixstyle.stages.demo_songs.listing import (
        is_whole,
        our_entries,
        provenance_of,
        read_listing,
        stored_provenance,
        stored_settings,
    )

    if not (folder / "songs.json").exists():
        if any(our_entries(folder)):
            return status("damaged", problems=(f"{folder}: holds songs but no songs.json",), run=rebuild)
        return status("not started", run="mixstyle demo-songs") if needed else status("not needed", OWN_MUSIC)
    try:
        listing = read_listing(folder) or {}
        changed = differences(
            stored_provenance(listing),
            provenance_of(stored_settings(chosen.seed, chosen.duration_s, chosen.stems)),
            told=VERSIONS,
        )
        songs = {entry["index"]: is_whole(folder, entry) for entry in listing["songs"]}
    except MixstyleError as error:
        return status("damaged", problems=(error.message.rpartition(";")[0],), run=rebuild)
    except (KeyError, TypeError, AttributeError):
        return status("damaged", problems=(f"{folder / 'songs.json'} is not a list of songs",), run=rebuild)
    if any(index >= chosen.songs for index in songs):
        changed.append(f"demo_songs.songs: {max(songs) + 1} -> {chosen.songs}")
    done = f"{counted(sum(songs.values()), 'song', of=chosen.songs)} in {folder}"
    if changed:
        return status("stale", done, (f"made with other settings: {'; '.join(changed)}",), rebuild)
    if sum(songs.values()) < chosen.songs:
        return status("partly done", done, run="mixstyle demo-songs")
    return status("done", done)
