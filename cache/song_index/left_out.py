"""`failures.csv` of an index: songs without an embedding, a row each (`path, reason`). It follows from the parts."""

import csv
import io
from collections.abc import Sequence

from mixstyle.cache.song_index.index import IndexedSong
from mixstyle.pipeline.core.text import as_utf8


def left_out_csv(failed: Sequence[IndexedSong]) -> str:
    """The file's text; empty where no song failed, and there is no file."""
    if not failed:
        return ""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", "reason"])
    writer.writerows([as_utf8(song.path), as_utf8(song.reason)] for song in failed)
    return text.getvalue()
