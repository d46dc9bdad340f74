"""What is composed: genres whose tables can be read, and whole songs in all of them."""

import numpy as np
import pytest

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.synth.compose import compose
from mixstyle.pipeline.synth.genre_patterns import Genre
from mixstyle.pipeline.synth.genres import GENRES
from mixstyle.pipeline.synth.music_theory import parse_progression


@pytest.mark.parametrize("genre", GENRES, ids=lambda genre: genre.name)
def test_every_genre_is_well_formed(genre: Genre) -> None:
    steps = genre.steps_per_bar
    for beat in genre.drums:
        assert all(len(row) == steps and set(row) <= set(".123456789") for row in beat.values())
    for row in genre.bass:
        assert len(row) == steps
        assert set(row) <= set("R3578a-.")
    for role in genre.roles:
        assert all(len(row) in (0, steps, 16) and set(row) <= set("xo-.") for row in role.rows)
        assert all(0 <= program < 128 for program in role.programs)
        # vocal programs would teach a separator that choirs are both vocals and other
        assert not set(role.programs) & {52, 53, 54, 85, 91}
    for progression in genre.progressions:
        parse_progression(progression)


def test_compositions_are_whole_songs() -> None:
    """Over many seeds: every stem has notes, all genres occur, and stems play half the time or more on average."""
    duration_s, genres, shares = 40.0, set(), []
    for seed in range(60):
        song = compose(np.random.SeedSequence(seed), duration_s)
        genres.add(song.genre)
        share = []
        for stem in STEMS:
            notes = [note for part in song.parts if part.stem == stem for note in part.notes]
            notes_or_words = song.lead if stem == "vocals" else notes
            assert notes_or_words, f"seed {seed}: {stem} is empty"
            busy = np.zeros(int(duration_s))
            for note in notes_or_words:
                busy[int(note.start_s) : int(note.end_s) + 1] = 1
            share.append(busy.mean())
        shares.append(share)
        assert all(later.start_s > earlier.start_s for earlier, later in zip(song.lead, song.lead[1:], strict=False))
    assert genres == {genre.name for genre in GENRES}
    assert np.all(np.mean(shares, axis=0) > 0.6)
    assert np.all(np.min(shares, axis=0) > 0.1)
