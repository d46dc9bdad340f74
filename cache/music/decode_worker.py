"""The process that decodes music, so that a decoder's crash costs one track.

It is started as `python -m mixstyle.cache.music.decode_worker`.

It answers one request at a time on its standard input and output, until its input ends. A request is a line of JSON:
`{"files": {"": path} or {stem: path, ...}, "windows": null or [[start, stop], ...], "measure": false}`. Without windows
the reply is the header's content: `{"ok": true, "info": {...}}`. With windows, of which there may be none, it is
`{"ok": true, "shapes": [[..], ...], "there": [..], "cut": ["", ...], "note": "", "length": {...},
"content_hash": "...", "loudness": null}` and then the windows' samples, float32, one after the other; with `measure`
the loudness of the whole song is there. Where a file holds less than its header says, `there` tells how many frames
of a window it has, `cut` why, `note` what is missing of the file, and `length` how long it is as it can be decoded.
`{"ok": false, "reason": "..."}` tells a file that cannot be used. Anything else ends the process.
"""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mixstyle.cache.music.content_hash import content_hash
from mixstyle.cache.music.music_file import UnreadableMusic
from mixstyle.cache.music.reader import Blocks, decoded_length, probe, read_what_is_there
from mixstyle.cache.music.stem_folders import (
    MixBlocks,
    decoded_length_of_stems,
    hash_stems,
    probe_stems,
    read_stems_there,
)
from mixstyle.pipeline.core.stems import SAMPLE_RATE


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The reply to a request, and the arrays that follow it."""
    files = {stem: Path(path) for stem, path in request["files"].items()}
    stems = "" not in files
    try:
        if request["windows"] is None:
            return {"ok": True, "info": asdict(probe_stems(files) if stems else probe(files[""]))}, []
        windows = [(start, stop) for start, stop in request["windows"]]
        found = read_stems_there(files, windows) if stems else read_what_is_there(files[""], windows)
        loudness, note = _measured(files) if request.get("measure") else (None, "")
        length = decoded_length_of_stems(files) if stems else decoded_length(files[""])
        content = hash_stems(files) if stems else content_hash(files[""])
    except UnreadableMusic as error:
        return {"ok": False, "reason": str(error)}, []
    except OSError as error:
        return {"ok": False, "reason": f"cannot be read: {error.strerror or error}"}, []
    except MemoryError:
        return {"ok": False, "reason": "out of memory: too long to decode at once"}, []
    header = {
        "ok": True,
        "shapes": [list(window.audio.shape) for window in found],
        "there": [window.there for window in found],
        "cut": [window.reason for window in found],
        "note": note or next((window.reason for window in found if window.reason), length.lacks),
        "length": asdict(length),
        "content_hash": content,
        "loudness": loudness,
    }
    return header, [window.audio for window in found]


def _measured(files: dict[str, Path]) -> tuple[dict[str, float], str]:
    """The loudness of all of a file, or of the sum of its stems, and what is missing of it."""
    from mixstyle.pipeline.descriptors.song_loudness import SongMeter  # most workers measure nothing

    meter = SongMeter(SAMPLE_RATE)
    blocks = Blocks(files[""]) if "" in files else MixBlocks(files)
    for block in blocks:
        meter.add(block)
    return asdict(meter.result()), blocks.reason


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answers until `requests` ends."""
    for line in requests:
        header, arrays = answer(json.loads(line))
        replies.write(json.dumps(header).encode() + b"\n")
        for array in arrays:
            replies.write(np.ascontiguousarray(array, dtype="<f4").data)
        replies.flush()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which closes our input
    # Decoders print to the standard output: what they print must not get among the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, replies)
    except BrokenPipeError:
        os._exit(1)  # the parent is gone


if __name__ == "__main__":
    main()
