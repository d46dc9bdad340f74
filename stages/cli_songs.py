"""Commands about songs: how they are mixed, and which songs are mixed alike."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixstyle.stages.cli_options import (
    AllowMixed,
    Config,
    Device,
    Encoder,
    Index,
    Ray,
    Rebuild,
    Set,
    ray_options,
    settings_of,
)

if TYPE_CHECKING:
    from mixstyle.stages.settings.profile import Settings


def _song_settings(config: str, overrides: list[str] | None, **options: Any) -> "Settings":
    """The settings of commands that train nothing: `separate.clip_s` may be shorter than the clips of a training."""
    return settings_of(config, overrides, training=False, **options)


def describe_command(
    songs: Annotated[
        list[Path] | None, typer.Argument(metavar="SONG", help="Music files, folders of music or of stems.")
    ] = None,
    stems: Annotated[
        Path | None, typer.Option(help="A folder with vocals, bass, drums and other, to save separating.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Writes every value and percentile as CSV.")] = None,
    json: Annotated[Path | None, typer.Option(help="The same as JSON.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draws a page; for several songs, a folder of pages.")] = None,
    html: Annotated[Path | None, typer.Option(help="The page with sentences and all values, as HTML.")] = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Describes the mix of a song: loudness, spectrum, stereo, masking, and its percentiles among the cached songs.

    Examples:

      mixstyle describe song.wav --png song.png

      mixstyle describe --config cpu --stems "musdb18hq/test/A - B" --csv mix.csv
    """
    from mixstyle.stages.songs.describe.stage import describe_songs

    chosen = _song_settings(config, overrides, separate__device=device)
    describe_songs(chosen, songs or [], stems, csv, json, png, html)


def stems_command(
    songs: Annotated[list[Path], typer.Argument(metavar="SONG", help="Music files, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder; each song gets a subfolder in it.")],
    flac: Annotated[bool, typer.Option("--flac", help="Writes FLAC instead of WAV.")] = False,
    float_: Annotated[
        bool, typer.Option("--float", help="Writes 32-bit float samples, which cannot clip, instead of 24 bits.")
    ] = False,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Writes the four stems of songs, all of each song: DIR/SONG/vocals.wav, bass.wav, drums.wav and other.wav.

    Examples:

      mixstyle stems song.wav -o stems

      mixstyle stems ~/music -o stems --flac
    """
    from mixstyle.cache.music.writer import AudioForm
    from mixstyle.stages.songs.stems import write_stems

    form = AudioForm("flac" if flac else "wav", "float" if float_ else "24")
    write_stems(_song_settings(config, overrides, separate__device=device), songs, output, form)


def match_command(
    song: Annotated[Path | None, typer.Argument(metavar="SONG", help="A music file, or a folder of stems.")] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", "-r", help="The song to match; may be repeated: their mean."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The matched song: .wav or .flac.")] = None,
    chain: Annotated[Path | None, typer.Option(help="Writes the settings as JSON, for `mixstyle apply`.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draws a page.")] = None,
    stems: Annotated[Path | None, typer.Option(help="A folder with the song's stems, to save separating.")] = None,
    amount: Annotated[float, typer.Option(help="How much of each change is made, 0 to 1.")] = 1.0,
    keep: Annotated[list[str] | None, typer.Option(help="A stem that stays as it is; may be repeated.")] = None,
    search: Annotated[
        bool,
        typer.Option("--search/--no-search", help="Also finds compression, saturation, limiting and reverb: slow."),
    ] = False,
    write_stems: Annotated[Path | None, typer.Option(help="A folder for the changed stems.")] = None,
    ab: Annotated[Path | None, typer.Option("--ab", help="A folder for before and after, equally loud.")] = None,
    float_: Annotated[bool, typer.Option("--float", help="Writes 32-bit float WAV instead of 24 bits.")] = False,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Makes a song sound like another: balance, equaliser, pan and width of each stem, in a mixing desk's units.

    Examples:

      mixstyle match mine.wav --reference theirs.wav -o matched.wav --chain chain.json --png match.png

      mixstyle match --stems stems/mine -r theirs.wav -o matched.wav --amount 0.5 --keep vocals

      mixstyle match mine.wav -r theirs.wav -o matched.wav --search
    """
    from mixstyle.pipeline.core.errors import MixstyleError
    from mixstyle.stages.songs.match.stage import MatchOutputs, match

    if not reference or output is None:
        examples = {"--reference theirs.wav": reference, "--output matched.wav": output}
        missing = [example for example, given in examples.items() if not given]
        told = f"a reference and an output are needed: add {' '.join(missing)}"
        raise MixstyleError(told, code="bad-option")
    settings = _song_settings(config, overrides, separate__device=device)
    outputs = MatchOutputs(output, chain, png, write_stems, ab, "float" if float_ else "24")
    match(settings, song, reference, outputs, stems=stems, amount=amount, keep=keep or (), search=search)


def apply_command(
    chain: Annotated[Path, typer.Argument(metavar="CHAIN", help="The file that `mixstyle match --chain` wrote.")],
    songs: Annotated[list[Path], typer.Argument(metavar="SONG", help="Music files, folders of music or of stems.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .wav or .flac for one song, a folder for several.")],
    float_: Annotated[bool, typer.Option("--float", help="Writes 32-bit float WAV instead of 24 bits.")] = False,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Applies the settings that `mixstyle match` found to other songs.

    Examples:

      mixstyle apply chain.json other.wav -o out.wav

      mixstyle apply chain.json ~/album -o matched
    """
    from mixstyle.stages.songs.match.stage import apply

    apply(_song_settings(config, overrides, separate__device=device), chain, songs, output, "float" if float_ else "24")


def _to_embed(
    config: str, overrides: list[str] | None, encoder: Path | None, device: str | None, index_dir: Path | None = None
) -> "Settings":
    """The settings of the commands that embed songs."""
    return _song_settings(config, overrides, embed__encoder=encoder, embed__device=device, embed__index_dir=index_dir)


def embed_command(
    songs: Annotated[list[Path], typer.Argument(metavar="SONG", help="Music files, folders of music or of stems.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Ends in .parquet, .npy, .csv or .json.")],
    encoder: Encoder = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Writes the embeddings of songs.

    Examples:

      mixstyle embed ~/music/*.mp3 -o embeddings.parquet

      mixstyle embed a.wav b.wav -o embeddings.npy --encoder encoder.safetensors
    """
    from mixstyle.stages.songs.embed.stage import embed

    embed(_to_embed(config, overrides, encoder, device), songs, output)


def index_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of music.")],
    index_dir: Index = None,
    encoder: Encoder = None,
    device: Device = None,
    config: Config = "demo",
    ray: Ray = None,
    allow_mixed: AllowMixed = False,
    overrides: Set = None,
    rebuild: Rebuild = False,
) -> None:
    """Embeds a folder of music into an index to search; run again, it adds new and changed songs.

    Examples:

      mixstyle index ~/music

      mixstyle index ~/music --index ~/music.index --encoder encoder.safetensors
    """
    from mixstyle.stages.songs.index.stage import index

    cluster = ray_options(ray, allow_mixed)
    index(_to_embed(config, overrides, encoder, device, index_dir), folder, rebuild, cluster)


def search_command(
    song: Annotated[Path, typer.Argument(metavar="SONG", help="A music file, or a folder of stems.")],
    k: Annotated[int, typer.Option("-k", help="How many songs.")] = 10,
    stem: Annotated[
        str, typer.Option(help="Ranks by the descriptors of this stem only (the encoder embeds whole mixes).")
    ] = "",
    json: Annotated[Path | None, typer.Option(help="Writes the songs found as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Writes the songs found as CSV, a row for each.")] = None,
    index_dir: Index = None,
    encoder: Encoder = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Finds the songs of the index that are mixed most like this one, and shows how they are alike.

    Examples:

      mixstyle search song.wav -k 5

      mixstyle search song.wav --stem drums
    """
    from mixstyle.stages.songs.search.stage import search

    search(_to_embed(config, overrides, encoder, device, index_dir), song, k, json, csv, stem)


def compare_command(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="A music file, or a folder of stems.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Another.")],
    png: Annotated[Path | None, typer.Option(help="Draws a page.")] = None,
    json: Annotated[Path | None, typer.Option(help="Writes all values as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Writes every descriptor of both as CSV.")] = None,
    index_dir: Index = None,
    encoder: Encoder = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Shows how two mixes differ: as a distance, stem by stem, and descriptor by descriptor.

    Example:

      mixstyle compare mine.wav reference.wav --png compared.png
    """
    from mixstyle.stages.songs.compare.stage import compare

    compare(_to_embed(config, overrides, encoder, device, index_dir), first, second, png, json, csv)


def browse_command(
    host: Annotated[
        str, typer.Option(help="The address to listen on. With 127.0.0.1 only this machine can reach the page.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8050,
    take_songs: Annotated[
        bool, typer.Option("--take-songs", help="With --host: other machines may add songs and start matches too.")
    ] = False,
    index_dir: Index = None,
    encoder: Encoder = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Serves a web page: see and hear the songs of an index, and match your own songs to them.

    Example:

      mixstyle browse --index ~/music.index
    """
    from mixstyle.stages.songs.browse.server import browse

    browse(_to_embed(config, overrides, encoder, device, index_dir), host, port, take_songs)
