"""`mixstyle embed`: the embeddings of songs, as Parquet or NumPy."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.cache.storage.atomic import atomic_write, write_bytes, write_json, write_text
from mixstyle.cache.storage.writable import check_file
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import as_utf8, counted, one_line
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.stages.common.notes import note
from mixstyle.stages.common.outputs import raise_for, write_or_keep
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.common.separators import configured_separator, other_separator
from mixstyle.stages.common.songs_left_out import LeftOut
from mixstyle.stages.presentation.values import as_csv, rounded
from mixstyle.stages.separate.cutting import cutting_rule
from mixstyle.stages.separate.rule_versions import PRESENT, SongRules
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import encoder_file
from mixstyle.stages.songs.cached_stems import cached_stems
from mixstyle.stages.songs.embed.embedder import EmbeddedSong, Embedder
from mixstyle.stages.songs.names import refuse_clashes
from mixstyle.stages.songs.song_arguments import given_songs

SUFFIXES = (".parquet", ".npy", ".csv", ".json")
VERSION = 1
"""Of the JSON file."""


def embedder_of(settings: Settings, *, rules: SongRules = PRESENT, measure: bool = False) -> Embedder:
    """The encoder and separator of a profile, which takes the stems that its `separate.stems_dir` holds.

    rules: those of the index, where there is one. measure: the loudness of whole songs too. Raises MixstyleError for
    files that are missing or wrong.
    """
    device = resolve_device(settings.embed.device)
    encoder = load_encoder(encoder_file(settings), device)
    chosen = settings.separate
    separator = configured_separator(chosen, device, for_encoder=True)
    if separator is None:
        raise MixstyleError(
            "separate.input=stems: songs to embed have to be separated; give --set separate.input=mixtures",
            code="bad-setting",
        )
    if told := other_separator(encoder, separator):
        note(told)
    cached = cached_stems(settings, separator, cutting_rule(chosen, rules.cutting))
    return Embedder(encoder, separator, chosen, device, rules=rules, measure=measure, cached=cached)


def embed(settings: Settings, songs: Sequence[Path], output: Path) -> int:
    """Embeds songs and writes them in the order given; how many there are.

    songs: files, folders of stems, or folders of music, which stand for the files in them. Parquet: a row a song with
    `path`, `duration_s`, `embedding` and a column for each descriptor (of the song). NumPy: [N, E] float32,
    and the paths in a text file beside it (`NAME.paths.txt`), a line each. CSV and JSON: the same as Parquet, the
    embedding as columns `e0`, `e1`, ... and as a list. Names that are no UTF-8 get backslashes, and so do line ends and
    other controls in the text file, where a backslash is doubled. Songs that cannot be read are told, left out, and
    end in MixstyleError once the others are written. Raises MixstyleError before any work for an output that cannot be
    written or is a song.
    """
    if output.suffix not in SUFFIXES:
        raise MixstyleError(f"{output}: should end in .parquet, .npy, .csv or .json", code="bad-option")
    if not songs:
        raise MixstyleError("no songs are given", code="not-found")
    songs = given_songs(songs)
    check_file(output)
    refuse_clashes([output], songs)
    rows: list[tuple[Path, EmbeddedSong]] = []
    failed: list[MixstyleError] = []
    left_out = LeftOut("embed")
    with progress("embed", len(songs), "songs") as bar:
        embedder = embedder_of(settings)
        for path, found in zip(songs, embedder.songs(songs, settings.embed.workers), strict=True):
            if isinstance(found, UnreadableMusic):
                failed.append(MixstyleError(f"{path}: {found}", code="no-music"))
                left_out.tell(path, str(found))
            else:
                left_out.note(path, found.note)
                rows.append((path, found))
            bar.advance()
    left_out.end()
    if rows:
        write_or_keep(output, lambda path: _write(path, rows))
        say(f"embed: wrote {output}: {counted(len(rows), 'song')}, {embedder.dimensions} dimensions")
    raise_for(failed, "embed")
    return len(rows)


def _write(output: Path, rows: Sequence[tuple[Path, EmbeddedSong]]) -> None:
    embeddings = np.stack([song.embedding.numpy() for _, song in rows])
    if output.suffix == ".npy":
        buffer = io.BytesIO()  # into a file, NumPy writes by C: a full disk is then no error that says so
        np.save(buffer, embeddings)
        write_bytes(output, buffer.getvalue())
        # a name of its own: songs.txt may be the user's list
        write_text(output.with_suffix(".paths.txt"), "".join(f"{one_line(str(path))}\n" for path, _ in rows))
        return
    if output.suffix == ".json":
        write_json(output, _as_json(rows))
        return
    if output.suffix == ".csv":
        write_text(output, _as_csv(rows))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = np.stack([song.values for _, song in rows])
    columns: dict[str, pa.Array] = {
        "path": pa.array([as_utf8(str(path)) for path, _ in rows], pa.string()),
        "duration_s": pa.array([song.duration_s for _, song in rows], pa.float64()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1]),
    }
    for column, descriptor in enumerate(DESCRIPTORS):
        columns[descriptor.name] = pa.array(values[:, column], pa.float32())
    with atomic_write(output) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def _as_json(rows: Sequence[tuple[Path, EmbeddedSong]]) -> dict[str, Any]:
    return {
        "version": VERSION,
        "songs": [
            {
                "path": as_utf8(str(path)),
                "duration_s": song.duration_s,
                "embedding": [rounded(value) for value in song.embedding.tolist()],
                "descriptors": {d.name: rounded(v) for d, v in zip(DESCRIPTORS, song.values, strict=True)},
            }
            for path, song in rows
        ],
    }


def _as_csv(rows: Sequence[tuple[Path, EmbeddedSong]]) -> str:
    places = [f"e{place}" for place in range(len(rows[0][1].embedding))]
    head = ["path", "duration_s", *places, *(d.name for d in DESCRIPTORS)]
    return as_csv(
        head,
        (
            (as_utf8(str(path)), song.duration_s, *map(rounded, (*song.embedding.tolist(), *song.values)))
            for path, song in rows
        ),
    )
