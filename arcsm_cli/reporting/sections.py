"""What a page says of one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.comparisons.experiments import experiment
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation.ood_report import readable
from arcsm_cli.evaluation.restoration import restoration_figures
from arcsm_cli.io import bounded_json
from arcsm_cli.io.comparison_file import load_comparison
from arcsm_cli.io.provenance import sha256_file
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.io.streams import label
from arcsm_cli.plotting.by_kind import figure_of_comparison
from arcsm_cli.reporting import figures
from arcsm_cli.reporting.chain import Known
from arcsm_cli.reporting.contents import contents
from arcsm_cli.reporting.markup import Markup, facts, joined, picture, table, tag

_LONGEST_RESULT = 4 << 20  # bytes of what --json printed
_BLOCK = 1 << 16
_GROUP = "statistics/"
_MANY, _FEW = 64, 16  # images shown, few of those that other figures tell more of
_LIKELIHOODS = ("nll", "elbo", "iwae", "ais")
_CALLED = {
    "ar-csm": "A model of conditional scores",
    "ar-mle": "A model of conditional densities",
    "vae": "A variational autoencoder",
}


@dataclass
class Section:
    """What is said of one file.

    Attributes:
        known: its name, digest and provenance.
        what: what it is, in a few words.
        body: figures and tables.
        metrics: its figures by name, to be set beside those of other files.
        scores: (N,) by statistic, of files that ood-score wrote.
    """

    known: Known
    what: str
    body: Markup
    metrics: dict[str, float] = field(default_factory=dict)
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def section_of(path: Path) -> Section:
    """Read a file and say what it is.

    Raises:
        DamagedInputError: it is damaged, or of a kind that no report is made of.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head.lstrip()[:1] == b"{":
        return _of_result(path)
    found = contents(path)
    known = Known(label(path), sha256_file(path), found.get("provenance", []))
    if found["format"] == "arcsm-checkpoint":
        return _of_checkpoint(known, found)
    if found["format"] == "arcsm-samples":
        return _of_samples(known, path, found)
    if found["format"] == "arcsm-comparison":
        return _of_comparison(known, path, found)
    raise DamagedInputError(
        f"{label(path)}: is a file beside a checkpoint; a report is made of checkpoints, samples, "
        "scores, comparisons and what --json printed"
    )


def _of_checkpoint(known: Known, found: dict[str, Any]) -> Section:
    config, training = _mapping(found["config"]), _mapping(found["training"])
    settings, examples = _mapping(training.get("settings")), _mapping(training.get("examples"))
    levels, shape = config.get("levels"), config.get("shape")
    objective = settings.get("objective", config.get("method"))
    what = f"{_CALLED[found['kind']]}, {found['metrics']['parameters']:,} parameters"
    rows = {
        "examples": _times(shape) if isinstance(shape, list) else None,
        "context network": config.get("context"),
        "objective": objective,
        "noise levels": f"{levels[0]:.3g} to {levels[-1]:.3g}"
        if levels and _are_numbers(levels)
        else None,
        "annealing": config.get("annealing"),
        "size of the code": config.get("latent_dim"),
        "given": [_mapping(c).get("name") for c in config.get("given") or []] or None,
        "trained on": _count_of(examples, "used"),
        "held out": _count_of(examples, "held_out"),
        "steps": training.get("step"),
        "batch size": settings.get("batch_size"),
        "loss": training.get("loss"),
        "held-out loss": training.get("valid_loss"),
    }
    drawn = figures.curves(training, config, known.name)
    body = joined(
        facts({key: value for key, value in rows.items() if _is_plain(value)}),
        None if drawn is None else picture(drawn, "Training curves", "chart"),
    )
    numbers = {"parameters": found["metrics"]["parameters"], "loss": training.get("loss")}
    numbers["held-out loss"] = training.get("valid_loss")
    return Section(known, what, body, _numbers(numbers))


def _of_samples(known: Known, path: Path, found: dict[str, Any]) -> Section:
    count, shape = found["metrics"]["samples"], found["shape"]
    commands = [str(step.get("command")) for step in known.chain]
    with SampleFile(path) as file:
        restored = "clean" in file.names and count > 0
        statistics = _statistics(file)
        measured = {}
        if restored:
            measured = restoration_figures(file, known.name, metrics=["psnr", "mse"])
    scored = bool(statistics) and "ood-score" in commands
    noun = "Restored examples" if restored else "Scored examples" if scored else "Examples"
    if not (restored or statistics) and commands[-1:] == ["sample"]:
        noun = "Samples"
    what = f"{noun}: {count:,} of {_times(shape)}"
    parts: list[Markup | None] = []
    if count and len(shape) in (1, 3):
        image = len(shape) == 3
        few = _FEW if restored or statistics else _MANY
        png = figures.samples(path, images=few if image else None)
        parts.append(picture(png, what, "images" if image else "chart"))
    if measured:
        names = [n for n in ("psnr", "mse") if n in measured]
        rows = [
            {"": who, **{n: _with_error(measured, f"{prefix}{n}") for n in names}}
            for who, prefix in (("restored", ""), ("corrupted", "corrupted_"))
            if f"{prefix}{names[0]}" in measured
        ]
        parts.append(table(rows, "Against the clean examples (psnr in dB)"))
    if statistics:
        parts.append(table([_spread(n, v) for n, v in statistics.items()], "Figures of examples"))
        if not scored:
            parts.append(picture(figures.histograms(statistics), "Histograms", "chart"))
    means = {name: float(v.mean()) for name, v in statistics.items() if np.isfinite(v).all()}
    errors = {f"{n}_se": _error(statistics[n]) for n in means}
    figures_ = {} if scored else means | errors | measured
    return Section(known, what, joined(*parts), figures_, statistics if scored else {})


def _of_comparison(known: Known, path: Path, found: dict[str, Any]) -> Section:
    png = figures.written(figure_of_comparison(path))
    tables = load_comparison(path).tables
    try:
        module = experiment(found["experiment"])
        shown, summary = module.shown(tables), module.summary(tables)
        parts = [table(rows, name) for name, rows in shown.items() if rows]
        if summary:
            parts.append(table([{"figure": k, "value": v} for k, v in summary.items()]))
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DamagedInputError(
            f"{known.name}: its tables are not those of {found['experiment']}: {error!r}"
        ) from error
    what = f"Comparison of objectives: {found['experiment']}"
    return Section(known, what, joined(picture(png, what, "chart broad"), *parts))


def _of_result(path: Path) -> Section:
    name = label(path)
    if path.stat().st_size > _LONGEST_RESULT:
        raise DamagedInputError(f"{name}: is larger than any result that --json prints")
    try:
        found = bounded_json.parse(path.read_bytes().decode("utf-8"), size=_LONGEST_RESULT)
    except (UnicodeDecodeError, bounded_json.JSONError) as error:
        why = error if isinstance(error, bounded_json.JSONError) else "is not UTF-8"
        raise DamagedInputError(f"{name}: {why}; expected what --json printed") from error
    if not isinstance(found, dict) or not isinstance(found.get("metrics"), dict):
        raise DamagedInputError(f"{name}: is JSON without metrics; expected what --json printed")
    metrics = _numbers(found["metrics"])
    inputs = {k: v for k, v in _mapping(found.get("inputs")).items() if isinstance(v, str)}
    known = Known(name, sha256_file(path), [], inputs)
    of = next((found[k] for k in ("model", "scores", "experiment") if k in found), None)
    what = "Figures" if of is None else f"Figures of {of}"
    if isinstance(found.get("data"), str):
        what += f" on {found['data']}"
    about = {
        str(key).replace("_", " "): value
        for key, value in found.items()
        if _is_plain(value) and not isinstance(value, list)
    }
    if "statistics" in found and "against" in found:
        try:
            rest = readable(found, [row["name"] for row in found["against"]])
            tables = [table(rest[k], k) for k in ("statistics", "separation") if rest.get(k)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedInputError(f"{name}: its figures are not those of scores") from error
        return Section(known, what, joined(facts(about), *tables))
    rows = [
        {"figure": key, "value": _with_error(metrics, key)}
        for key in metrics
        if key.removesuffix("_se") == key or key.removesuffix("_se") not in metrics
    ]
    lines = [table(rows)] if rows else [tag("p", "No figures.")]
    return Section(known, what, joined(facts(about), *lines), metrics)


def _statistics(file: SampleFile) -> dict[str, NDArray[np.float64]]:
    """Every figure of one number an example, (N,) by name."""
    found = {}
    for name in file.names if len(file) else []:
        if name.startswith(_GROUP) and file.read(0, 0, name).ndim == 1:
            blocks = [file.read(i, i + _BLOCK, name) for i in range(0, len(file), _BLOCK)]
            found[name.removeprefix(_GROUP)] = np.concatenate(blocks).astype(np.float64)
    return found


def _spread(name: str, values: NDArray[np.float64]) -> dict[str, object]:
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        mean = float(values.mean())
    unit = " (nats)" if name in _LIKELIHOODS else ""
    return {
        "figure": f"{name}{unit}",
        "mean": mean,
        "error": _error(values),
        "least": float(values.min()),
        "median": float(np.median(values)),
        "most": float(values.max()),
    }


def _error(values: NDArray[np.float64]) -> float:
    if len(values) < 2 or not np.isfinite(values).all():
        return float("nan")
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _with_error(metrics: Mapping[str, float], name: str) -> str:
    error = metrics.get(f"{name}_se")
    value = f"{metrics[name]:.5g}"
    return value if error is None else f"{value} \u00b1 {error:.2g}"


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        str(key): value
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, int | float) for v in values)


def _count_of(examples: dict[str, Any], which: str) -> str | None:
    count = examples.get(which)
    return f"{count:,} examples" if isinstance(count, int) and count else None


def _is_plain(value: Any) -> bool:
    return value is not None and value != "" and not isinstance(value, dict)


def _times(shape: list[Any]) -> str:
    return " \u00d7 ".join(map(str, shape)) + ("" if len(shape) > 1 else " values")
