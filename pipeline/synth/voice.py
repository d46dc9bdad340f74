"""A singing voice by the source-filter model (Fant 1960): glottal pulses and noise through formants.

Why synthesis: a General MIDI SoundFont has choirs and "oohs", but no voice that moves from vowel to
consonant to vowel on a tune, and that movement is what a separator must learn to recognise.

- Source: Klatt's KLGLOTT88 pulse (Klatt and Klatt, JASA 87, 1990, eq. 1: g(t) = a t^2 - b t^3 over the
  open phase), differentiated, band-limited in a wavetable for each third of an octave; two tables
  (pressed and soft) are blended by how loud a note is sung. Breath noise is added, modulated by the
  glottis. Pitch has portamento, scoops, vibrato that sets in on long notes, drift and jitter.
- Filter: five formants in cascade (Klatt, JASA 67, 1980), moving between targets: vowels are Peterson
  and Barney's averages (JASA 24, 1952, table II), scaled to the singer's vocal tract; consonants are
  formant loci, closures and noise. F1 is never below the pitch, as sopranos tune it (Sundberg 1987).
  The fourth and fifth formants are drawn together to a singer's formant for trained voices.
- Consonants: stops close and burst, fricatives are band-passed noise, nasals and glides are voiced.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.signal import butter, sosfilt

from mixstyle.pipeline.synth.music_theory import SungNote

CONTROL_HZ = 500
"""Rate of the control tracks (pitch, amplitudes, formants)."""
_BLOCK_S = 0.008
"""Formant coefficients are renewed this often; smaller than the time formants take to move."""
_STEADY = 4e-5
"""Change of a section's coefficients that is let go by: about 1% of the lowest formant's frequency."""
_TABLE = 2048

FORMANTS_HZ = {
    "male": {
        "i": (270, 2290, 3010), "ih": (390, 1990, 2550), "e": (530, 1840, 2480), "ae": (660, 1720, 2410),
        "a": (730, 1090, 2440), "o": (570, 840, 2410), "uh": (640, 1190, 2390), "u": (440, 1020, 2240),
        "oo": (300, 870, 2240), "er": (490, 1350, 1690),
    },
    "female": {
        "i": (310, 2790, 3310), "ih": (430, 2480, 3070), "e": (610, 2330, 2990), "ae": (860, 2050, 2850),
        "a": (850, 1220, 2810), "o": (590, 920, 2710), "uh": (760, 1400, 2780), "u": (470, 1160, 2680),
        "oo": (370, 950, 2670), "er": (500, 1640, 1960),
    },
}  # fmt: skip
"""F1, F2, F3 of vowels in Hz: Peterson and Barney (1952), averages over speakers."""
_DIPHTHONG_ENDS = {"ai": ("a", "i"), "ei": ("e", "i"), "ou": ("o", "oo"), "au": ("ae", "oo")}
_VOICED_LOCI_HZ = {
    "m": (250, 1000, 2200), "n": (250, 1550, 2500), "ng": (250, 1900, 2400), "l": (360, 1100, 2650),
    "r": (350, 1150, 1600), "w": (300, 680, 2250), "y": (280, 2250, 3000), "v": (280, 1150, 2300),
    "z": (280, 1650, 2550), "b": (250, 850, 2250), "d": (250, 1700, 2600), "g": (250, 1950, 2250),
}  # fmt: skip
_VOICED_LEVEL = {"m": 0.42, "n": 0.4, "ng": 0.38, "l": 0.55, "r": 0.6, "w": 0.55, "y": 0.5, "v": 0.35, "z": 0.3}
_CONSONANT_S = {
    "m": 0.07, "n": 0.065, "ng": 0.08, "l": 0.06, "r": 0.07, "w": 0.07, "y": 0.07, "v": 0.07, "z": 0.08,
    "b": 0.05, "d": 0.045, "g": 0.05, "s": 0.11, "sh": 0.11, "f": 0.09, "h": 0.07, "t": 0.075, "k": 0.08,
    "p": 0.08, "ch": 0.11,
}  # fmt: skip
# Noise of consonants: band in Hz, level against a sung vowel, seconds (before the vowel starts).
_NOISE = {
    "s": (5200, 10500, 0.30, 0.11), "z": (5000, 10000, 0.14, 0.08), "sh": (2300, 7000, 0.32, 0.11),
    "f": (1500, 9500, 0.07, 0.09), "v": (1500, 8000, 0.03, 0.07), "t": (3000, 9000, 0.42, 0.022),
    "k": (1400, 4200, 0.36, 0.028), "p": (500, 2500, 0.26, 0.016), "d": (2800, 7000, 0.2, 0.012),
    "g": (1300, 3500, 0.2, 0.014), "b": (300, 1500, 0.16, 0.01), "ch": (2500, 8000, 0.36, 0.08),
}  # fmt: skip
_ASPIRATED = {"h": 0.07, "t": 0.035, "k": 0.04, "p": 0.04}


@dataclass(frozen=True)
class Voice:
    """One singer."""

    sex: str
    """`male` or `female`: which formant table."""
    tract_scale: float
    """All formants times this; below 1 a longer vocal tract."""
    open_quotient_soft: float
    open_quotient_loud: float
    tilt_hz: float
    """Corner of the source's extra first-order roll-off when singing softly."""
    breath: float
    """Amplitude of breath noise against the pulses."""
    vibrato_hz: float
    vibrato_cents: float
    portamento_s: float
    scoop_cents: float
    jitter_cents: float
    singers_formant: float
    """0: F4 and F5 as in speech, 1: drawn together near 3 kHz."""
    air: float
    """Amplitude of what passes above the fifth formant."""
    detune_cents: float = 0.0
    lateness_s: float = 0.0


def draw_voice(rng: np.random.Generator, kind: str) -> Voice:
    """Draws a singer for a register of `melody.VOICE_CENTRES`."""
    sex = "male" if kind in ("baritone", "tenor") else "female"
    return Voice(
        sex=sex,
        tract_scale=float(rng.uniform(0.92, 1.08)) * (1.03 if kind in ("tenor", "soprano") else 1.0),
        open_quotient_soft=float(rng.uniform(0.65, 0.85)),
        open_quotient_loud=float(rng.uniform(0.4, 0.6)),
        tilt_hz=float(rng.uniform(700, 2200)),
        breath=float(10 ** rng.uniform(-2.2, -0.9)),
        vibrato_hz=float(rng.uniform(4.8, 6.4)),
        vibrato_cents=float(rng.choice([8.0, 20.0, 35.0, 55.0]) * rng.uniform(0.8, 1.2)),
        portamento_s=float(rng.uniform(0.04, 0.12)),
        scoop_cents=float(rng.uniform(0, 220)),
        jitter_cents=float(rng.uniform(2, 8)),
        singers_formant=float(rng.choice([0.0, 0.3, 0.8])),
        air=float(10 ** rng.uniform(-1.5, -0.8)),
    )


@dataclass
class _Tracks:
    """Control tracks at CONTROL_HZ: pitch in MIDI numbers, amplitudes, effort, three formants in Hz."""

    pitch: np.ndarray
    voicing: np.ndarray
    aspiration: np.ndarray
    effort: np.ndarray
    formants_hz: np.ndarray


def _vowel_targets(voice: Voice, vowel: str) -> tuple[np.ndarray, np.ndarray]:
    """Where a vowel starts and where it ends, F1..F3 in Hz [3]; equal but for diphthongs."""
    table = FORMANTS_HZ[voice.sex]
    start, end = _DIPHTHONG_ENDS.get(vowel, (vowel, vowel))
    return np.array(table[start], float), np.array(table[end], float)


def _pitch_track(notes: Sequence[SungNote], voice: Voice, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Pitch in MIDI numbers [frames]: glides, scoops, vibrato, drift and jitter."""
    pitch = np.full(frames, float(notes[0].pitch))
    depth = np.zeros(frames)
    previous: SungNote | None = None
    for note in notes:
        first = int(note.start_s * CONTROL_HZ)
        last = min(frames, int((note.end_s + 0.25) * CONTROL_HZ))
        t = np.arange(last - first) / CONTROL_HZ
        if previous is not None and note.start_s - previous.end_s < 0.12:
            glide_s = min(voice.portamento_s, 0.45 * (note.end_s - note.start_s))
            lead = int(0.4 * glide_s * CONTROL_HZ)
            first = max(0, first - lead)
            t = np.arange(last - first) / CONTROL_HZ
            x = np.clip(t / max(glide_s, 1e-3), 0, 1)
            pitch[first:last] = previous.pitch + (note.pitch - previous.pitch) * x * x * (3 - 2 * x)
        else:
            scoop = voice.scoop_cents / 100 * rng.uniform(0.2, 1.0)
            pitch[first:last] = note.pitch - scoop * np.exp(-t / 0.035)
        if note.spoken:
            pitch[first:last] -= rng.uniform(0.5, 3.0) * np.clip(t / (note.end_s - note.start_s), 0, 1.2) ** 1.5
        if note.end_s - note.start_s > 0.35 and not note.spoken:
            depth[first:last] = np.clip((t - 0.2) / 0.25, 0, 1)
        else:
            depth[first:last] = 0.0
        previous = note
    time_s = np.arange(frames) / CONTROL_HZ
    rate_drift = gaussian_filter1d(rng.standard_normal(frames), CONTROL_HZ * 0.4) * 4.0
    phase = 2 * np.pi * np.cumsum(voice.vibrato_hz + rate_drift) / CONTROL_HZ + rng.uniform(0, 2 * np.pi)
    depth = gaussian_filter1d(depth, CONTROL_HZ * 0.03) * (0.85 + 0.15 * np.sin(2 * np.pi * 0.31 * time_s))
    wobble = np.array([gaussian_filter1d(rng.standard_normal(frames), CONTROL_HZ * s) for s in (0.004, 0.25)])
    wobble /= wobble.std(axis=1, keepdims=True) + 1e-9
    cents = voice.vibrato_cents * depth * np.sin(phase) + voice.jitter_cents * (0.5 * wobble[0] + wobble[1])
    return pitch + (cents + voice.detune_cents) / 100.0


def _articulate(notes: Sequence[SungNote], voice: Voice, frames: int, rng: np.random.Generator) -> _Tracks:
    """Lays syllables on the control tracks."""
    voicing, aspiration, effort = np.zeros(frames), np.zeros(frames), np.full(frames, 0.5)
    formants = np.tile(_vowel_targets(voice, "uh")[0], (frames, 1))
    filled_to = 0
    for index, note in enumerate(notes):
        gap_after_s = (notes[index + 1].start_s if index + 1 < len(notes) else 1e9) - note.end_s
        closes = gap_after_s > 0.12
        first, last = int(note.start_s * CONTROL_HZ), int((note.end_s + (0.05 if closes else 0.0)) * CONTROL_HZ)
        last = min(max(last, first + 10), frames)
        if first >= frames:
            break
        level = (note.velocity / 100.0) ** 1.3
        n = last - first
        x = np.arange(n) / n
        swell = 0.88 + 0.12 * np.sin(np.pi * np.clip(x * 1.2, 0, 1)) - 0.18 * x
        voicing[first:last] = level * swell
        release = min(n // 2, int((rng.uniform(0.05, 0.14) if closes else 0.012) * CONTROL_HZ))
        if closes and release > 0:
            voicing[last - release : last] *= np.linspace(1, 0, release) ** 1.5
        effort[first:last] = np.clip((note.velocity - 60) / 55.0, 0, 1)
        start, end = _vowel_targets(voice, note.vowel)
        move = np.clip((x - 0.45) / 0.45, 0, 1)[:, None]
        formants[first:last] = start + (end - start) * move
        _onset(note, voicing, aspiration, formants, level, start, max(filled_to, 0))
        _coda(note, voicing, formants, level, last, closes)
        filled_to = last
    attack = gaussian_filter1d(voicing, CONTROL_HZ * 0.006)
    shimmer = 1 + 0.05 * gaussian_filter1d(rng.standard_normal(frames), CONTROL_HZ * 0.01)
    return _Tracks(
        pitch=_pitch_track(notes, voice, frames, rng),
        voicing=attack * shimmer,
        aspiration=gaussian_filter1d(aspiration, CONTROL_HZ * 0.006),
        effort=gaussian_filter1d(effort, CONTROL_HZ * 0.03),
        formants_hz=gaussian_filter1d(formants, CONTROL_HZ * 0.014, axis=0),
    )


def _onset(
    note: SungNote,
    voicing: np.ndarray,
    aspiration: np.ndarray,
    formants: np.ndarray,
    level: float,
    vowel: np.ndarray,
    filled_to: int,
) -> None:
    """Writes the consonant before a vowel into the tracks, over the end of the note before it."""
    if not note.onset:
        return
    first = int(note.start_s * CONTROL_HZ)
    begin = max(0, first - int(_CONSONANT_S[note.onset] * CONTROL_HZ), filled_to - int(0.12 * CONTROL_HZ))
    voicing[begin:first] = level * _VOICED_LEVEL.get(note.onset, 0.12 if note.onset in "bdg" else 0.0)
    locus = np.array(_VOICED_LOCI_HZ.get(note.onset, vowel), float)
    formants[begin:first] = locus
    if note.onset in _ASPIRATED:
        puff = int(_ASPIRATED[note.onset] * CONTROL_HZ)
        aspiration[max(0, first - puff) : first + puff // 3] = 0.12 * level
        formants[begin:first] = vowel


def _coda(note: SungNote, voicing: np.ndarray, formants: np.ndarray, level: float, last: int, closes: bool) -> None:
    """Writes a voiced consonant over a note's end; noisy ones are laid on as noise alone."""
    if note.coda not in _VOICED_LEVEL or note.end_s - note.start_s < 0.2:
        return
    length = int(_CONSONANT_S[note.coda] * CONTROL_HZ)
    fade = np.linspace(1, 0.2, length) if closes else np.ones(length)
    voicing[last - length : last] = level * _VOICED_LEVEL[note.coda] * fade
    formants[last - length : last] = np.array(_VOICED_LOCI_HZ[note.coda], float)


def glottal_table(open_quotient: float, tilt_hz: float, harmonics: int, f0_hz: float) -> np.ndarray:
    """One period of the glottal flow's derivative [table], band-limited to `harmonics`, unit RMS.

    KLGLOTT88: g'(t) = 2 a t - 3 b t^2 with a = 27/(4 Oq^2), b = a/Oq over the open phase, 0 after it,
    then a first-order low-pass at `tilt_hz` applied harmonic by harmonic.
    """
    t = np.arange(_TABLE) / _TABLE
    a = 27.0 / (4.0 * open_quotient**2)
    flow = np.where(t < open_quotient, 2 * a * t - 3 * (a / open_quotient) * t * t, 0.0)
    spectrum = np.fft.rfft(flow)
    spectrum /= 1.0 + 1j * np.arange(len(spectrum)) * f0_hz / tilt_hz
    spectrum[0] = 0.0
    spectrum[harmonics + 1 :] = 0.0
    table = np.fft.irfft(spectrum, _TABLE)
    return table / np.sqrt(np.mean(table**2))


def _source(tracks: _Tracks, voice: Voice, samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Pulses and breath [samples] before the formants."""
    at = np.arange(samples) * (CONTROL_HZ / sample_rate)
    frames = np.arange(len(tracks.pitch))
    control_hz = 440.0 * 2.0 ** ((tracks.pitch - 69.0) / 12.0)
    phase = np.cumsum(np.interp(at, frames, control_hz) / sample_rate)
    phase -= np.floor(phase)
    octaves = 3 * np.log2(control_hz)
    lowest = np.floor(octaves.min())
    third = (octaves - lowest).astype(np.int32)
    tops_hz = 2.0 ** ((lowest + np.arange(third.max() + 1) + 1) / 3)
    index = (phase * _TABLE).astype(np.float32)
    left = np.minimum(index.astype(np.int32), _TABLE - 1)
    fraction = index - left
    base = left + (_TABLE + 1) * third[np.minimum(at.astype(np.int32), len(third) - 1)]
    pulses = []
    for quotient, tilt in ((voice.open_quotient_soft, voice.tilt_hz), (voice.open_quotient_loud, 5 * voice.tilt_hz)):
        rows = [glottal_table(quotient, tilt, min(int(0.48 * sample_rate / hz), 900), hz) for hz in tops_hz]
        tables = np.array([np.append(row, row[0]) for row in rows], np.float32).ravel()
        pulses.append(tables[base] * (1 - fraction) + tables[base + 1] * fraction)
    effort = np.interp(at, frames, tracks.effort).astype(np.float32)
    voicing = np.interp(at, frames, tracks.voicing).astype(np.float32)
    aspiration = np.interp(at, frames, tracks.aspiration).astype(np.float32)
    noise = rng.standard_normal(samples, dtype=np.float32)
    glottis = 0.4 + 0.6 * (phase < voice.open_quotient_loud).astype(np.float32)
    breath = noise * (voicing * voice.breath * glottis * (1.2 - effort) + aspiration)
    return voicing * (pulses[0] * (1 - effort) + pulses[1] * effort) + breath


def _formant_sections(tracks: _Tracks, voice: Voice, blocks: int, sample_rate: int) -> np.ndarray:
    """Second-order sections [blocks, 5, 6] of the cascade, one set a block (Klatt 1980, eq. 1-2)."""
    frame = np.minimum((np.arange(blocks) + 0.5) * _BLOCK_S * CONTROL_HZ, len(tracks.pitch) - 1)
    frames = np.arange(len(tracks.pitch))
    moving = np.stack([np.interp(frame, frames, tracks.formants_hz[:, k]) for k in range(3)], axis=1)
    moving = moving * voice.tract_scale
    f0_hz = 440.0 * 2.0 ** ((np.interp(frame, frames, tracks.pitch) - 69.0) / 12.0)
    moving[:, 0] = np.maximum(moving[:, 0], 1.05 * f0_hz)
    moving[:, 1] = np.maximum(moving[:, 1], moving[:, 0] + 150)
    base = (3500.0, 4500.0) if voice.sex == "male" else (4000.0, 5000.0)
    pull = voice.singers_formant
    fourth = base[0] * voice.tract_scale * (1 - 0.12 * pull)
    fifth = base[1] * voice.tract_scale * (1 - 0.25 * pull)
    frequency = np.concatenate([moving, np.full((blocks, 1), fourth), np.full((blocks, 1), fifth)], axis=1)
    bandwidth = np.concatenate(
        [60 + 0.06 * moving[:, :1], 70 + 0.03 * moving[:, 1:2], 90 + 0.03 * moving[:, 2:3]], axis=1
    )
    bandwidth = np.concatenate([bandwidth, np.full((blocks, 1), 220.0), np.full((blocks, 1), 320.0)], axis=1)
    c = -np.exp(-2 * np.pi * bandwidth / sample_rate)
    b = 2 * np.exp(-np.pi * bandwidth / sample_rate) * np.cos(2 * np.pi * frequency / sample_rate)
    sections = np.zeros((blocks, 5, 6))
    sections[..., 0] = 1 - b - c
    sections[..., 3] = 1.0
    sections[..., 4] = -b
    sections[..., 5] = -c
    return sections


def _filter(source: np.ndarray, sections: np.ndarray, sample_rate: int) -> np.ndarray:
    """Runs the time-varying cascade block by block, its state carried over; silent blocks are skipped.

    Blocks over which no coefficient moves by more than `_STEADY` share one call with the first's.
    """
    block = int(_BLOCK_S * sample_rate)
    blocks = len(source) // block
    out = np.zeros(len(source), np.float32)
    sounding = np.abs(source[: blocks * block].reshape(blocks, block)).max(axis=1) > 0
    sounding = maximum_filter1d(
        sounding, 17, mode="constant", origin=8
    )  # formants ring on for 8 blocks after the source
    poles = sections[:blocks, :, 4:]
    state = np.zeros((5, 2))
    k = 0
    while k < blocks:
        if not sounding[k]:
            state = np.zeros((5, 2))
            k += 1
            continue
        end = k + 1
        while end < blocks and end < k + 16 and sounding[end] and np.abs(poles[end] - poles[k]).max() < _STEADY:
            end += 1
        span = slice(k * block, end * block)
        out[span], state = sosfilt(sections[k], source[span], zi=state)
        k = end
    return out


def _bandpass(low_hz: float, high_hz: float, order: int, sample_rate: int) -> np.ndarray:
    """Second-order sections of a Butterworth band-pass."""
    return np.asarray(butter(order, (low_hz, high_hz), "bandpass", fs=sample_rate, output="sos"))


def _consonant_noise(notes: Sequence[SungNote], samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Bursts and fricatives [samples], and a breath drawn before some phrases."""
    out = np.zeros(samples, np.float32)
    filters = {name: _bandpass(low, high, 2, sample_rate) for name, (low, high, _, _) in _NOISE.items()}
    inhale = _bandpass(900, 6000, 1, sample_rate)
    for note in notes:
        level = (note.velocity / 100.0) ** 1.2
        for sound, end_s in ((note.onset, note.start_s), (note.coda, note.end_s + 0.06)):
            if sound not in _NOISE or (sound == note.coda and note.end_s - note.start_s < 0.2):
                continue
            _, _, gain, length_s = _NOISE[sound]
            lag_s = _ASPIRATED.get(sound, 0.0)
            _add_noise(out, filters[sound], end_s - length_s - lag_s, length_s, gain * level, sample_rate, rng)
        if note.phrase_start and rng.random() < 0.5:
            _add_noise(out, inhale, note.start_s - 0.42, 0.26, 0.02, sample_rate, rng)
    return out


def _add_noise(
    out: np.ndarray,
    sos: np.ndarray,
    start_s: float,
    length_s: float,
    gain: float,
    sample_rate: int,
    rng: np.random.Generator,
) -> None:
    """Adds band-passed noise with a rounded envelope; what falls outside the song is left out."""
    first, count = int(start_s * sample_rate), max(int(length_s * sample_rate), 32)
    burst = np.asarray(sosfilt(sos, rng.standard_normal(count)))
    x = np.linspace(0, 1, count)
    envelope = np.sin(np.pi * x**0.6) if length_s > 0.04 else np.exp(-3 * x) * np.clip(x * 12, 0, 1)
    last = min(first + count, len(out))
    if first >= 0 and last > first:
        out[first:last] += (gain * burst * envelope)[: last - first].astype(np.float32)


def sing(
    notes: Sequence[SungNote], voice: Voice, duration_s: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Sings notes and returns mono float32 [duration_s * sample_rate]; silence where nothing is sung.

    Notes must be in order and not overlap. Level: a vowel at velocity 100 has an RMS near 0.1.
    """
    samples = round(duration_s * sample_rate)
    if not notes:
        return np.zeros(samples, np.float32)
    frames = int(duration_s * CONTROL_HZ) + 2
    tracks = _articulate(notes, voice, frames, rng)
    source = _source(tracks, voice, samples, sample_rate, rng)
    blocks = samples // int(_BLOCK_S * sample_rate) + 1
    body = _filter(source, _formant_sections(tracks, voice, blocks, sample_rate), sample_rate)
    body *= 0.1 / (np.sqrt(np.mean(body[np.abs(body) > 1e-4] ** 2)) + 1e-9)
    air = np.asarray(sosfilt(_bandpass(4500, 14000, 2, sample_rate), source), np.float32)
    body += np.float32(0.1 * voice.air) * air
    body += 0.3 * _consonant_noise(notes, samples, sample_rate, rng)
    late = round(voice.lateness_s * sample_rate)
    if late > 0:
        body = np.concatenate([np.zeros(late, np.float32), body[:-late]])
    return body
