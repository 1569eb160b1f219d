"""A model as a folder that model hubs know: settings, weights and a model card."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import arcsm_cli
from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint
from arcsm_cli.io.streams import MODEL_FILE
from arcsm_cli.registry import SOURCES

CONFIG_FILE, CARD_FILE = "config.json", "README.md"
FILES = (CONFIG_FILE, MODEL_FILE, CARD_FILE)

_WHAT = {
    "ar-csm": "An autoregressive conditional score model (AR-CSM): univariate scores "
    "d/dx_d log p(x_d | x_<d), which integrate to exact densities.",
    "ar-mle": "An autoregressive model with normalised conditionals, trained by maximum "
    "likelihood.",
    "vae": "A variational autoencoder.",
}


def write_hub_folder(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    name: str,
    licence: str,
    measured: list[dict[str, Any]],
    about: dict[str, str],
) -> None:
    """Write a model's settings, weights and card to an empty folder.

    Arguments:
        name: of the model.
        licence: of the model, as hubs call licences.
        measured: what was measured: ``figures`` by name, and the ``command`` or ``data``.
        about: what else the card says, by title.
    """
    save_checkpoint(folder / MODEL_FILE, checkpoint)
    settings = {
        "model_type": "arcsm",
        "arcsm_version": arcsm_cli.__version__,
        "kind": checkpoint.kind,
        "config": checkpoint.config,
    }
    text = json.dumps(settings, indent=2, sort_keys=True, allow_nan=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    card = _card(checkpoint, name, licence, measured, about)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")


def _card(
    checkpoint: Checkpoint,
    name: str,
    licence: str,
    measured: list[dict[str, Any]],
    about: dict[str, str],
) -> str:
    parts = [_front_matter(checkpoint, name, licence, measured), f"# {name}", ""]
    parts += [_WHAT[checkpoint.kind], ""]
    for title, text in about.items():
        parts += [f"**{title}:** {text}", ""]
    parts += ["## Use", "", *_usage(checkpoint), ""]
    if measured:
        parts += ["## Figures", "", "| figure | value | measured by |", "|---|---|---|"]
        parts += [
            f"| {_cell(figure)} | {value:.6g} | `{_cell(entry.get('command', ''))}` |"
            for entry in measured
            for figure, value in entry["figures"].items()
        ]
        parts.append("")
    parts += ["## How it was made", "", "```sh"]
    parts += [
        shlex.join(["arcsm", str(step.get("command")), *map(str, step.get("arguments", []))])
        for step in checkpoint.provenance
    ]
    parts += ["```", "", "The SHA-256 of all inputs, seeds and versions are in the checkpoint: "]
    parts += [f"`arcsm info {MODEL_FILE}`.", ""]
    return "\n".join(parts)


def _front_matter(
    checkpoint: Checkpoint, name: str, licence: str, measured: list[dict[str, Any]]
) -> str:
    image = len(checkpoint.config.get("shape", ())) == 3
    tags = ["arcsm", checkpoint.kind, "autoregressive", "density-estimation"]
    if checkpoint.kind == "ar-csm":
        tags.append("score-matching")
    card: dict[str, Any] = {"license": licence, "library_name": "arcsm", "tags": tags}
    if image:
        card["pipeline_tag"] = "unconditional-image-generation"
    trained = _trained_on(checkpoint)
    if trained:
        card["datasets"] = [trained]
    if measured:
        metrics = [
            {"type": figure, "name": figure, "value": value}
            for entry in measured
            for figure, value in entry["figures"].items()
        ]
        task = {"type": "unconditional-image-generation" if image else "other"}
        data = {"type": trained or "unknown", "name": trained or "unknown"}
        results = [{"task": task, "dataset": data, "metrics": metrics}]
        card["model-index"] = [{"name": name, "results": results}]
    # Every JSON value is one of YAML.
    lines = (f"{key}: {json.dumps(value, allow_nan=False)}" for key, value in card.items())
    return "\n".join(["---", *lines, "---", ""])


def _trained_on(checkpoint: Checkpoint) -> str:
    """The data set with a name of its own that trained a model, or nothing."""
    inputs = (step.get("inputs") for step in checkpoint.provenance)
    known = (name for each in inputs if isinstance(each, dict) for name in each)
    return next((n for n in (k.partition(":")[0] for k in known) if n in SOURCES), "")


def _usage(checkpoint: Checkpoint) -> list[str]:
    picture = " --png samples.png" if len(checkpoint.config.get("shape", ())) == 3 else ""
    return [
        "```sh",
        "pip install arcsm",
        f"arcsm sample FOLDER -n 64 -o samples.h5{picture}",
        "```",
        "",
        "```python",
        "import arcsm_cli",
        'model = arcsm_cli.load("FOLDER")',
        "samples = model.sample(64, seed=1)",
        "```",
        "",
        f"FOLDER holds these files. `arcsm` reads {MODEL_FILE} alone, which is complete;",
        f"{CONFIG_FILE} repeats its settings for other programs.",
    ]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
