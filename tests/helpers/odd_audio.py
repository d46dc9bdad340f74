"""Music files as they are found, made of what soundfile writes: no headers, wrong ones, tags before them."""

import shlex
import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 44_100


def write_ffmpeg(folder: Path, decoded: Path) -> None:
    """A program called ffmpeg that gives what is in a file, whatever it is asked for."""
    (folder / "ffmpeg").write_text(f"#!/bin/sh\nexec /bin/cat {shlex.quote(str(decoded))}\n")
    (folder / "ffmpeg").chmod(0o755)


def noise(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    """[T, C] float32 at about -20 dBFS, quieter and louder by the half second, so that a variable bit rate varies."""
    rng = np.random.default_rng(seed)
    swell = np.where(np.arange(frames) // (RATE // 2) % 2 == 0, 0.1, 0.002)[:, None]
    return (swell * rng.standard_normal((frames, channels))).astype(np.float32)


def write_mp3(path: Path, audio: np.ndarray, variable: bool = False) -> Path:
    """An MP3 as encoders write it, with a first frame that tells its length."""
    mode = "VARIABLE" if variable else "CONSTANT"
    with soundfile.SoundFile(path, "w", RATE, audio.shape[1], bitrate_mode=mode, compression_level=0.5) as file:
        file.write(audio)
    return path


def without_first_frame(data: bytes) -> bytes:
    """An MP3's frames but its first one, which tells the length (layer III at 44.1 kHz)."""
    kbits = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[(data[2] >> 4) - 1]
    size = 144 * kbits * 1000 // RATE + (data[2] >> 1 & 1)
    if b"Xing" not in data[:size] and b"Info" not in data[:size]:
        raise ValueError("no header in the first frame")
    return data[size:]


def id3v2(size: int) -> bytes:
    """A tag of that many bytes and its header of 10."""
    length = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + length + (b"\xff\xfb\x90\x00 cover " * (size // 11 + 1))[:size]


def without_length(flac: bytes) -> bytes:
    """A FLAC as encoders leave it that write to a pipe: no number of samples, no MD5 (RFC 9639, section 8.2)."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + bytes(16) + flac[42:]


def with_last_granule(ogg: bytes, more: int) -> bytes:
    """An Ogg whose last page says that so many samples more have been (RFC 3533, section 6)."""
    place = ogg.rindex(b"OggS")
    page = bytearray(ogg[place:])
    granule = struct.unpack("<q", page[6:14])[0] + more
    page[6:14] = struct.pack("<q", granule)
    return ogg[:place] + with_checksum(page)


def with_checksum(page: bytearray) -> bytes:
    """A page of an Ogg with its checksum (RFC 3533, section 6)."""
    page[22:26] = bytes(4)
    crc = 0
    for byte in page:
        crc = (crc << 8 ^ _OGG_CRC[crc >> 24 ^ byte]) & 0xFFFFFFFF
    page[22:26] = struct.pack("<I", crc)
    return bytes(page)


def with_serial(ogg: bytes, serial: int) -> bytes:
    """An Ogg of one stream, by another number of its stream."""
    made, place = b"", 0
    while place < len(ogg):
        body = place + 27 + ogg[place + 26]
        end = body + sum(ogg[place + 27 : body])
        page = bytearray(ogg[place:end])
        page[14:18] = struct.pack("<I", serial)
        made, place = made + with_checksum(page), end
    return made


def _ogg_crc(value: int) -> int:
    value <<= 24
    for _ in range(8):
        value = (value << 1 ^ (0x04C11DB7 if value & 1 << 31 else 0)) & 0xFFFFFFFF
    return value


_OGG_CRC = [_ogg_crc(value) for value in range(256)]


def without_data_size(wav: bytes) -> bytes:
    """A WAV whose writer died before it filled in the sizes."""
    place = wav.index(b"data")
    return wav[:4] + bytes(4) + wav[8 : place + 4] + bytes(4) + wav[place + 8 :]


def without_long_size(data: bytes) -> bytes:
    """An RF64 whose writer died (EBU Tech 3306: sizes in `ds64`), or a CAF as a pipe gets it (a data size of -1)."""
    if data[:4] == b"RF64":
        place = data.index(b"ds64") + 8
        return data[:place] + bytes(24) + data[place + 24 :]
    place = data.index(b"data") + 4
    return data[:place] + b"\xff" * 8 + data[place + 8 :]
