"""What to set on a song's stems, from its clips and a reference's, and what that makes of its descriptors."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixstyle.cache.match_chain import MatchChain
from mixstyle.cache.music.writer import AudioForm, Samples
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import has_stem
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.pipeline.descriptors.song_values import song_descriptors
from mixstyle.pipeline.descriptors.table import columns
from mixstyle.pipeline.matching.desk import FULL, GENTLE, WIDE, Bounds, Strip
from mixstyle.pipeline.matching.estimate import Estimate, estimate
from mixstyle.pipeline.matching.metric import DescriptorMetric
from mixstyle.pipeline.matching.mix_search import MixTask, Searched, search_effects
from mixstyle.pipeline.matching.on_the_mix import mix_strip
from mixstyle.pipeline.matching.profile import MixProfile, mean_profile, measure_profile
from mixstyle.pipeline.matching.render import Levels, SongRunner, strip_levels
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.common.progress import progress
from mixstyle.stages.common.separators import is_small
from mixstyle.stages.presentation.values import rounded
from mixstyle.stages.separate.tuned_streams import tuned_separation
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.songs.clips import SongClips
from mixstyle.stages.songs.match.notes import search_notes, song_notes
from mixstyle.stages.songs.match.render import RenderedSong, Targets, render_song
from mixstyle.stages.songs.whole_song import WholeSong

OCTAVE_SHOWN_DB = -40.0

Values = NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class SongMatch:
    """A match before it is rendered. chain: what is set. before, reference: a song's own descriptors [D] (of
    several references their mean). reference_loudness: of each reference, all of it."""

    chain: MatchChain
    song: WholeSong
    clips: SongClips
    before: Values
    reference: Values
    reference_loudness: tuple[SongLoudness, ...]
    separator: Separator | None
    options: SeparateSettings

    def __repr__(self) -> str:
        return f"SongMatch({self.clips.name!r}, {self.chain.gains})"

    def write(
        self, path: str | Path, samples: Samples = "24", stems: Path | None = None, ab: Path | None = None
    ) -> RenderedSong:
        """Writes the matched song (.wav or .flac). samples: `24` bits, or `float`. stems, ab: folders, as `Targets` has
        them. Raises MixstyleError (cannot-write, bad-option)."""
        return self.render(Targets(Path(path), AudioForm.of(Path(path), samples), stems, ab))

    def render(self, targets: Targets) -> RenderedSong:
        """Writes the song and what else is asked for."""
        chain = self.chain
        return render_song(
            self.song,
            self.separator,
            self.options,
            chain.strips,
            chain.level_db,
            chain.reference_lufs,
            targets,
            self._levels,
            chain.mix,
        )

    def after(self, gain_db: float) -> Values:
        """Descriptors of the clips' stems after the strips and a gain. They are not separated again."""
        made = []
        for stems in self.clips.stems:
            runner = SongRunner(self.chain.strips, levels=self._levels, mix=self.chain.mix)
            changed = runner.run(stems.sum(0).numpy(), stems.numpy())[1]
            made.append(torch.from_numpy(changed * np.float32(10 ** (gain_db / 20))))
        return song_values(made)

    @cached_property
    def _levels(self) -> Levels:
        return strip_levels(self.chain.strips, [clip.numpy() for clip in self.clips.stems])

    @cached_property
    def in_both(self) -> dict[str, bool]:
        """Whether both songs have a stem, by its name."""
        return {stem: has_stem(self.before, stem) and has_stem(self.reference, stem) for stem in STEMS}

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Descriptors of stems that both have [D]."""
        return np.array([self.in_both[d.stem] for d in DESCRIPTORS])

    def distances(self, values: Values) -> tuple[float, float]:
        """Mean difference to the reference over the stems that both have: of their loudness against the mix, in LU, and
        of the octaves that are not empty in either, in dB. NaN where there is none."""
        balance = [column for column in columns(kind="relative_loudness_lu") if self.counted[column]]
        octaves = [
            column
            for column, d in enumerate(DESCRIPTORS)
            if d.octave_hz is not None
            and self.counted[column]
            and min(self.before[column], self.reference[column]) > OCTAVE_SHOWN_DB
        ]

        def mean(chosen: list[int]) -> float:
            return float(np.abs(values[chosen] - self.reference[chosen]).mean()) if chosen else math.nan

        return mean(balance), mean(octaves)


def make_match(
    song: WholeSong,
    clips: SongClips,
    references: Sequence[SongClips],
    separator: Separator | None,
    options: SeparateSettings,
    amount: float,
    keep: Collection[str],
    metric: DescriptorMetric | None = None,
) -> SongMatch:
    """What brings a song to its references. metric: looks for effects by it (`mix_search`); none without. Raises
    MixstyleError (bad-option) for an amount or a stem that there is not, and for no reference."""
    check_asked(amount, keep)
    if not references:
        raise MixstyleError("no reference is given", code="bad-option")
    separated = not all(one.given for one in (clips, *references))
    bounds = _bounds(separator) if separated else WIDE
    mine, *profiles = (_profile(one) for one in (clips, *references))
    mine = replace(mine, mono=mine.mono or song.look.mono)
    theirs = mean_profile(profiles)
    found, searched = estimate(mine, theirs, amount, keep, bounds), None
    if metric is not None:
        separate = None
        if separated and separator is not None:
            separate = tuned_separation(options, separator, measure=separator.device.type != "cpu")
        stems = [one.stems for one in references]
        task = MixTask(clips.stems, stems, mine, theirs, amount, keep, bounds, separate, describe)
        searched = _searched(task, found, metric, options.seed)
        found = searched.estimate
    loudness = tuple(one.loudness for one in references if one.loudness is not None)
    if len(loudness) < len(references):
        raise ValueError("references should be measured")
    made = {
        "amount": amount,
        "keep": sorted(keep),
        "bounds": bounds.name,
        "separator": _told(separator) if separated else "given stems",
        "song": clips.name,
        "references": [one.name for one in references],
    }
    chain = _chain(song, (clips, *references), found, searched, loudness, made)
    # a separator may have moved what is absent to another stem: then all of the mix is compared
    compared = np.full(len(STEMS), True) if separated else mine.present & theirs.present
    if compared.any() and not keep:
        stereo = not (song.look.mono or mine.mono or theirs.mono)
        chain = replace(chain, mix=_mix_strip(chain.strips, clips, references, compared, amount, stereo=stereo))
    return SongMatch(
        chain,
        song,
        clips,
        song_values(clips.stems),
        np.mean([song_values(one.stems) for one in references], axis=0).astype(np.float32),
        loudness,
        separator,
        options,
    )


def _chain(
    song: WholeSong,
    read: Sequence[SongClips],
    found: Estimate,
    searched: Searched | None,
    references: Sequence[SongLoudness],
    made: dict[str, Any],
) -> MatchChain:
    """What is set on the stems, the level of the whole song, and how it was found. read: the song and its references.
    made: the match's own facts."""
    strips = tuple(s.without_stereo() for s in found.strips) if song.look.mono else found.strips
    reference_lufs = float(np.mean([one.loudness_lufs for one in references]))
    level_db = round(made["amount"] * (reference_lufs - song.look.loudness.loudness_lufs), 2)
    notes = (*song_notes(song, read, made, strips), *found.notes, *search_notes(searched))
    if searched is not None:
        made = made | {"search": {"chosen": searched.chosen, "distances": dict(searched.distances)}}
    return MatchChain(strips, level_db, round(reference_lufs, 3), notes, made)


def _profile(clips: SongClips) -> MixProfile:
    """Mono where the song is, whatever a separator has made of it."""
    found = measure_profile(clips.stems)
    return replace(found, mono=found.mono or clips.mono)


def check_asked(amount: float, keep: Collection[str]) -> None:
    """Raises MixstyleError (bad-option) for an amount or a stem that there is not."""
    if not 0 <= amount <= 1:
        raise MixstyleError(f"--amount {amount:g}: should be between 0 and 1", code="bad-option")
    unknown = [stem for stem in keep if stem not in STEMS]
    if unknown:
        raise MixstyleError(f"--keep {unknown[0]}: should be one of {', '.join(STEMS)}", code="bad-option")


def song_values(clips: Sequence[Tensor]) -> Values:
    """A song's own descriptors [D] by its clips [4, 2, T]."""
    return song_descriptors(describe(torch.stack(list(clips))).numpy())


def measured_as_json(matched: SongMatch, after: Values, rendered: RenderedSong | None) -> dict[str, Any]:
    """Descriptors before, after and of the reference, with units, and the whole songs' loudness."""
    values = {
        d.name: {"unit": d.unit, "before": rounded(a), "after": rounded(b), "reference": rounded(c)}
        for d, a, b, c in zip(DESCRIPTORS, matched.before, after, matched.reference, strict=True)
    }
    loudness: dict[str, Any] = {"reference": [one.to_json() for one in matched.reference_loudness]}
    if rendered is not None:
        loudness |= {"before": rendered.before.to_json(), "after": rendered.after.to_json()}
    return {"loudness": loudness, "descriptors": values}


def _mix_strip(
    strips: Sequence[Strip],
    clips: SongClips,
    references: Sequence[SongClips],
    compared: NDArray[np.bool_],
    amount: float,
    *,
    stereo: bool,
) -> Strip:
    """What is left to do on the mix. Not where a stem is kept: it would be changed too. compared: by which stems [4]; a
    stem of only one song would be equalised away, or made up for by raising what is there."""
    levels = strip_levels(strips, [clip.numpy() for clip in clips.stems])
    made = [SongRunner(strips, levels=levels).run(c.sum(0).numpy(), c.numpy())[1][compared].sum(0) for c in clips.stems]
    wanted = [clip.numpy()[compared].sum(0) for one in references for clip in one.stems]
    return mix_strip(made, wanted, amount, stereo=stereo)


def _bounds(separator: Separator | None) -> Bounds:
    """For stems that were separated."""
    return GENTLE if separator is not None and is_small(separator) else FULL


def _searched(task: MixTask, found: Estimate, metric: DescriptorMetric, seed: int) -> Searched:
    with progress("match: effects", 100, "%") as bar:
        reached = 0

        def told(share: float) -> None:
            nonlocal reached
            bar.advance(round(100 * share) - reached)
            reached = round(100 * share)

        return search_effects(task, found, metric, seed, told=told)


def _told(separator: Separator | None) -> str:
    return f"{separator.name or 'unnamed'} ({separator.fingerprint})" if separator is not None else ""
