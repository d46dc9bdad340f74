"""Mixes a demo song's parts into four stems: balance, tone, dynamics, space and width.

How a song is mixed is drawn apart from its content, so that equal music can be mixed in unlike ways:
a few song-wide tendencies (wet or dry, narrow or wide, dark or bright, squeezed or open, loud or quiet)
shift every stem's own settings. All that a mixing desk does to a single track is done with pedalboard.

What a mastering engineer does to the sum is done here so that it stays a sum: the bus compressor and
the limiter work out one gain curve from the mixture and apply it to all four stems, and an equaliser on
the bus, being linear, is the same as a share in every stem's own. The mixture is the sum of the stems by definition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pedalboard as pb
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal import resample_poly

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS

PEAK = 0.97
"""No sample of a stem or of the mixture is above this."""
_MAX_PARTS = 6
"""More instruments than any genre has."""
_WORKING_DB = -20.0
"""RMS that a part is brought to before its effects, so that thresholds in dB mean the same for all."""


@dataclass(frozen=True)
class StemMix:
    """What is done to one stem."""

    level_db: float
    """RMS of its active passages against the mixture's."""
    highpass_hz: float
    low_shelf_db: float
    peak_hz: float
    peak_db: float
    high_shelf_db: float
    lowpass_hz: float
    compressor_ratio: float
    compressor_threshold_db: float
    """Against the stem's RMS."""
    attack_ms: float
    release_ms: float
    drive_db: float
    """Input gain of a soft saturation; 0 is none."""
    reverb_db: float
    """Reverberation's RMS against the dry stem's; -60 is none."""
    reverb_room: float
    reverb_damping: float
    reverb_width: float
    """0: the reverberation is mono, 1: as wide as it gets."""
    predelay_ms: float
    echo_db: float
    """Level of a tempo-synchronised echo; -60 is none."""
    chorus: float
    width: float
    """Gain of the side signal: 0 mono, 1 as played."""
    pan: float
    """-1 left to 1 right, of the stem as a whole."""


@dataclass(frozen=True)
class Placement:
    """How one instrument of the `other` stem is set among the others."""

    level_db: float
    pan: float
    double_ms: float
    """Delay of the right channel against the left, as double-tracking or a Haas effect gives; 0 is none."""
    tone_hz: float
    tone_db: float
    high_shelf_db: float


@dataclass(frozen=True)
class SongMix:
    """How a song is mixed: song-wide tendencies, each stem's settings, and the master."""

    wetness: float
    width: float
    brightness: float
    """-1 dark to 1 bright."""
    squeeze: float
    room: float
    stems: dict[str, StemMix]
    placements: tuple[Placement, ...]
    """For the instruments of `other`, in the order of the composition's parts."""
    bus_ratio: float
    """Ratio of the compressor on the mixture."""
    loudness_db: float
    """RMS of the mixture that the master aims at, dBFS."""

    def record(self) -> dict[str, object]:
        """Plain values for JSON, rounded to 3 decimals."""
        return _rounded(asdict(self))


def _rounded(values: Mapping[str, object]) -> dict[str, object]:
    plain: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            plain[name] = _rounded(value)
        elif isinstance(value, tuple):
            plain[name] = [_rounded(item) for item in value]
        else:
            plain[name] = round(value, 3) if isinstance(value, float) else value
    return plain


_LEVELS_DB = {"vocals": (-4.8, 1.9), "bass": (-8.0, 1.9), "drums": (-5.8, 2.0), "other": (-5.8, 2.0)}
"""Mean and standard deviation of the stems' levels against the mixture, as in commercial mixes."""


def draw_mix(rng: np.random.Generator) -> SongMix:
    """Draws the mix settings of a song; they know nothing of the song it will be used on."""
    wetness, width, room = (float(rng.beta(1.2, 1.2)) for _ in range(3))
    brightness = float(np.clip(rng.normal(0, 0.5), -1, 1))
    squeeze = float(rng.beta(1.2, 1.2))
    stems = {name: _draw_stem(rng, name, wetness, width, brightness, squeeze, room) for name in STEMS}
    return SongMix(
        wetness=wetness,
        width=width,
        brightness=brightness,
        squeeze=squeeze,
        room=room,
        stems=stems,
        placements=tuple(_draw_placement(rng, width) for _ in range(_MAX_PARTS)),
        bus_ratio=float(1.0 + 3.0 * squeeze * rng.random()),
        loudness_db=float(-22.0 + 9.0 * squeeze + rng.normal(0, 1.5)),
    )


def _draw_placement(rng: np.random.Generator, width: float) -> Placement:
    doubled = rng.random() < 0.1 + 0.6 * width
    return Placement(
        level_db=float(rng.normal(0, 2.0)),
        pan=float(np.clip(rng.normal(0, 0.1 + 0.7 * width), -0.95, 0.95)),
        double_ms=float(rng.uniform(7, 28)) if doubled else 0.0,
        tone_hz=float(np.exp(rng.uniform(np.log(300), np.log(4000)))),
        tone_db=float(np.clip(rng.normal(0, 3.0), -8, 8)),
        high_shelf_db=float(np.clip(rng.normal(0, 2.5), -8, 8)),
    )


def _draw_stem(
    rng: np.random.Generator, stem: str, wetness: float, width: float, brightness: float, squeeze: float, room: float
) -> StemMix:
    mean_db, deviation_db = _LEVELS_DB[stem]
    wet_offset_db = {"vocals": 2.0, "bass": -14.0, "drums": -2.0, "other": 1.0}[stem]
    dry = rng.random() < {"vocals": 0.08, "bass": 0.75, "drums": 0.25, "other": 0.15}[stem]
    reverb_db = -26.0 + 20.0 * wetness + wet_offset_db + float(rng.normal(0, 2.5))
    echo_chance = {"vocals": 0.4, "bass": 0.0, "drums": 0.08, "other": 0.25}[stem] * (0.4 + wetness)
    stem_width = {"vocals": 0.9, "bass": 0.25, "drums": 0.3 + 1.5 * width, "other": 0.2 + 1.6 * width}[stem]
    narrow_chance = 0.08 if stem in ("drums", "other") else 0.3
    limited = rng.random() < 0.12
    return StemMix(
        level_db=float(np.clip(rng.normal(mean_db, deviation_db), mean_db - 5, mean_db + 3.5)),
        highpass_hz=float({"vocals": 90, "bass": 30, "drums": 30, "other": 90}[stem] * rng.uniform(0.6, 1.6)),
        low_shelf_db=float(np.clip(rng.normal(-1.0 * brightness, 2.5), -8, 8)),
        peak_hz=float(np.exp(rng.uniform(np.log(250), np.log(5000)))),
        peak_db=float(np.clip(rng.normal(0, 3.0), -8, 8)),
        high_shelf_db=float(np.clip(rng.normal(5.0 * brightness, 2.5), -10, 10)),
        lowpass_hz=float(np.exp(rng.uniform(np.log(3500), np.log(14000))) if limited else 20000.0),
        compressor_ratio=float(1.0 + 5.0 * squeeze * rng.random() + (2.0 if stem == "vocals" else 0.0)),
        compressor_threshold_db=float(rng.uniform(-8, 8)),
        attack_ms=float(np.exp(rng.uniform(np.log(1), np.log(40)))),
        release_ms=float(np.exp(rng.uniform(np.log(40), np.log(400)))),
        drive_db=float(rng.uniform(3, 14) if rng.random() < 0.2 + 0.3 * squeeze else 0.0),
        reverb_db=-60.0 if dry else float(np.clip(reverb_db, -34, 1)),
        reverb_room=float(np.clip(0.15 + 0.7 * room + rng.normal(0, 0.1), 0.05, 0.95)),
        reverb_damping=float(np.clip(0.5 - 0.35 * brightness + rng.normal(0, 0.15), 0.05, 0.95)),
        reverb_width=float(np.clip(0.1 + 0.9 * width + rng.normal(0, 0.1), 0, 1)),
        predelay_ms=float(rng.uniform(0, 60)),
        echo_db=float(rng.uniform(-20, -7)) if rng.random() < echo_chance else -60.0,
        chorus=float(rng.uniform(0.2, 0.6)) if stem != "drums" and rng.random() < 0.12 else 0.0,
        width=0.0 if rng.random() < narrow_chance else float(max(0.0, stem_width + rng.normal(0, 0.2))),
        pan=float(np.clip(rng.normal(0, {"vocals": 0.05, "bass": 0.04, "drums": 0.06, "other": 0.1}[stem]), -0.5, 0.5)),
    )


def active_rms(audio: np.ndarray, sample_rate: int) -> float:
    """RMS over the 0.4 s frames of [2, T] that are within 20 dB of the loudest; 0 for silence."""
    frame = int(0.4 * sample_rate)
    count = audio.shape[-1] // frame
    framed = audio[:, : count * frame].reshape(2, count, frame)
    power = np.einsum("cft,cft->f", framed, framed) / (2 * frame)
    loud = power[power > 0.01 * power.max()] if power.max(initial=0.0) > 0 else power[:0]
    return float(np.sqrt(loud.mean())) if loud.size else 0.0


def pan_gains(pan: float) -> np.ndarray:
    """Left and right gains [2, 1] of a balance control with constant power; 1, 1 in the middle."""
    angle = (pan + 1.0) * np.pi / 4.0
    return np.sqrt(2.0) * np.array([[np.cos(angle)], [np.sin(angle)]], np.float32)


def set_width(audio: np.ndarray, width: float) -> np.ndarray:
    """Scales the side signal of [2, T]; 0 gives mono, 1 leaves it as it is."""
    middle = 0.5 * (audio[0] + audio[1])
    side = 0.5 * width * (audio[0] - audio[1])
    return np.stack([middle + side, middle - side])


def to_working_level(audio: np.ndarray, level_db: float, sample_rate: int) -> np.ndarray:
    """Scales [2, T] to `level_db` against the level at which effects work; silence stays silence."""
    rms = active_rms(audio, sample_rate)
    return audio * np.float32(10 ** ((_WORKING_DB + level_db) / 20) / rms) if rms > 0 else audio


def amplify(audio: np.ndarray, drive_db: float, sample_rate: int) -> np.ndarray:
    """A guitar through an overdriven amplifier and its loudspeaker, [2, T]."""
    effects: list[pb.Plugin] = [pb.HighpassFilter(90.0), pb.Distortion(drive_db), pb.LowpassFilter(5200.0)]
    return pb.Chain(effects)(to_working_level(audio, 0.0, sample_rate), sample_rate)


def place(audio: np.ndarray, placement: Placement, level_db: float, sample_rate: int) -> np.ndarray:
    """Sets one instrument [2, T] of a stem at `level_db`, with its tone, pan and double."""
    effects: list[pb.Plugin] = [
        pb.PeakFilter(placement.tone_hz, placement.tone_db, 0.7),
        pb.HighShelfFilter(5000.0, placement.high_shelf_db),
    ]
    audio = pb.Chain(effects)(audio, sample_rate)
    late = round(placement.double_ms * sample_rate / 1000)
    if late:
        audio[1] = np.concatenate([np.zeros(late, np.float32), audio[1, :-late]])
    audio = to_working_level(audio, level_db + placement.level_db, sample_rate)
    return audio * pan_gains(placement.pan)


def process_stem(audio: np.ndarray, mix: StemMix, tempo_bpm: float, sample_rate: int) -> np.ndarray:
    """Runs a stem [2, T] through its channel strip; its level is set later, in `balance`."""
    audio = to_working_level(audio, 0.0, sample_rate)
    effects: list[pb.Plugin] = [
        pb.HighpassFilter(mix.highpass_hz),
        pb.LowShelfFilter(180.0, mix.low_shelf_db),
        pb.PeakFilter(mix.peak_hz, mix.peak_db, 0.9),
        pb.HighShelfFilter(4500.0, mix.high_shelf_db),
    ]
    if mix.lowpass_hz < 0.45 * sample_rate:
        effects.append(pb.LowpassFilter(mix.lowpass_hz))
    if mix.compressor_ratio > 1.05:
        threshold_db = _WORKING_DB + mix.compressor_threshold_db
        effects.append(pb.Compressor(threshold_db, mix.compressor_ratio, mix.attack_ms, mix.release_ms))
    if mix.drive_db > 0:
        effects.append(pb.Distortion(mix.drive_db))
    if mix.chorus > 0:
        effects.append(pb.Chorus(rate_hz=0.8, depth=0.2, mix=mix.chorus))
    if np.array_equal(audio[0], audio[1]):  # half the work for mono sources: basses, single voices
        dry = np.repeat(pb.Chain(effects)(audio[:1], sample_rate), 2, axis=0)
    else:
        dry = set_width(pb.Chain(effects)(audio, sample_rate), mix.width)
    dry *= pan_gains(mix.pan)
    return dry + _space(dry, mix, tempo_bpm, sample_rate)


def _space(dry: np.ndarray, mix: StemMix, tempo_bpm: float, sample_rate: int) -> np.ndarray:
    """Echo and reverberation of a stem, without the stem itself."""
    wet = np.zeros_like(dry)
    if mix.echo_db > -59:
        beat_s = 60.0 / tempo_bpm
        delay = pb.Delay(delay_seconds=0.75 * beat_s, feedback=0.35, mix=1.0)
        tail = pb.Chain([delay, pb.LowpassFilter(4000.0)])(dry, sample_rate)
        wet += np.float32(10 ** (mix.echo_db / 20)) * tail
    if mix.reverb_db > -59:
        reverb = pb.Reverb(mix.reverb_room, mix.reverb_damping, 0.5, 0.0, width=mix.reverb_width)
        tail = pb.Chain([reverb, pb.HighpassFilter(200.0)])(dry + wet, sample_rate)
        late = max(1, int(mix.predelay_ms * sample_rate / 1000))
        tail = np.concatenate([np.zeros((2, late), np.float32), tail[:, :-late]], axis=1)
        level = active_rms(tail, sample_rate)
        if level > 0:
            wet += tail * np.float32(10 ** (mix.reverb_db / 20) * active_rms(dry, sample_rate) / level)
    return wet


def _shared_gain(stems: np.ndarray, ratio: float, sample_rate: int) -> np.ndarray:
    """Gain curve [T] of a bus compressor that hears the mixture (30 ms RMS, 6 dB below its mean)."""
    power = np.mean(np.square(stems.sum(axis=0)), axis=0)
    hop = 64
    frames = power[: len(power) // hop * hop].reshape(-1, hop).mean(axis=1)
    level_db = 10 * np.log10(uniform_filter1d(frames, max(1, int(0.03 * sample_rate / hop))) + 1e-10)
    threshold_db = 10 * np.log10(frames.mean() + 1e-10) - 2.0
    gain_db = -np.clip(level_db - threshold_db, 0, None) * (1 - 1 / ratio)
    gain_db = uniform_filter1d(gain_db, max(1, int(0.12 * sample_rate / hop)))
    at = (np.arange(len(power)) - hop / 2) / hop
    return (10 ** (np.interp(at, np.arange(len(gain_db)), gain_db) / 20)).astype(np.float32)


def _limit(stems: np.ndarray, sample_rate: int) -> np.ndarray:
    """Look-ahead limiter over all stems at once: no sample of the mixture or of a stem exceeds PEAK.

    The gain is the smallest needed within the window, then averaged over the same window, so that it
    moves smoothly and is still never larger than needed.
    """
    peak = np.maximum(np.abs(stems).max(axis=(0, 1)), np.abs(stems.sum(axis=0)).max(axis=0))
    window = 2 * int(0.004 * sample_rate) + 1
    needed = np.minimum(1.0, 0.999 * PEAK / np.maximum(maximum_filter1d(peak, window), 1e-9))
    return stems * uniform_filter1d(needed, window).astype(np.float32)


def balance(stems: Sequence[np.ndarray], mix: SongMix, sample_rate: int) -> np.ndarray:
    """Sets levels, masters, and brings the stems [4][2, T] to SAMPLE_RATE: float32 [4, 2, T'].

    The sum of the result is the mixture.
    """
    levelled = []
    for name, stem in zip(STEMS, stems, strict=True):
        rms = active_rms(stem, sample_rate)
        levelled.append(stem * np.float32(10 ** (mix.stems[name].level_db / 20) / max(rms, 1e-9)))
    audio = np.stack(levelled)
    if mix.bus_ratio > 1.05:
        audio *= _shared_gain(audio, mix.bus_ratio, sample_rate)
    if sample_rate != SAMPLE_RATE:
        divisor = np.gcd(sample_rate, SAMPLE_RATE)
        audio = resample_poly(audio, SAMPLE_RATE // divisor, sample_rate // divisor, axis=-1).astype(np.float32)
    loudness = active_rms(audio.sum(axis=0), SAMPLE_RATE)
    audio *= np.float32(10 ** (mix.loudness_db / 20) / max(loudness, 1e-9))
    return _limit(audio, SAMPLE_RATE)
