"""Where the settings keep folders and files that may be behind URLs, with working folders on this machine."""

from dataclasses import replace
from pathlib import Path

from mixstyle.cache.storage.remote_file import fetched_file
from mixstyle.cache.storage.remote_folder import KeptFolder, kept_folder, read_folder
from mixstyle.stages.common.assets import shipped_encoder
from mixstyle.stages.settings.profile import Settings


def training_folder(settings: Settings) -> KeptFolder:
    """The training's folder, to be written. Nothing is looked at yet."""
    return kept_folder(settings.train.checkpoint_dir, settings.train.stems_cache_dir)


def trained_folder(settings: Settings) -> KeptFolder:
    """The same, to be read."""
    return read_folder(settings.train.checkpoint_dir, settings.train.stems_cache_dir)


def with_training_folder(settings: Settings, folder: Path) -> Settings:
    """The settings with the folder of this machine in which the training's files are."""
    if settings.train.checkpoint_dir == folder:
        return settings
    return replace(settings, train=replace(settings.train, checkpoint_dir=folder))


def report_folder(settings: Settings, *, to_read: bool = False) -> KeptFolder:
    """The report's folder, to be written unless `to_read`. Nothing is looked at yet."""
    return (read_folder if to_read else kept_folder)(settings.report.report_dir, settings.train.stems_cache_dir)


def evaluation_folder(settings: Settings, *, to_read: bool = False) -> KeptFolder:
    """The evaluation's folder, to be written unless `to_read`. Nothing is looked at yet."""
    return (read_folder if to_read else kept_folder)(settings.evaluate.evaluate_dir, settings.train.stems_cache_dir)


def with_trained(settings: Settings, *names: str) -> Settings:
    """The settings with a folder of this machine that holds the training's files of these names, as they are kept.

    Raises MixstyleError where they cannot be had from the store.
    """
    folder = trained_folder(settings)
    folder.fetch(*names)
    return with_training_folder(settings, folder.folder)


def encoder_file(settings: Settings) -> Path:
    """The encoder that songs are embedded with, on this machine: the named one, a copy of it, or the shipped one.

    Raises MixstyleError where what is behind a URL cannot be had, and where this installation has no encoder.
    """
    named = settings.embed.encoder
    return shipped_encoder() if named is None else fetched_file(named, settings.train.stems_cache_dir)


def with_encoder(settings: Settings) -> Settings:
    """The settings with a file of this machine for the encoder, where they name one; so that it stays the same one.

    Raises MixstyleError as `encoder_file` does.
    """
    if settings.embed.encoder is None:
        return settings
    return replace(settings, embed=replace(settings.embed, encoder=encoder_file(settings)))
