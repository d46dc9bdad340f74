"""The command line: names, help and errors. What the commands do stands in their own modules."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.profile import Settings, load_settings

app = typer.Typer(
    name="mixstyle",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Learns what a mix sounds like, apart from what the song is. "
    "The steps, in order: separate, features, train, report; each goes on where it was stopped.",
)

Config = Annotated[
    str, typer.Option("--config", "-c", help="A profile in configs/ (demo, cpu, fma) or a path to a YAML file.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Overrides a setting, as section.name=value; may be repeated."),
]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Throws away what was made with other settings.")]
DataPath = Annotated[Path | None, typer.Option(help="A folder of music, a .txt list, or a .csv with a column `path`.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def _settings(config: str, overrides: list[str] | None, **options: Any) -> Settings:
    """The profile with --set laid over it, and the plain options over that."""
    given = {name.replace("__", "."): value for name, value in options.items() if value is not None}
    return load_settings(config, overrides or [], given)


@app.command("demo-songs")
def demo_songs_command(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where the songs go; the profile's folder unless given.")
    ] = None,
    songs: Annotated[int | None, typer.Option(help="How many songs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same bytes.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds of each song.")] = None,
    stems: Annotated[bool | None, typer.Option("--stems/--no-stems", help="Write the true stems too.")] = None,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
) -> None:
    """Renders songs, with true stems, to try everything on.

    Examples:

      mixstyle demo-songs

      mixstyle demo-songs data/songs --songs 4 --seed 7
    """
    from mixstyle.stages.demo_songs import demo_songs

    chosen = _settings(
        config,
        overrides,
        demo_songs__output_dir=directory,
        demo_songs__songs=songs,
        demo_songs__seed=seed,
        demo_songs__duration_s=duration,
        demo_songs__stems=stems,
    ).demo_songs
    demo_songs(chosen.output_dir, chosen.songs, chosen.seed, chosen.duration_s, chosen.stems, chosen.workers, rebuild)


@app.command("separate")
def separate_command(
    data_path: DataPath = None,
    device: Device = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Prints tracks, hours, disk and time needed, and stops.")
    ] = False,
    devices: Annotated[
        str | None, typer.Option(help="Several devices, such as cuda:0,cuda:1: a worker process on each.")
    ] = None,
    shard_index: Annotated[int, typer.Option(help="Which share of the shards to make, from 0 on.")] = 0,
    num_shards: Annotated[int, typer.Option(help="How many shares there are: one a process, any machines.")] = 1,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
) -> None:
    """Separates clips of every track into stems and writes them as WebDataset shards.

    Examples:

      mixstyle separate --config cpu --data-path ~/music --plan

      mixstyle separate --config cpu --data-path ~/music

      mixstyle separate --set separate.input=stems --data-path musdb18hq/train

      mixstyle separate --config fma --devices cuda:0,cuda:1

      mixstyle separate --config fma --shard-index $SLURM_ARRAY_TASK_ID --num-shards 8
    """
    from mixstyle.stages.separate.stage import plan, separate

    several = [name.strip() for name in devices.split(",")] if devices else None
    settings = _settings(
        config, overrides, separate__data_path=data_path, separate__device=device, separate__devices=several
    )
    if plan_only:
        plan(settings)
        return
    summary = separate(settings, rebuild, shard_index, num_shards)
    if settings.separate.strict and summary.tracks_failed:
        raise MixstyleError(
            f"{summary.tracks_failed} tracks failed (separate.strict is set); see "
            f"{settings.separate.stems_dir / 'failures.csv'}"
        )


@app.command("features")
def features_command(
    device: Device = None,
    shard_index: Annotated[int, typer.Option(help="Which share of the shards to compute, from 0 on.")] = 0,
    num_shards: Annotated[int, typer.Option(help="How many shares there are: one a process, any machines.")] = 1,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
) -> None:
    """Computes the mixing descriptors of the cached clips into a Zarr store.

    Examples:

      mixstyle features

      mixstyle features --config cpu --set features.batch_clips=16

      mixstyle features --config fma --shard-index $SLURM_ARRAY_TASK_ID --num-shards 8
    """
    from mixstyle.stages.features.stage import features

    features(_settings(config, overrides, features__device=device), rebuild, shard_index, num_shards)


@app.command("train")
def train_command(
    batch_size: Annotated[int | None, typer.Option(help="Tracks in a batch.")] = None,
    num_epochs: Annotated[int | None, typer.Option(help="Epochs in all; more than before goes on.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's learning rate.")] = None,
    temperature: Annotated[float | None, typer.Option(help="InfoNCE's temperature.")] = None,
    clip_duration: Annotated[float | None, typer.Option(help="Seconds of each clip that are used.")] = None,
    n_mels: Annotated[int | None, typer.Option(help="Mel bands.")] = None,
    encoder_dim: Annotated[int | None, typer.Option(help="Dimensions of the embedding.")] = None,
    aug_prob: Annotated[float | None, typer.Option(help="Probability of each effect on each stem.")] = None,
    aug_gain_range: Annotated[float | None, typer.Option(help="Stem gains lie within plus and minus this, dB.")] = None,
    devices: Annotated[int | None, typer.Option(help="Processes that share each batch, one a GPU.")] = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
) -> None:
    """Trains the encoder on the cached stems and descriptors.

    Examples:

      mixstyle train

      mixstyle train --config fma --batch-size 12 --device cuda:0

      mixstyle train --config fma --devices 4
    """
    # Threads that wait for each other sleep, else they take the cores from the loader's workers. Before torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from mixstyle.stages.train.stage import train

    settings = _settings(
        config,
        overrides,
        train__batch_size=batch_size,
        train__num_epochs=num_epochs,
        train__learning_rate=learning_rate,
        train__temperature=temperature,
        train__clip_duration_s=clip_duration,
        train__n_mels=n_mels,
        train__encoder_dim=encoder_dim,
        train__aug_prob=aug_prob,
        train__aug_gain_range_db=aug_gain_range,
        train__device=device,
        train__processes=devices,
    )
    train(settings, rebuild)


@app.command("evaluate")
def evaluate_command(
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint or exported encoder; may be repeated.")
    ] = None,
    chains: Annotated[
        int | None, typer.Option("--chains", "--styles", help="Effect chains for each number of effects.")
    ] = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
) -> None:
    """Asks what the embedding knows: same effects on other songs, against baselines, on songs not trained on.

    Examples:

      mixstyle evaluate --config cpu

      mixstyle evaluate --config cpu --checkpoint a/best_model.pt --checkpoint b.safetensors --chains 100
    """
    from mixstyle.stages.evaluate.stage import evaluate

    settings = _settings(
        config, overrides, evaluate__checkpoints=checkpoint or None, evaluate__chains=chains, evaluate__device=device
    )
    evaluate(settings, rebuild)


@app.command("export")
def export_command(
    output: Annotated[Path, typer.Argument(help="The file to write, such as encoder.safetensors.")],
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint; the profile's best one if not given.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Weights in float16: half the size.")] = False,
    card: Annotated[Path | None, typer.Option(help="Markdown that the model card ends with.")] = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Writes a trained encoder as one safetensors file, with settings, descriptor statistics and model card.

    Examples:

      mixstyle export encoder.safetensors

      mixstyle export encoder.safetensors --half --checkpoint checkpoints/checkpoint_epoch_50.pt --card words.md
    """
    from mixstyle.stages.export import export

    export(_settings(config, overrides), output, checkpoint, half, card)


@app.command("report")
def report_command(
    device: Device = None, config: Config = "demo", overrides: Set = None, rebuild: Rebuild = False
) -> None:
    """Makes one page about the trained encoder: losses, map, descriptors, song retrieval.

    Examples:

      mixstyle report

      mixstyle report --config cpu --set report.split=test
    """
    from mixstyle.stages.report.stage import report

    report(_settings(config, overrides, report__device=device), rebuild)


@app.command("describe")
def describe_command(
    songs: Annotated[list[Path] | None, typer.Argument(metavar="[SONG]...", help="Music files.")] = None,
    stems: Annotated[
        Path | None, typer.Option(help="A folder of vocals, bass, drums and other, taken instead of separating.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Writes every value and percentile as CSV.")] = None,
    json: Annotated[Path | None, typer.Option(help="The same as JSON.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draws a page; a folder of pages where songs are several.")] = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Describes the mix of a song: loudness, spectrum, stereo, masking, and where it lies among the cached songs.

    Examples:

      mixstyle describe song.wav --png song.png

      mixstyle describe --config cpu --stems "musdb18hq/test/A - B" --csv mix.csv
    """
    from mixstyle.stages.songs.describe.stage import describe_songs

    describe_songs(_settings(config, overrides, separate__device=device), songs or [], stems, csv, json, png)


Encoder = Annotated[Path | None, typer.Option(help="A checkpoint or exported encoder; the shipped one if not given.")]
Index = Annotated[Path | None, typer.Option("--index", help="The folder that the index is in.")]


def _to_embed(
    config: str, overrides: list[str] | None, encoder: Path | None, device: str | None, index_dir: Path | None = None
) -> Settings:
    """The settings of the commands that embed songs."""
    return _settings(config, overrides, embed__encoder=encoder, embed__device=device, embed__index_dir=index_dir)


@app.command("embed")
def embed_command(
    songs: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Music files, or folders of stems.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Ends in .parquet or .npy.")],
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
    from mixstyle.stages.songs.embed import embed

    embed(_to_embed(config, overrides, encoder, device), songs, output)


@app.command("index")
def index_command(
    folder: Annotated[Path, typer.Argument(help="A folder of music.")],
    index_dir: Index = None,
    encoder: Encoder = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
) -> None:
    """Embeds a folder of music into an index to search; run again, it takes what is new.

    Examples:

      mixstyle index ~/music

      mixstyle index ~/music --index ~/music.index --encoder encoder.safetensors
    """
    from mixstyle.stages.songs.index import index

    index(_to_embed(config, overrides, encoder, device, index_dir), folder, rebuild)


@app.command("search")
def search_command(
    song: Annotated[Path, typer.Argument(help="A music file, or a folder of stems.")],
    k: Annotated[int, typer.Option("-k", help="How many songs.")] = 10,
    index_dir: Index = None,
    encoder: Encoder = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Finds the songs of the index that are mixed most like this one, and tells in what they are alike.

    Example:

      mixstyle search song.wav -k 5
    """
    from mixstyle.stages.songs.index import search

    search(_to_embed(config, overrides, encoder, device, index_dir), song, k)


@app.command("compare")
def compare_command(
    first: Annotated[Path, typer.Argument(help="A music file, or a folder of stems.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    png: Annotated[Path | None, typer.Option(help="Draws a page.")] = None,
    encoder: Encoder = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Tells how two mixes differ: the distance, stem by stem, and descriptor by descriptor.

    Example:

      mixstyle compare mine.wav reference.wav --png compared.png
    """
    from mixstyle.stages.songs.compare import compare

    compare(_to_embed(config, overrides, encoder, device), first, second, png)


@app.command("browse")
def browse_command(
    host: Annotated[str, typer.Option(help="Where to listen; others than this machine can reach any other.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes any that is free.")] = 8050,
    index_dir: Index = None,
    encoder: Encoder = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Serves a page to look at the songs of an index and to listen to them.

    Example:

      mixstyle browse --index ~/music.index
    """
    from mixstyle.stages.songs.browse.server import browse

    browse(_to_embed(config, overrides, encoder, device, index_dir), host, port)


@app.command("status")
def status_command(config: Config = "demo", overrides: Set = None) -> None:
    """Tells what each step has done, what is left, what failed, and what is stale and why.

    Example:

      mixstyle status --config cpu
    """
    from mixstyle.stages.status import status

    status(_settings(config, overrides))


def main(run: Callable[[], Any] = app) -> None:
    """Runs the command line; a user's mistake ends in one line on stderr and exit status 1."""
    try:
        run()
    except MixstyleError as error:
        print(f"mixstyle: error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("mixstyle: stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
