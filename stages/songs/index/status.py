"""What `mixstyle status` tells of the song index."""

import dataclasses
import functools
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mixstyle.cache.storage.provenance import SETTINGS, Provenance, differences
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.common.commands import told
from mixstyle.stages.common.stage_status import StageStatus, helping, not_opened
from mixstyle.stages.separate.rule_versions import rules_of_index
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import encoder_file, with_encoder
from mixstyle.stages.songs.embed.provenance import (
    INPUTS,
    embedding_fingerprint,
    embedding_models,
    index_provenance,
    keep_models,
    read_index,
)
from mixstyle.stages.songs.index.readable_index import readable_index
from mixstyle.stages.songs.song_arguments import folder_to_index

if TYPE_CHECKING:
    from mixstyle.cache.song_index.index import SongIndex


def index_status(settings: Settings) -> StageStatus:
    """Which songs are in the index, and whether they are those of its music folder as the settings embed them now."""
    try:
        with readable_index(settings) as here:
            return _status(here)
    except MixstyleError as error:
        return dataclasses.replace(not_opened("index", error, folder_to_index(settings)), optional=True)


def _status(settings: Settings) -> StageStatus:
    place = settings.embed.index_dir
    status = functools.partial(StageStatus, "index", optional=True)
    if not (place / SETTINGS).is_file():
        if settings.separate.input == "stems":
            return status("not needed", "separate.input is stems; an index takes mixtures")
        return status("not started", run=_command(folder_to_index(settings)))
    from mixstyle.cache.song_index.index import SongIndex  # brings pyarrow

    try:
        stored, root = read_index(place / SETTINGS)
        songs = SongIndex(place)
    except MixstyleError as error:
        # what is damaged is embedded again, and lost settings are written again where the songs tell what they are of
        again = ("--rebuild",) if error.code == "unknown-version" else ()
        return status(
            "damaged", problems=(told(error),), run=helping(error, _command(folder_to_index(settings), *again))
        )
    done = f"{counted(len(songs.usable), 'song')} of {root}"
    problems: list[str] = []
    if songs.failed:
        kinds = Counter(song.reason.partition(":")[0] for song in songs.failed)
        problems.append("songs left out: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    try:
        changed = differences(stored, _now(settings, root), told=INPUTS)
        new = _new(songs, root)
    except MixstyleError as error:
        state = "cannot be read" if error.code == "remote" else "done"
        return status(state, done, (*problems, f"could not be compared with what is there now: {told(error)}"))
    if changed:
        problems.append(f"made with other settings: {'; '.join(changed)}")
        return status("stale", done, tuple(problems), _command(root, "--rebuild"))
    if new:
        return status("partly done", done, (*problems, f"in the folder since: {new}"), _command(root))
    return status("done", done, tuple(problems))


def _now(settings: Settings, root: Path) -> Provenance:
    """What rows would follow from now. The encoder's and separator's hashes depend on no device: a GPU stays untouched.

    The two are loaded only where nobody has loaded these files before. Raises MixstyleError for files that are missing
    or wrong.
    """
    rules = rules_of_index(settings.embed.index_dir)
    settings = with_encoder(settings)
    models = embedding_models(settings)
    if models is not None and (known := models.facts()):
        return index_provenance(embedding_fingerprint(**known, options=settings.separate, rules=rules), root)
    import torch

    from mixstyle.cache.models.exports import load_encoder
    from mixstyle.stages.common.separators import configured_separator
    from mixstyle.stages.songs.embed.embedder import Embedder

    device, chosen = torch.device("cpu"), dataclasses.replace(settings.separate, precision="fp32")
    separator = configured_separator(chosen, device, to_separate=False)
    if separator is None:
        raise MixstyleError(
            "separate.input=stems: an index takes mixtures; give --set separate.input=mixtures", code="bad-setting"
        )
    encoder = load_encoder(encoder_file(settings), device)
    found = Embedder(encoder, separator, chosen, device, rules=rules).fingerprint
    keep_models(models, found)
    return index_provenance(found, root)


def _new(songs: "SongIndex", root: Path) -> str:
    """What is to do in the music folder, in words; empty where nothing is. Raises MixstyleError without music."""
    from mixstyle.stages.songs.index.indexed import files_of, is_as_indexed, is_kept

    new, changed, again, gone = "new", "changed", "that could not be read and now may be", "gone"
    files, counts = files_of(root), Counter[str]()
    for path, stat in files.items():
        if path not in songs:
            counts[new] += 1
        elif not is_kept(songs, root, path, stat):
            counts[again if is_as_indexed(songs, path, stat) else changed] += 1
    counts[gone] = sum(song.path not in files for song in (*songs.usable, *songs.failed))
    return ", ".join(f"{counts[what]} {what}" for what in (new, changed, again, gone) if counts[what])


def _command(music: Path | str, *words: str) -> str:
    return shlex.join(["mixstyle", "index", str(music), *words])
