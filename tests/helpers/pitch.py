"""The pitch of audio by its autocorrelation, for tests that know nothing of its synthesis."""

import numpy as np


def hz(pitch: float) -> float:
    """The frequency of a MIDI pitch, A4 = 69 = 440 Hz."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def cents(measured_hz: float, wanted_hz: float) -> float:
    """How much higher than wanted, in hundredths of a semitone."""
    return 1200.0 * float(np.log2(measured_hz / wanted_hz))


def autocorrelation_f0(audio: np.ndarray, rate: int, low_hz: float, high_hz: float) -> float:
    """Pitch of a steady voiced stretch: the first high peak of the autocorrelation, refined by a parabola."""
    spectrum = np.fft.rfft(audio * np.hanning(len(audio)), 2 * len(audio))
    lags = np.fft.irfft(np.abs(spectrum) ** 2)[: len(audio)]
    first, last = int(rate / high_hz), int(rate / low_hz)
    peak = first + int(np.argmax(lags[first:last]))
    left, middle, right = lags[peak - 1 : peak + 2]
    return rate / (peak + 0.5 * (left - right) / (left - 2 * middle + right))
