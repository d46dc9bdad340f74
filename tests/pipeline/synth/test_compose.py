"""What is composed: genres whose tables can be read, and whole songs in all of them."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.synth.compose import compose
from mixstyle.pipeline.synth.genre_patterns import Genre
from mixstyle.pipeline.synth.genres import GENRES
from mixstyle.pipeline.synth.music_theory import parse_progression
from mixstyle.pipeline.synth.renderer import RENDERER_VERSION
from mixstyle.pipeline.synth.voice import draw_voice


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


SONGS_OF_VERSION = {3: "f9402084a3dd0318c7e1a25825f3e37a2a5290748c04f1c199832e2f9674f669"}
"""SHA-256 of what is composed and who sings it, by the renderer's version."""


def rounded(value: object) -> object:
    """Numbers to 1e-6 (seconds, dB, Hz): powers and logarithms differ by 1e-16 of themselves between processors."""
    if isinstance(value, float):
        return round(value, 6) + 0.0
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def test_a_version_of_the_renderer_composes_the_same_songs() -> None:
    """Rendered songs are told apart by that number alone: whoever changes a song raises it, and adds a line above."""
    songs = [asdict(compose(np.random.SeedSequence(seed), 24.0)) for seed in range(40)]
    assert {song["genre"] for song in songs} == {genre.name for genre in GENRES}
    kinds = sorted({song["voice"] for song in songs})
    voices = [asdict(draw_voice(np.random.default_rng(place), kind)) for place, kind in enumerate(kinds)]
    text = json.dumps(rounded([songs, voices]), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == SONGS_OF_VERSION[RENDERER_VERSION]
