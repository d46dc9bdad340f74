"""Demo songs: theory, players, the mix, and the folder they are written to (the voice: test_song_voice)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfilt

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.synth.compose import Part, compose
from mixstyle.pipeline.synth.genre_catalogue import STYLES
from mixstyle.pipeline.synth.genres import Style
from mixstyle.pipeline.synth.instruments import RENDER_RATE, midi_bytes, render_part
from mixstyle.pipeline.synth.music_theory import Clock, Note, nearest_pitch, parse_progression, voice_chord
from mixstyle.pipeline.synth.song import render_song
from mixstyle.pipeline.synth.song_mix import PEAK, _limit, active_rms, draw_mix, pan_gains, set_width
from mixstyle.stages.demo_songs import demo_songs, song_seed

SHORT_S = 8.0


def hz(pitch: float) -> float:
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def cents(measured_hz: float, wanted_hz: float) -> float:
    return 1200.0 * float(np.log2(measured_hz / wanted_hz))


def autocorrelation_f0(audio: np.ndarray, rate: int, low_hz: float, high_hz: float) -> float:
    """Pitch of a steady voiced stretch: the first high peak of the autocorrelation, refined by a parabola."""
    spectrum = np.fft.rfft(audio * np.hanning(len(audio)), 2 * len(audio))
    lags = np.fft.irfft(np.abs(spectrum) ** 2)[: len(audio)]
    first, last = int(rate / high_hz), int(rate / low_hz)
    peak = first + int(np.argmax(lags[first:last]))
    left, middle, right = lags[peak - 1 : peak + 2]
    return rate / (peak + 0.5 * (left - right) / (left - 2 * middle + right))


# --- theory and composing -----------------------------------------------------------------------


def test_progressions_are_read_as_chords_of_the_key() -> None:
    roots = [chord.root for chord in parse_progression("i bVI bIII bVII")]
    assert roots == [0, 8, 3, 10]
    two_five_one = parse_progression("ii7 V7 Imaj7")
    assert [chord.pitch_classes(0) for chord in two_five_one] == [(2, 5, 9, 0), (7, 11, 2, 5), (0, 4, 7, 11)]
    with pytest.raises(MixstyleError, match="'H'"):
        parse_progression("I H V")


def test_sevenths_are_those_of_the_scale() -> None:
    one, five, six = parse_progression("I V vi", with_sevenths=True)
    assert (one.seventh(), five.seventh(), six.seventh()) == (11, 10, 10)


@pytest.mark.parametrize("centre", [45, 60, 71])
def test_voicings_stay_in_the_octave_around_their_centre(centre: int) -> None:
    for tonic in range(12):
        for chord in parse_progression("I ii7 bIII IV7 V vi bVII"):
            voicing = voice_chord(chord, tonic, centre)
            assert {pitch % 12 for pitch in voicing} == set(chord.pitch_classes(tonic))
            assert min(voicing) >= centre - 6
            assert max(voicing) < centre + 6


def test_nearest_pitch() -> None:
    assert nearest_pitch(61.4, (0, 4, 7)) == 60
    assert nearest_pitch(62.6, (0, 4, 7)) == 64


def test_swing_delays_off_beats_and_keeps_order() -> None:
    straight, shuffle = Clock(120.0), Clock(120.0, swing=2 / 3, swing_steps=2)
    assert straight.time_s(3) == pytest.approx(0.375)
    # a triplet shuffle puts the second eighth of a beat at two thirds of the beat
    assert shuffle.time_s(2) == pytest.approx(0.5 * 2 / 3)
    times = [shuffle.time_s(step) for step in np.arange(0, 64, 0.5)]
    assert np.all(np.diff(times) > 0)
    assert shuffle.time_s(16) == pytest.approx(straight.time_s(16))


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_every_style_is_well_formed(style: Style) -> None:
    steps = style.steps_per_bar
    for beat in style.drums:
        assert all(len(row) == steps and set(row) <= set(".123456789") for row in beat.values())
    for row in style.bass:
        assert len(row) == steps
        assert set(row) <= set("R3578a-.")
    for role in style.roles:
        assert all(len(row) in (0, steps, 16) and set(row) <= set("xo-.") for row in role.rows)
        assert all(0 <= program < 128 for program in role.programs)
        # vocal programs would teach a separator that choirs are both vocals and other
        assert not set(role.programs) & {52, 53, 54, 85, 91}
    for progression in style.progressions:
        parse_progression(progression)


def test_compositions_are_whole_songs() -> None:
    """Over many seeds: every stem has notes, all styles occur, and stems play half the time or more on average."""
    duration_s, styles, shares = 40.0, set(), []
    for seed in range(60):
        song = compose(np.random.SeedSequence(seed), duration_s)
        styles.add(song.style)
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
    assert styles == {style.name for style in STYLES}
    assert np.all(np.mean(shares, axis=0) > 0.6)
    assert np.all(np.min(shares, axis=0) > 0.1)


# --- instruments --------------------------------------------------------------------------------


def test_bass_notes_have_the_pitch_of_their_midi_numbers() -> None:
    pitches = [28, 33, 38, 43, 47]
    notes = tuple(Note(0.1 + k, 0.95 + k, pitch, 100) for k, pitch in enumerate(pitches))
    audio = render_part(Part("bass", "bass", 33, notes), 5.2).mean(axis=0)
    for k, pitch in enumerate(pitches):
        start = int((0.25 + k) * RENDER_RATE)
        # the low-pass leaves the first harmonics, among which the autocorrelation finds the period
        piece = sosfilt(butter(4, 400, fs=RENDER_RATE, output="sos"), audio[start : start + RENDER_RATE // 2])
        measured = autocorrelation_f0(np.asarray(piece), RENDER_RATE, hz(pitch) * 0.7, hz(pitch) * 1.5)
        assert abs(cents(measured, hz(pitch))) < 30  # a SoundFont's samples are tuned within some cents


def test_drums_play_on_the_percussion_channel() -> None:
    """A kick has its energy low, a closed hat high; as a melodic program both would be notes."""
    centroid = {}
    for name, pitch in (("kick", 36), ("hat", 42)):
        audio = render_part(Part("drums", "drums", 0, (Note(0.1, 0.3, pitch, 110),), is_drums=True), 1.0).mean(axis=0)
        power = np.abs(np.fft.rfft(audio)) ** 2
        centroid[name] = float(np.sum(power * np.fft.rfftfreq(len(audio), 1 / RENDER_RATE)) / np.sum(power))
    assert centroid["kick"] < 300
    assert centroid["hat"] > 4000


def test_programs_change_the_sound_and_equal_midi_gives_equal_bytes() -> None:
    notes = (Note(0.0, 0.8, 60, 100),)
    piano, again, organ = (render_part(Part("x", "other", program, notes), 1.0) for program in (0, 0, 19))
    assert piano.tobytes() == again.tobytes()
    assert np.abs(piano - organ).max() > 0.01


def test_a_part_too_loud_for_the_renderer_is_not_clipped() -> None:
    """40 equal notes in phase overflow 16 bits at full volume; they must come out as 40 times one note."""
    note = Note(0.0, 1.0, 60, 127)
    one, many = (render_part(Part("x", "other", 56, (note,) * count), 1.2)[0] for count in (1, 40))
    assert np.abs(many).max() > 1.5
    # 5%: the font rounds volumes; clipped to full scale, 40 notes have 39% of the level they should have
    assert many.std() == pytest.approx(40 * one.std(), rel=0.05)


def test_midi_files_end_where_the_song_ends() -> None:
    part = Part("x", "other", 0, (Note(0.0, 9.0, 60, 100), Note(5.0, 6.0, 64, 100)))
    assert render_part(part, 3.0).shape == (2, 3 * RENDER_RATE)
    assert bytes([0x90, 64]) not in midi_bytes(part, 3.0)  # a note that starts after the end is left out


# --- the mix ------------------------------------------------------------------------------------


def test_pan_and_width_do_what_they_say() -> None:
    left, right = pan_gains(0.5).ravel()
    assert right > left
    assert left**2 + right**2 == pytest.approx(2.0)
    assert pan_gains(0.0).ravel() == pytest.approx([1.0, 1.0])
    audio = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    mono = set_width(audio, 0.0)
    assert np.array_equal(mono[0], mono[1])
    assert set_width(audio, 1.0) == pytest.approx(audio, abs=1e-6)


def test_the_limiter_keeps_the_ceiling_and_one_gain_for_all_stems() -> None:
    rng = np.random.default_rng(0)
    stems = (rng.standard_normal((4, 2, SAMPLE_RATE)) * 0.5).astype(np.float32)
    limited = _limit(stems, SAMPLE_RATE)
    assert np.abs(limited).max() <= PEAK
    assert np.abs(limited.sum(axis=0)).max() <= PEAK
    gain = limited / stems
    assert np.ptp(gain, axis=(0, 1)).max() < 1e-5
    quiet = stems * np.float32(0.01)
    assert np.array_equal(_limit(quiet, SAMPLE_RATE), quiet)


def test_mixing_styles_spread_widely() -> None:
    drawn = [draw_mix(np.random.default_rng(seed)) for seed in range(80)]
    for name in ("wetness", "width", "squeeze"):
        values = [getattr(mix, name) for mix in drawn]
        assert min(values) < 0.1
        assert max(values) > 0.9
    vocals_db = [mix.stems["vocals"].level_db for mix in drawn]
    assert max(vocals_db) - min(vocals_db) > 5.0
    assert json.loads(json.dumps(drawn[0].record()))["stems"]["drums"]["pan"] == round(drawn[0].stems["drums"].pan, 3)


@pytest.fixture(scope="module")
def rendered() -> list[np.ndarray]:
    return [render_song(seed, 10.0).stems for seed in range(4)]


def test_stems_are_alive_and_balanced(rendered: list[np.ndarray]) -> None:
    for seed, stems in enumerate(rendered):
        assert stems.shape == (4, 2, 10 * SAMPLE_RATE)
        assert stems.dtype == np.float32
        assert np.isfinite(stems).all()
        mixture = stems.sum(axis=0)
        assert max(np.abs(stems).max(), np.abs(mixture).max()) <= PEAK
        whole = active_rms(mixture, SAMPLE_RATE)
        for stem, audio in zip(STEMS, stems, strict=True):
            level_db = 20 * np.log10(active_rms(audio, SAMPLE_RATE) / whole)
            assert -18 < level_db < 1, f"seed {seed}: {stem} lies at {level_db:.1f} dB"


def test_songs_differ_and_repeat_to_the_byte(rendered: list[np.ndarray]) -> None:
    assert render_song(3, 10.0).stems.tobytes() == rendered[3].tobytes()
    for first in range(len(rendered)):
        for second in range(first):
            a, b = rendered[first].sum(axis=(0, 1)), rendered[second].sum(axis=(0, 1))
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


@pytest.mark.parametrize(("seed", "duration_s", "word"), [(1, 7.9, "duration_s"), (-1, 10.0, "seed")])
def test_impossible_songs_are_refused(seed: int, duration_s: float, word: str) -> None:
    with pytest.raises(MixstyleError, match=word):
        render_song(seed, duration_s)


# --- the folder ---------------------------------------------------------------------------------


def tree_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs of seed 5, rendered by two workers without interruption."""
    folder = tmp_path_factory.mktemp("songs")
    summary = demo_songs(folder, 3, 5, SHORT_S, workers=2)
    assert (summary.songs, summary.rendered, summary.kept) == (3, 3, 0)
    return folder


def test_files_are_16_bit_and_stems_add_up_to_the_last_bit(folder: Path) -> None:
    listing = json.loads((folder / "songs.json").read_text())
    assert [song["index"] for song in listing["songs"]] == [0, 1, 2]
    for song in listing["songs"]:
        mixture = folder / "songs" / f"{song['name']}.flac"
        info = soundfile.info(mixture)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 2, "PCM_16")
        assert info.frames == round(SHORT_S * SAMPLE_RATE)
        parts = [
            soundfile.read(folder / "stems" / song["name"] / f"{stem}.flac", dtype="int16")[0].astype(int)
            for stem in STEMS
        ]
        whole = soundfile.read(mixture, dtype="int16")[0]
        assert np.array_equal(sum(parts), whole)
        assert mixture.read_bytes() == (folder / "stems" / song["name"] / "mixture.flac").read_bytes()
        assert song["seed"] == song_seed(5, song["index"])
        assert song["name"].startswith(f"{song['index']:04d}-{song['style']}-")


def test_fewer_songs_by_one_worker_are_the_first_of_more(folder: Path, tmp_path: Path) -> None:
    demo_songs(tmp_path, 2, 5, SHORT_S, workers=1)
    two, three = tree_bytes(tmp_path), tree_bytes(folder)
    two_listed, three_listed = json.loads(two.pop("songs.json")), json.loads(three.pop("songs.json"))
    assert two_listed["songs"] == three_listed["songs"][:2]
    assert {name: three[name] for name in two} == two
    # asking for one more in the same folder adds it and leaves the others alone
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")}
    summary = demo_songs(tmp_path, 3, 5, SHORT_S, workers=1)
    assert (summary.rendered, summary.kept) == (1, 2)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert tree_bytes(tmp_path) == tree_bytes(folder)


def test_a_killed_run_goes_on_and_ends_the_same(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mixstyle.stages.demo_songs import demo_songs\n"
        f"demo_songs(Path(sys.argv[1]), 2, 5, {SHORT_S}, workers=1)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("songs/*.flac")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert len(list(tmp_path.glob("songs/*.flac"))) == 1
    demo_songs(tmp_path, 2, 5, SHORT_S, workers=1)
    ended, unbroken = tree_bytes(tmp_path), tree_bytes(folder)
    del ended["songs.json"]
    assert ended == {name: unbroken[name] for name in ended}
    assert len(ended) == 2 * 6
    listed = [json.loads((place / "songs.json").read_text())["songs"] for place in (tmp_path, folder)]
    assert listed[0] == listed[1][:2]


def test_a_damaged_song_is_rendered_again(folder: Path) -> None:
    whole = tree_bytes(folder)
    damaged = next((folder / "stems").rglob("bass.flac"))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert demo_songs(folder, 3, 5, SHORT_S, workers=1).rendered == 1
    assert tree_bytes(folder) == whole


@pytest.mark.parametrize(
    ("changed", "name"),
    [({"seed": 6}, "seed"), ({"duration_s": 9.0}, "duration_s"), ({"stems": False}, "stems"), ({"songs": 2}, "songs")],
)
def test_other_settings_in_the_same_folder_are_refused_by_name(
    folder: Path, changed: dict[str, object], name: str
) -> None:
    before = tree_bytes(folder)
    settings: dict[str, object] = {"songs": 3, "seed": 5, "duration_s": SHORT_S, "stems": True} | changed
    with pytest.raises(MixstyleError, match=rf"with {name} .*--rebuild"):
        demo_songs(folder, **settings)  # pyright: ignore[reportArgumentType]
    assert tree_bytes(folder) == before


def test_rebuild_replaces_our_songs_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "mine.flac").write_bytes(b"mine")
    (tmp_path / "songs" / "0000-pop-100bpm.flac").write_bytes(b"from another run")
    with pytest.raises(MixstyleError, match=r"no songs\.json"):
        demo_songs(tmp_path, 1, 5, SHORT_S)
    (tmp_path / "songs.json").write_text('{"format": 99, "settings": {}, "songs": []}')
    with pytest.raises(MixstyleError, match="format 99"):
        demo_songs(tmp_path, 1, 5, SHORT_S)
    (tmp_path / "songs.json").write_text("not json")
    with pytest.raises(MixstyleError, match=r"songs\.json is not"):
        demo_songs(tmp_path, 1, 5, SHORT_S)
    demo_songs(tmp_path, 1, 5, SHORT_S, stems=False, rebuild=True)
    names = sorted(path.name for path in (tmp_path / "songs").iterdir())
    assert len(names) == 2
    assert "mine.flac" in names
    assert not (tmp_path / "stems").exists()
    assert (tmp_path / "songs" / "mine.flac").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"songs": -1}, "songs"),
        ({"seed": -1}, "seed"),
        ({"duration_s": 3.0}, "duration_s"),
        ({"workers": 0}, "workers"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(
    tmp_path: Path, settings: dict[str, int], word: str
) -> None:
    with pytest.raises(MixstyleError, match=word):
        demo_songs(tmp_path / "new", **({"songs": 1, "seed": 1, "duration_s": SHORT_S} | settings))  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(MixstyleError, match="taken"):
        demo_songs(tmp_path / "taken", 1, 1, SHORT_S)


def test_a_profile_with_its_own_music_asks_for_no_songs(tmp_path: Path) -> None:
    assert demo_songs(tmp_path / "none", 0, 0).rendered == 0
    assert not list((tmp_path / "none" / "songs").iterdir())
