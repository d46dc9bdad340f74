"""The model card of an exported encoder, in Markdown."""

from pathlib import PurePath
from typing import Any

from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS


def model_card(loaded: LoadedEncoder, metrics: dict[str, Any] | None, words: str) -> str:
    """A model card in Markdown: what it was trained on and how, its results, and its limits.

    metrics: of `mixstyle report`, if there are any. words: the author's own text, at the end.
    """
    train, made_from = loaded.settings.get("train", {}), loaded.content.get("made_from", {})
    numbers = train.get("chain_effects") or train.get("style_effects")  # the name that encoders of 0.1 have stored
    if numbers:
        effects = "{} to {} of all, in random chains".format(*numbers)
    else:
        effects = ", ".join(train.get("aug_effects", []))
    what = "tracks"
    if train.get("objective") == "chain-grid":
        bank = loaded.settings.get("remix", {})
        what = f"groups of {bank.get('contents', 'several')} mixes that were separated again"
        if bank.get("stems_share"):
            what += f" ({bank['stems_share']:.0%} of the chains: processed stems that were not separated again)"
        effects = "{} to {} of all, in random chains".format(*bank.get("effects", ("1", "8")))
    lines = [
        "# mixstyle encoder",
        "",
        f"Embeddings ({train.get('encoder_dim')} numbers) of how music is mixed. Inputs: four stereo stems at 44.1 kHz "
        f"and {len(DESCRIPTORS)} mixing descriptors.",
        *_parts(loaded.encoder.config.part_s),
        "",
        "## Training",
        "",
        f"- {loaded.step} steps of {train.get('batch_size')} {what}, clips of {train.get('clip_duration_s')} s; "
        f"AdamW at {train.get('learning_rate')}, temperature {train.get('temperature')}, seed {train.get('seed')}",
        f"- objective {train.get('objective', 'same-song')}; effects {effects or 'as published'}; FX normalisation "
        f"{'on' if train.get('fx_normalise') else 'off'}; loudness matched: "
        f"{'yes' if train.get('loudness_match') else 'no'}",
        f"- stems {made_from.get('stems', 'unknown')} from the separator "
        f"{', '.join(map(str, loaded.separators)) or 'unknown'}, split by track; "
        f"{len(loaded.content.get('trained_on', ()))} songs",
    ]
    if "start" in made_from:
        before = PurePath(str(train.get("start_from"))).name
        lines.append(
            f"- started from the weights of {before} ({made_from['start']}): its songs and separators count too"
        )
    if metrics:
        lines += ["", "## Results", "", *(f"- {name}: {value}" for name, value in sorted(metrics.items()))]
    lines += [
        "",
        "## Limits",
        "",
        "- It is made for stems of the separator named above. The artefacts of another separator shift the embedding.",
        "- It was not trained on silence, speech or single instruments.",
    ]
    if words:
        lines += ["", words.strip()]
    return "\n".join(lines) + "\n"


def _parts(part_s: float | None) -> list[str]:
    """How long clips are embedded, where that is not as a whole."""
    if part_s is None:
        return []
    longest = f"{1.5 * part_s:g}"
    return ["", f"Clips of more than {longest} s are embedded in equal parts of about {part_s:g} s; their mean counts."]
