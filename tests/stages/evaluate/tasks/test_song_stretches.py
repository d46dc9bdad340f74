"""Stretches of a song that is mixed as a whole: one gain a stem, whatever is played where."""

from dataclasses import replace

import numpy as np
import pyloudnorm
import pytest
from helpers.evaluation import make_songs

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.mix_chain import MixChain, apply_mix_chain
from mixstyle.stages.evaluate.tasks.song_stretches import LevelledStretch, mixed_song
from mixstyle.stages.evaluate.tasks.task import Cut

CHAIN = MixChain(((), (), (), ()), stem_lufs=(-18.0, -17.0, -16.0, -14.0), mix_lufs=-14.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> StemCache:
    folder = tmp_path_factory.mktemp("songs") / "stems"
    make_songs(folder)
    return StemCache(folder)


def test_stems_have_their_loudness_over_the_song_and_one_gain_in_it(cache: StemCache) -> None:
    song = cache.tracks[0]
    frames = cache.clip_frames // 2
    items = mixed_song(cache, song.clips, CHAIN, 3, Cut(cache.clip_frames, frames), np.random.default_rng(5))
    sources = [item.source for item in items]
    assert all(isinstance(source, LevelledStretch) for source in sources)
    stretches = [source for source in sources if isinstance(source, LevelledStretch)]
    assert {clip.clip_id for clip, _, _ in stretches[0].stretches} == {clip.clip_id for clip in song.clips}
    assert [s.place for s in stretches] == [0, 1, 2]
    made = [stretch.read() for stretch in stretches]
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    for stem, target in enumerate(CHAIN.stem_lufs):
        joined = np.concatenate([audio[stem] for audio in made], -1)
        # float32 samples and 100 ms steps that lie alike: 0.05 LU is the descriptors' own tolerance
        assert meter.integrated_loudness(joined.T) == pytest.approx(target, abs=0.05)
        gains = [
            float(np.vdot(audio[stem], raw[stem]) / np.vdot(raw[stem], raw[stem]))
            for audio, raw in zip(made, (cache.read_clip(*s) for s in stretches[0].stretches), strict=True)
        ]
        # float32 sums of products over 44,100 samples or so: sqrt(44100) 2^-24 = 1.3e-5 at most
        assert gains == pytest.approx([gains[0]] * 3, rel=1.3e-5), "one gain for all stretches"


def test_effects_follow_the_gains(cache: StemCache) -> None:
    items = mixed_song(cache, cache.tracks[1].clips, CHAIN, 2, Cut(cache.clip_frames, 20000), np.random.default_rng(1))
    for item in items:
        assert isinstance(item.source, LevelledStretch)
        wanted = apply_mix_chain(item.source.read(), replace(CHAIN, stem_lufs=()))
        assert np.array_equal(item.render(cache), wanted)
        assert item.render(cache).shape == (4, 2, 20000)
        assert item.frames == 20000


def test_more_stretches_than_clips_take_clips_again(cache: StemCache) -> None:
    clips = cache.tracks[2].clips
    items = mixed_song(cache, clips, CHAIN, 2 * len(clips), Cut(cache.clip_frames, 9000), np.random.default_rng(2))
    assert len({str(item.to_json()) for item in items}) == 2 * len(clips)
