"""`mixstyle stems`: writes a song's four stems, all of it, as audio files that other programs open."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mixstyle.cache.music.stems_among_music import is_stem_folder
from mixstyle.cache.music.writer import AudioForm, audio_writer
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.common.songs_left_out import LeftOut, each_song
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.songs.names import distinct_names, page_names, refuse_clashes
from mixstyle.stages.songs.song_arguments import given_songs
from mixstyle.stages.songs.whole_song import WholeSong


@dataclass(frozen=True)
class WrittenStems:
    """A song's stems on disk. residual_db: what the stems do not sum to, against the mix; -inf where nothing is left.
    clipped: samples beyond full scale, which 24 bits cut off."""

    folder: Path
    duration_s: float
    residual_db: float
    clipped: int

    def __str__(self) -> str:
        rest = "exactly" if self.residual_db == -math.inf else f"but for a rest {-self.residual_db:.1f} dB below it"
        cut = f"; {self.clipped} samples were beyond full scale and are cut off, --float keeps them"
        told = f"{self.folder}: {self.duration_s:.1f} s; the stems sum to the mix {rest}"
        return told + (cut if self.clipped else "")


def write_stems(settings: Settings, songs: Sequence[Path], output: Path, form: AudioForm) -> list[WrittenStems]:
    """Writes `output/<song>/vocals.wav` and so on for songs: files, or folders of music, which stand for their files.

    Songs that cannot be used are told and left out. Raises MixstyleError for paths that are not there and outputs that
    cannot be written, before any work, and for songs that were left out, once all others are written.
    """
    files = given_songs(songs)
    check_folder(output)
    folders = [output / name for name in page_names(distinct_names(files), "")]
    for song, folder in zip(files, folders, strict=True):
        if is_stem_folder(song.resolve()):
            raise MixstyleError(f"{song}: is a folder of stems already", code="bad-option")
        refuse_clashes(_paths(folder, form), [song])
    separator = configured_separator(settings.separate, resolve_device(settings.separate.device))
    if separator is None:
        raise MixstyleError(
            "separate.input=stems: nothing is separated; give --set separate.input=mixtures", code="bad-option"
        )

    def write(song: Path, folder: Path, left_out: LeftOut) -> WrittenStems:
        whole = WholeSong(song)
        with progress("stems: reading", 1, "songs", brief=True) as bar:
            look = whole.look
            bar.advance()
        left_out.note(song, look.note)
        found = write_song(whole, separator, settings.separate, folder, form)
        say(f"stems: wrote {found}")
        return found

    return each_song("stems", files, folders, write)


def write_song(
    song: WholeSong, separator: Separator | None, options: SeparateSettings, folder: Path, form: AudioForm
) -> WrittenStems:
    """Writes one song's stems into a folder; what is held in memory does not grow with its length."""
    look, mix_energy, rest_energy = song.look, 0.0, 0.0
    with ExitStack() as stack:
        writers = [stack.enter_context(audio_writer(path, look.frames, form)) for path in _paths(folder, form)]
        with progress("stems", round(look.duration_s), "s", shown=look.duration_s > 1) as bar:
            done = 0
            for mix, stems in song.blocks(separator, options):
                for writer, stem in zip(writers, stems.numpy(), strict=True):
                    writer.write(stem)
                mix_energy += float(mix.double().square().sum())
                rest_energy += float((mix.double() - stems.double().sum(0)).square().sum())
                bar.advance(round(writers[0].frames / SAMPLE_RATE) - done)
                done = round(writers[0].frames / SAMPLE_RATE)
    rest_db = 10 * math.log10(rest_energy / mix_energy) if rest_energy > 0 and mix_energy > 0 else -math.inf
    return WrittenStems(folder, look.duration_s, rest_db, sum(writer.clipped for writer in writers))


def _paths(folder: Path, form: AudioForm) -> list[Path]:
    return [folder / f"{stem}.{form.format}" for stem in STEMS]
