"""Turns instrument parts into sound through a General MIDI SoundFont.

Why a SoundFont and not synthesis of our own: sampled instruments have the attacks, decays and noises
that make a piano a piano and a snare a snare, which is what a separator learns from, and a font brings
128 of them and 8 drum kits. `midirenderer` (one wheel, no system library) with TimGM6mb, the 6 MB font
that pretty_midi's wheel holds, needs nothing installed and nothing fetched, and renders each part on
its own, so stems are true ones. Larger fonts sound better but weigh 30 to 140 MB; an own subtractive
synthesiser would sound like one player. What the font lacks, a singing voice, is in `voice`.

The font renders dry here (reverb and chorus sends at 0): space belongs to the mix, not to the song.
The renderer works at 48 kHz in 16 bits; parts are rendered at full channel volume to stay far above
the quantisation, and the song is brought to 44.1 kHz once, as finished stems.
"""

import io
import struct

import midirenderer
import numpy as np
from scipy.io import wavfile

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.synth.compose import Part
from mixstyle.pipeline.synth.renderer import soundfont_bytes

RENDER_RATE = 48_000
"""Hz; the renderer's only rate."""
_TICKS_PER_S = 1000
_DRUM_CHANNEL = 9


def _variable_length(value: int) -> bytes:
    """A MIDI variable-length quantity: 7 bits a byte, high bit set on all but the last."""
    encoded = bytes([value & 0x7F])
    while value := value >> 7:
        encoded = bytes([0x80 | (value & 0x7F)]) + encoded
    return encoded


def midi_bytes(part: Part, duration_s: float, volume: int = 127) -> bytes:
    """A standard MIDI file (format 0) of one part, a tick a millisecond, ending at `duration_s`."""
    channel = _DRUM_CHANNEL if part.is_drums else 0
    setup = [(7, volume), (11, 127), (10, 64), (91, 0), (93, 0)]
    events: list[tuple[int, int, bytes]] = []
    for note in part.notes:
        start = round(note.start_s * _TICKS_PER_S)
        end = max(round(note.end_s * _TICKS_PER_S), start + 1)
        events.append((start, 1, bytes([0x90 | channel, note.pitch, note.velocity])))
        events.append((end, 0, bytes([0x80 | channel, note.pitch, 0])))
    last = round(duration_s * _TICKS_PER_S)
    events = sorted(event for event in events if event[0] < last)
    track = b"\x00\xff\x51\x03" + (1_000_000).to_bytes(3, "big")
    track += b"".join(bytes([0, 0xB0 | channel, number, value]) for number, value in setup)
    track += bytes([0, 0xC0 | channel, part.program])
    now = 0
    for tick, _, message in events:
        track += _variable_length(tick - now) + message
        now = tick
    track += _variable_length(last - now) + b"\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, _TICKS_PER_S)
    return header + b"MTrk" + struct.pack(">I", len(track)) + track


def render_part(part: Part, duration_s: float) -> np.ndarray:
    """Renders one part, float32 [2, duration_s * 48000], dry, at the font's own level.

    A part that would clip the renderer's 16 bits is rendered again at a quarter of the amplitude, then
    at a sixteenth, and scaled back. Raises MixstyleError where the renderer's rate is not 48 kHz.
    """
    frames = round(duration_s * RENDER_RATE)
    for volume in (127, 64, 32):
        wave = midirenderer.render_wave_from(soundfont_bytes(), midi_bytes(part, duration_s, volume))
        rate, samples = wavfile.read(io.BytesIO(wave))
        if rate != RENDER_RATE:
            raise MixstyleError(
                f"midirenderer gave {rate} Hz instead of {RENDER_RATE}: install midirenderer 0.1.3", code="no-package"
            )
        if volume == 32 or np.abs(samples.astype(np.int32)).max() < 32_760:
            break
    audio = np.zeros((2, frames), np.float32)
    count = min(frames, len(samples))
    audio[:, :count] = samples[:count].T.astype(np.float32) / 32768.0
    return audio * (127.0 / volume) ** 2
