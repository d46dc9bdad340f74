"""Task `robustness`: what codecs, level and time do to an embedding, beside what another effect chain does.

The mixture is changed and separated again; a change should move the embedding less than another chain does.
"""

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pedalboard.io import AudioFile

from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.stages.evaluate.tasks.metrics import comparable, estimate
from mixstyle.stages.evaluate.tasks.page_parts import colours_of
from mixstyle.stages.evaluate.tasks.task import (
    Audio,
    Context,
    Embeddings,
    Item,
    Items,
    Metrics,
    PageInput,
    Part,
    Separate,
    Task,
    TextTable,
)
from mixstyle.stages.presentation.estimates import percent_cell
from mixstyle.stages.presentation.figures import GREY, saved_figure
from mixstyle.stages.presentation.html import PageFigure, Section, Table

KEY = "robustness"
SHIFT_S = 0.5
MOST_SONGS = 24
"""Songs that are changed and separated again, at most: their stems are held in memory."""
AS_IT_IS, LATER, OTHER_CHAIN = "as it is", f"{SHIFT_S:g} s later", "another chain"


def _mp3(kbit_s: int) -> Callable[[Audio], Audio]:
    def through(mix: Audio) -> Audio:
        # A file at full scale would clip: the codec gets the headroom that it needs, and gives it back.
        gain = np.float32(min(1.0, 0.7 / max(float(np.abs(mix).max()), 1e-9)))
        file = io.BytesIO()
        with AudioFile(file, "w", samplerate=SAMPLE_RATE, num_channels=2, format="mp3", quality=str(kbit_s)) as writer:
            writer.write(mix * gain)
        file.seek(0)
        with AudioFile(file) as reader:
            decoded = reader.read(reader.frames)
        return _aligned(decoded, mix * gain) / gain

    return through


def _aligned(decoded: Audio, before: Audio) -> Audio:
    """What a codec made of `before`, without the delay that it added; as long as it was."""
    length = before.shape[1]
    spectrum = np.fft.rfft(decoded.sum(0), 2 * length) * np.conj(np.fft.rfft(before.sum(0), 2 * length))
    delay = int(np.argmax(np.fft.irfft(spectrum)[: length // 2]))
    out = np.zeros_like(before)
    kept = decoded[:, delay : delay + length]
    out[:, : kept.shape[1]] = kept
    return out


def _resampled(mix: Audio) -> Audio:
    from scipy.signal import resample_poly

    up = resample_poly(mix, 160, 147, axis=1)
    return resample_poly(up, 147, 160, axis=1)[:, : mix.shape[1]].astype(np.float32)


CHANGES: Mapping[str, Callable[[Audio], Audio]] = {
    "MP3 at 128 kbit/s": _mp3(128),
    "MP3 at 320 kbit/s": _mp3(320),
    "48 kHz and back": _resampled,
    "+6 dB": lambda mix: mix * np.float32(10 ** (6 / 20)),
    "-6 dB": lambda mix: mix * np.float32(10 ** (-6 / 20)),
    "polarity": lambda mix: -mix,
}
"""What should not move an embedding much, done to a mixture [2, T]."""
CONDITIONS = (AS_IT_IS, *CHANGES, LATER, OTHER_CHAIN)


def robustness(
    cache: StemCache, songs: Sequence[CachedTrack], separate: Callable[[], Separate], seed: int, effects: int
) -> Part:
    """For each of `CONDITIONS` in turn a clip of every song: its mixture changed and separated again; at last the
    clip's stems in an effect chain of its own. separate: makes what separates, once it is needed."""
    rng = np.random.default_rng([seed, 5])
    clips = [song.clips[int(rng.integers(len(song.clips)))] for song in songs]

    def make() -> Items:
        apart = separate()
        shift = round(SHIFT_S * SAMPLE_RATE)
        groups: dict[str, list[Item]] = {name: [] for name in CONDITIONS}
        for place, clip in enumerate(clips):
            whole = cache.read_clip(clip).sum(0)
            mix = whole[:, :-shift]
            mixtures = {
                AS_IT_IS: mix,
                **{name: change(mix) for name, change in CHANGES.items()},
                LATER: whole[:, shift:],
            }
            found = apart(list(mixtures.values()))
            for name, stems in zip(mixtures, found, strict=True):
                groups[name].append(Item(stems))
            chain = draw_chain(np.random.default_rng([seed, 6, place]), effects)
            groups[OTHER_CHAIN].append(Item(found[0], (chain,)))
        return tuple(item for group in groups.values() for item in group)

    return Part(KEY, tuple(range(len(songs))) * len(CONDITIONS), make)


def robustness_of(embeddings: Embeddings, row: str) -> dict[str, dict[str, float]]:
    """For each change, the mean cosine to the clip as it is, and the share of songs for which that is more than the
    cosine to the clip in another chain; the latter's mean cosine as `another chain`."""
    groups = comparable(embeddings, row).reshape(len(CONDITIONS), -1, embeddings.shape[1])
    songs = np.arange(groups.shape[1])
    cosines = {change: (groups[0] * groups[place]).sum(1) for place, change in enumerate(CONDITIONS)}
    found = {}
    for change in CONDITIONS[1:]:
        found[change] = estimate("cosine", cosines[change], songs)
        if change != OTHER_CHAIN:
            found[change] |= estimate("nearer_than_chain", cosines[change] > cosines[OTHER_CHAIN], songs)
    return found


def _parts(context: Context) -> list[Part]:
    options = context.options
    songs = context.songs[:MOST_SONGS]
    return [robustness(context.cache, songs, context.separate, options.seed, options.hard_effects)]


def _table(metrics: Metrics) -> TextTable:
    changes = list(metrics[KEY][metrics["rows"][0]])
    rows = []
    for row in metrics["rows"]:
        entries = metrics[KEY][row]
        shares = ["" if c == OTHER_CHAIN else f" {100 * entries[c]['nearer_than_chain']:.0f}%" for c in changes]
        rows.append([row, *(f"{entries[c]['cosine']:.3f}{text}" for c, text in zip(changes, shares, strict=True))])
    title = "robustness: cosine to the clip as it is, and songs for which it is above that of another chain"
    return TextTable(title, "", changes, rows)


def _draw(page: PageInput, changes: Sequence[str]) -> PageFigure:
    path, rows, colours = page.folder / "robustness.png", page.rows, colours_of(page.rows)
    with saved_figure(path, 8.0, 4.2, **{"axes.grid.axis": "x"}) as figure:
        axes = figure.subplots()
        height = 0.8 / len(rows)
        for place, change in enumerate(changes):
            for line, row in enumerate(rows):
                entry = page.metrics[KEY][row][change]
                y = place + (line - (len(rows) - 1) / 2) * height
                axes.plot([entry["cosine_low"], entry["cosine_high"]], [y, y], color=colours[row], linewidth=2)
                axes.plot(entry["cosine"], y, "o", color=colours[row], markersize=4, label=None if place else row)
        axes.axhline(changes.index(OTHER_CHAIN) - 0.5, color=GREY, linewidth=0.8)
        axes.set_yticks(range(len(changes)), changes)
        axes.invert_yaxis()
        axes.set_xlabel("cosine to the clip as it is")
        figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    return PageFigure(path, "Cosines", "Cosines.")


def _section(page: PageInput) -> Section:
    found, changes = page.metrics[KEY], list(page.metrics[KEY][page.rows[0]])
    kept = [change for change in changes if change != OTHER_CHAIN]
    cells = [(row, [percent_cell(found[row][change], "nearer_than_chain") for change in kept]) for row in page.rows]
    told = (
        "The mixture is changed and separated again. A change should move the embedding less than another chain does: "
        "the table has the share of songs for which it did."
    )
    return Section("Robustness", [told], [Table("", ["", *kept], cells)], [_draw(page, changes)])


ROBUSTNESS = Task(
    "robustness",
    1,
    KEY,
    _parts,
    lambda x, _part, row, _options: {KEY: robustness_of(x, row)},
    _section,
    table=_table,
    separates=True,
)
