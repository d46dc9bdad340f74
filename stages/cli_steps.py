"""Commands that lead from music to a trained encoder."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mixstyle.cache.storage.urls import shown
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cli_options import (
    AllowMixed,
    Config,
    DataPath,
    Device,
    Devices,
    NumShards,
    Ray,
    Rebuild,
    RebuildShares,
    RebuildStale,
    Set,
    ShardIndex,
    made_by,
    ray_options,
    settings_of,
    several_devices,
)


def demo_songs_command(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Where the songs are written.", show_default="demo_songs.output_dir"),
    ] = None,
    songs: Annotated[int | None, typer.Option(help="How many songs.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same bytes.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds of each song.")] = None,
    stems: Annotated[bool | None, typer.Option("--stems/--no-stems", help="Writes the true stems too.")] = None,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
    rebuild_stale: RebuildStale = False,
) -> None:
    """Renders songs, with true stems, to try everything on.

    Examples:

      mixstyle demo-songs

      mixstyle demo-songs data/songs --songs 4 --seed 7
    """
    from mixstyle.stages.demo_songs.stage import demo_songs

    chosen = settings_of(
        config,
        overrides,
        demo_songs__output_dir=directory,
        demo_songs__songs=songs,
        demo_songs__seed=seed,
        demo_songs__duration_s=duration,
        demo_songs__stems=stems,
    ).demo_songs

    def make(again: bool) -> None:
        demo_songs(chosen.output_dir, chosen.songs, chosen.seed, chosen.duration_s, chosen.stems, chosen.workers, again)

    made_by(make, "demo-songs", rebuild, rebuild_stale)


def separate_command(
    data_path: DataPath = None,
    device: Device = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Prints the tracks, hours, disk and time needed, and stops.")
    ] = False,
    devices: Devices = None,
    shard_index: ShardIndex = 0,
    num_shards: NumShards = 1,
    ray: Ray = None,
    allow_mixed: AllowMixed = False,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: RebuildShares = False,
    rebuild_stale: RebuildStale = False,
) -> None:
    """Separates clips of every track into stems and writes them as WebDataset shards.

    Examples:

      mixstyle separate --config cpu --data-path ~/music --plan

      mixstyle separate --config cpu --data-path ~/music

      mixstyle separate --set separate.input=stems --data-path musdb18hq/train

      mixstyle separate --config fma --devices cuda:0,cuda:1

      mixstyle separate --config fma --shard-index $SLURM_ARRAY_TASK_ID --num-shards 8

      mixstyle separate --config fma --ray auto
    """
    from mixstyle.stages.separate.stage import dry_run, separate

    options = {"separate__data_path": data_path, "separate__device": device}
    settings = settings_of(config, overrides, **options)
    if devices:
        several = several_devices(devices, settings.separate.device)
        settings = settings_of(config, overrides, **options, separate__devices=several)
    if plan_only:
        dry_run(settings)
        return
    cluster = ray_options(ray, allow_mixed, devices)
    summary = made_by(
        lambda again: separate(settings, again, shard_index, num_shards, cluster),
        "separate",
        rebuild,
        rebuild_stale,
    )
    if settings.separate.strict and summary.tracks_failed:
        raise MixstyleError(
            f"{summary.tracks_failed} tracks failed (separate.strict is set); see "
            f"{shown(settings.separate.stems_dir / 'failures.csv')}",
            code="bad-audio",
        )


def fetch_separator_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the checkpoint is published: https://...")],
    sha256: Annotated[str, typer.Option(help="Its SHA-256, 64 hexadecimal digits; any other file is refused.")] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write.",
            show_default="the URL's file name, in the separators' folder",
        ),
    ] = None,
    config: Annotated[
        str, typer.Option("--config", "-c", help="The YAML file that is published with it, or a profile that names it.")
    ] = "fma",
) -> None:
    """Downloads a public separator, checks it, and prints the settings that use it; continues a broken download.

    Examples:

      mixstyle fetch-separator https://github.com/ZFTurbo/Music-Source-Separation-Training/releases/download/v1.0.17/model_scnet_masked_ep_111_sdr_9.8286.ckpt

      mixstyle fetch-separator URL --sha256 HEX --output separators/scnet.ckpt --config separators/scnet.yaml
    """
    from mixstyle.stages.fetch_separator import fetch_separator

    fetch_separator(url, sha256, output, config)


def remix_command(
    device: Device = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Prints the clips, disk and time needed, and stops.")
    ] = False,
    devices: Devices = None,
    shard_index: ShardIndex = 0,
    num_shards: NumShards = 1,
    ray: Ray = None,
    allow_mixed: AllowMixed = False,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: RebuildShares = False,
    rebuild_stale: RebuildStale = False,
) -> None:
    """Remixes the cached stems with effect chains, and separates the mixes again: a bank of clips to train on.

    Examples:

      mixstyle remix --config cpu --plan

      mixstyle remix --config cpu --set remix.blocks=100

      mixstyle remix --config fma-remix --devices cuda:0,cuda:1

      mixstyle remix --config fma-remix --shard-index $SLURM_ARRAY_TASK_ID --num-shards 8
    """
    from mixstyle.stages.remix.dry_run import dry_run
    from mixstyle.stages.remix.stage import remix

    settings = settings_of(config, overrides, remix__device=device)
    if devices:
        several = several_devices(devices, settings.remix.device)
        settings = settings_of(config, overrides, remix__device=device, remix__devices=several)
    if plan_only:
        dry_run(settings)
        return
    cluster = ray_options(ray, allow_mixed, devices)
    made_by(lambda again: remix(settings, again, shard_index, num_shards, cluster), "remix", rebuild, rebuild_stale)


def features_command(
    device: Device = None,
    shard_index: ShardIndex = 0,
    num_shards: NumShards = 1,
    ray: Ray = None,
    allow_mixed: AllowMixed = False,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: RebuildShares = False,
    rebuild_stale: RebuildStale = False,
) -> None:
    """Computes the mixing descriptors of the cached clips into a Zarr store.

    Examples:

      mixstyle features

      mixstyle features --config cpu --set features.batch_clips=16

      mixstyle features --config fma --shard-index $SLURM_ARRAY_TASK_ID --num-shards 8
    """
    from mixstyle.stages.features.stage import features

    settings = settings_of(config, overrides, features__device=device)
    cluster = ray_options(ray, allow_mixed)
    made_by(
        lambda again: features(settings, again, shard_index, num_shards, cluster),
        "features",
        rebuild,
        rebuild_stale,
    )


def train_command(
    batch_size: Annotated[int | None, typer.Option(help="Tracks in a batch; with a bank, groups of mixes.")] = None,
    num_epochs: Annotated[int | None, typer.Option(help="Epochs in all; more than before continues.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's learning rate.")] = None,
    temperature: Annotated[float | None, typer.Option(help="InfoNCE's temperature.")] = None,
    clip_duration: Annotated[float | None, typer.Option(help="Seconds of each clip that are used.")] = None,
    n_mels: Annotated[int | None, typer.Option(help="Mel bands.")] = None,
    encoder_dim: Annotated[int | None, typer.Option(help="Dimensions of the embedding.")] = None,
    aug_prob: Annotated[float | None, typer.Option(help="Probability of each effect on each stem.")] = None,
    aug_gain_range: Annotated[float | None, typer.Option(help="Stem gains are within plus and minus this, dB.")] = None,
    devices: Devices = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
    rebuild_stale: RebuildStale = False,
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

    options = {
        "train__batch_size": batch_size,
        "train__num_epochs": num_epochs,
        "train__learning_rate": learning_rate,
        "train__temperature": temperature,
        "train__clip_duration_s": clip_duration,
        "train__n_mels": n_mels,
        "train__encoder_dim": encoder_dim,
        "train__aug_prob": aug_prob,
        "train__aug_gain_range_db": aug_gain_range,
        "train__device": device,
    }
    settings = settings_of(config, overrides, **options)
    if devices:
        several = several_devices(devices, settings.train.device)
        settings = settings_of(config, overrides, **options, train__devices=several, train__processes=len(several))
    made_by(lambda again: train(settings, again), "train", rebuild, rebuild_stale)


def evaluate_command(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="A checkpoint or exported encoder, its URL, or `shipped`; may be repeated.",
            show_default="the best one",
        ),
    ] = None,
    chains: Annotated[
        int | None, typer.Option("--chains", "--styles", help="Effect chains for each number of effects.")
    ] = None,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
    rebuild_stale: RebuildStale = False,
) -> None:
    """Measures what the embedding knows: same effects on other songs, against baselines, on songs not trained on.

    Examples:

      mixstyle evaluate --config cpu

      mixstyle evaluate --config cpu --checkpoint a/best_model.pt --checkpoint b.safetensors --chains 100
    """
    from mixstyle.stages.evaluate.stage import evaluate

    settings = settings_of(
        config, overrides, evaluate__checkpoints=checkpoint or None, evaluate__chains=chains, evaluate__device=device
    )
    made_by(lambda again: evaluate(settings, again), "evaluate", rebuild, rebuild_stale)


def evaluate_musdb_command(
    musdb: Annotated[Path, typer.Argument(metavar="MUSDB", help="MUSDB18-HQ: test/ and train/, a folder a song.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The folder for stems, embeddings and figures.")],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint or exported encoder; may be repeated.", show_default="the shipped one"),
    ] = None,
    chains: Annotated[
        int,
        typer.Option("--chains", "--styles", help="Effect chains with their loudnesses for each number of effects."),
    ] = 500,
    effects: Annotated[str, typer.Option(help="Numbers of effects in a chain.")] = "1,2,3,4,5,6,7,8",
    through_mix: Annotated[
        bool, typer.Option("--through-mix", help="Also sums the processed stems and separates the sums, as your mixes.")
    ] = False,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
) -> None:
    """Runs Fx-Encoder++'s protocol on the true stems of MUSDB18-HQ.

    Examples:

      mixstyle evaluate-musdb data/musdb18hq evaluation/musdb

      mixstyle evaluate-musdb data/musdb18hq evaluation/musdb --checkpoint checkpoints/best_model.pt --effects 1,4,8
    """
    from mixstyle.stages.evaluate.musdb import evaluate_musdb

    numbers = [number.strip() for number in effects.split(",")]
    if not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise MixstyleError(f"--effects {effects:.100}: should be numbers such as 1,4,8", code="bad-option")
    settings = settings_of(config, overrides, separate__device=device, features__device=device, evaluate__device=device)
    evaluate_musdb(
        musdb,
        output,
        settings,
        checkpoints=checkpoint or (),
        chains=chains,
        effects=[int(number) for number in numbers],
        through_mix=through_mix,
        rebuild=rebuild,
    )


def evaluate_match_command(
    stems: Annotated[Path, typer.Argument(metavar="STEMS", help="Songs with true stems, such as MUSDB18-HQ's test/.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The folder for metrics.json.")],
    pairs: Annotated[int, typer.Option(help="How many clips, each with two effect chains.")] = 50,
    unpaired: Annotated[int, typer.Option(help="How many clips, each matched to another song with another chain.")] = 0,
    effects: Annotated[int, typer.Option(help="Effects in each chain.")] = 4,
    separate: Annotated[
        bool, typer.Option("--separate/--no-separate", help="Also measures the match on separated stems.")
    ] = True,
    search: Annotated[
        bool, typer.Option("--search/--no-search", help="Also measures `match --search`: a minute for each pair.")
    ] = False,
    clip_s: Annotated[float, typer.Option(help="Seconds of each clip.")] = 10.0,
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Measures how well `mixstyle match` works: it brings a clip with one effect chain to the same clip with another.

    With --unpaired, also to another song. Run again, it continues where it was stopped.

    Examples:

      mixstyle evaluate-match data/musdb18hq/test evaluation/match

      mixstyle evaluate-match data/demo/stems evaluation/match --pairs 20 --effects 1
    """
    from mixstyle.stages.evaluate.match_pairs import MatchTask, evaluate_match

    settings = settings_of(config, overrides, separate__device=device)
    evaluate_match(stems, output, settings, MatchTask(pairs, unpaired, effects, separate, search, clip_s))


def export_command(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The file to write, such as encoder.safetensors.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint, or `shipped`.", show_default="the best one")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Weights in float16: half the size.")] = False,
    card: Annotated[Path | None, typer.Option(help="A Markdown file, put at the end of the model card.")] = None,
    descriptor_share: Annotated[
        float | None,
        typer.Option(help="Length of the whitened descriptors; the trained part has length 1. For example 0.4.", min=0),
    ] = None,
    part_s: Annotated[
        float | None,
        typer.Option(help="Longer clips are embedded in parts of about this many seconds; 0: whole.", min=0),
    ] = None,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Writes a trained encoder as one safetensors file, with settings, descriptor statistics and model card.

    Examples:

      mixstyle export encoder.safetensors

      mixstyle export encoder.safetensors --half --checkpoint checkpoints/checkpoint_epoch_50.pt --card words.md
    """
    from mixstyle.stages.export import export

    export(settings_of(config, overrides), output, checkpoint, half, card, descriptor_share, part_s)


def report_command(
    device: Device = None,
    config: Config = "demo",
    overrides: Set = None,
    rebuild: Rebuild = False,
    rebuild_stale: RebuildStale = False,
) -> None:
    """Makes one page about the trained encoder: losses, map, descriptors, song retrieval.

    Examples:

      mixstyle report

      mixstyle report --config cpu --set report.split=test
    """
    from mixstyle.stages.report.stage import report

    settings = settings_of(config, overrides, report__device=device)
    made_by(lambda again: report(settings, again), "report", rebuild, rebuild_stale)
