"""Songs of `index` embedded on a Ray cluster; the command that was given is the driver, and writes the index."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mixstyle.cache.song_index.index import IndexedSong
from mixstyle.cache.song_index.place import MACHINES
from mixstyle.cache.storage.place import Place
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cluster.actor import request_of
from mixstyle.stages.cluster.mixed import note_mixed_at
from mixstyle.stages.cluster.ray_pool import RayOptions, made_on
from mixstyle.stages.separate.machine_kind import machine_kind
from mixstyle.stages.separate.provenance import MACHINE
from mixstyle.stages.separate.rule_versions import SongRules
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.embedder import Embedder

SONGS_AT_ONCE = 16
"""Songs of a part: enough that the network's batches are full, and few enough to lose little with an actor."""


def embedded_on_ray(
    options: RayOptions,
    settings: Settings,
    embedder: Embedder,
    root: Path,
    wanted: list[str],
    files: dict[str, tuple[int, int]],
    rules: SongRules,
    place: Place,
) -> Iterator[tuple[IndexedSong, str]]:
    """Songs as the index has them, and what is to be noted of each, as they come.

    place: of the index. embedder: of this machine; what others embed by has to be the same. Raises MixstyleError
    ("misfit") where it is not.
    """
    if not wanted:
        return
    on_gpu, chosen = embedder.device.type == "cuda", settings.separate

    def request(device: str, threads: int) -> Mapping[str, Any]:
        own = replace(settings, embed=replace(settings.embed, device=device), separate=replace(chosen, threads=threads))
        made = {"root": str(root), "rules": asdict(rules), MACHINE: machine_kind(embedder.device)}
        return request_of("mixstyle.stages.songs.index.rows:SongMaker", own, made)

    bunches = [wanted[place : place + SONGS_AT_ONCE] for place in range(0, len(wanted), SONGS_AT_ONCE)]
    parts = [tuple((path, *files[path]) for path in bunch) for bunch in bunches]
    for _, answer in made_on(options, "index", parts, request, on_gpu=on_gpu, threads=chosen.threads):
        if answer["fingerprint"] != embedder.fingerprint:
            raise MixstyleError(
                "index: a machine of the cluster has another encoder or separator under the same names", code="misfit"
            )
        if MACHINE in answer:
            note_mixed_at(place, MACHINES, {song.path: answer[MACHINE] for song, _ in answer["songs"]})
        yield from answer["songs"]
