"""What ``arcsm eval`` does with models: figures of examples, collected and written as they come."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.progress import progress
from arcsm_cli.errors import UsageError
from arcsm_cli.registry import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from arcsm_cli.data.options import DataOptions
    from arcsm_cli.data.stream import Examples
    from arcsm_cli.distributed.ranks import Ranks
    from arcsm_cli.evaluation.any_order import Question
    from arcsm_cli.evaluation.figures import Found
    from arcsm_cli.evaluation.vae_metrics import Likelihoods
    from arcsm_cli.io.checkpoint import Checkpoint


class Source(NamedTuple):
    """The model that is measured, its file, and DATA as named."""

    name: str
    digest: str
    data: str
    checkpoint: "Checkpoint"
    model: Any


class Target(NamedTuple):
    """Where the examples as evaluated go, if anywhere, and how many are evaluated at a time."""

    output: str | None
    batch_size: int | None
    force: bool


def _collect(
    source: Source,
    examples: "Examples",
    batches: "Iterator[Found]",
    target: Target,
    seed: int,
    ranks: "Ranks",
    advance: "Callable[[int], None]" = lambda steps: None,
) -> dict[str, Any]:
    """Every figure as one array, on the first rank; the examples are written as they come."""
    from arcsm_cli.evaluation.figures import collect
    from arcsm_cli.io.provenance import extend
    from arcsm_cli.io.sample_output import sample_output

    inputs = {source.name: source.digest, source.data: examples.digest}
    chain = [source.checkpoint.provenance, examples.source]
    file = sample_output(
        target.output,
        examples.shape,
        extend(chain, provenance_entry(seed=seed, inputs=inputs)),
        columns=source.model.config.columns,
        force=target.force,
        writes=ranks.is_first,
    )
    with file as append:
        return collect(batches, len(examples), append=append, advance=advance)


def measure_model(
    source: Source,
    options: "DataOptions",
    metrics: list[str],
    method: str | None,
    perturb: bool,
    target: Target,
    ranks: "Ranks",
    question: "Question | None" = None,
    dequantize: bool = False,
) -> dict[str, Any]:
    """Return what ``arcsm eval`` prints of an autoregressive model; {} on all ranks but the first.

    Arguments:
        metrics: those of `METRICS` for models; none stands for all that the model has.
        method: of the likelihood, or None.
        perturb: whether to add the model's last noise level to DATA.
        ranks: share the examples.
        question: the part of the variables that is asked for, if not all in one order.
        dequantize: bound the bits per dimension of 8-bit images, see `check_dequantized`.

    Raises:
        ArcsmError: options that do not fit the model, data that do not, an output in the way.
    """
    from arcsm_cli.data.conditions import names_of
    from arcsm_cli.data.stream import open_stream
    from arcsm_cli.evaluation.figures import check_shape
    from arcsm_cli.evaluation.likelihood import default_method
    from arcsm_cli.evaluation.model_metrics import (
        check_dequantized,
        density_text,
        dequantized_text,
        evaluate,
        metrics_of,
        noise_bpd,
        summary,
    )
    from arcsm_cli.evaluation.overlap import Trained
    from arcsm_cli.io.sample_output import check_sample_output

    name, model = source.name, source.model
    if target.output is not None:
        check_sample_output(target.output, force=target.force)
    if dequantize:
        check_dequantized(model)
        if question is not None or not perturb or not set(metrics) <= {"bpd"}:
            raise UsageError(
                "--dequantize is of the metric bpd alone, without --target, --given, --orders and "
                "--no-perturb"
            )
        metrics = ["bpd"]
    all_of_it = [m for m in metrics_of(model) if not METRICS.has(m, "labels")]
    metrics = metrics or [m for m in all_of_it if question is None or m in ("nll", "bpd")]
    for metric in metrics:
        if metric not in metrics_of(model) and METRICS.has(metric, "labels"):
            given = names_of(model.config.given)
            raise UsageError(
                f"--metric {metric} is of models given labels alone; {name} is given {given}"
            )
        if metric not in metrics_of(model):
            raise UsageError(f"--metric {metric} is of scores, {name} has none: use nll or bpd")
    if method is not None and not {"nll", "bpd", "accuracy"} & set(metrics):
        raise UsageError(f"--method {method} applies to the metrics nll, bpd and accuracy alone")
    asked = None if question is None else question.dimensions(model)
    count = 0 if asked is None else int(asked.sum())
    if question is not None and not set(metrics) <= {"nll", "bpd"}:
        raise UsageError("--target, --given and --orders apply to the metrics nll and bpd alone")
    trained = Trained.of(source.checkpoint)
    stream = open_stream(
        source.data,
        options,
        default_split="test",
        like=model.config.shape,
        names=model.config.columns,
        given=model.config.given,
        part=trained.unseen,
    )
    with stream as examples:
        check_shape(model, examples)
        overlap = trained.overlap(examples) if ranks.is_first else {}
        batches = evaluate(
            model,
            examples,
            metrics=metrics,
            method=method,
            perturb=perturb,
            batch_size=target.batch_size or 128,
            seed=options.seed,
            question=question,
            dequantize=dequantize,
            ranks=ranks,
        )
        with progress(len(examples), "evaluating") as bar:
            figures = _collect(source, examples, batches, target, options.seed, ranks, bar.update)
    if not ranks.is_first:
        return {}
    result: dict[str, Any] = {
        "model": name,
        "data": examples.name,
        "examples": len(examples),
        "metrics": summary(model, figures, metrics, count),
        "inputs": {name: source.digest, source.data: examples.digest},
    } | overlap
    if given := model.config.given:
        result["given"] = names_of(given)
    if {"nll", "accuracy"} & figures.keys():
        if dequantize:
            result["density"] = dequantized_text(model)
            result |= {"bound": True, "data_sha256": examples.digest}
        else:
            result["density"] = density_text(model, perturbed=perturb)
        result["method"] = method or default_method(model)
        if "bpd" in metrics and not dequantize and (floor := noise_bpd(model, asked)) is not None:
            result["bpd_of_the_noise_alone"] = floor
    if question is not None:
        places = [int(part.sum()) for part in (question.target, question.given)]
        result |= {"target_places": places[0], "given_places": places[1]}
        result["orders"] = question.orders or 1
    return result


def measure_vae(
    source: Source,
    options: "DataOptions",
    how: "Likelihoods",
    target: Target,
    feature_weights: str | None,
    ranks: "Ranks",
) -> dict[str, Any]:
    """Return what ``arcsm eval`` prints of a VAE; {} on all ranks but the first.

    Arguments:
        how: the metrics, fid and kid among them, and how they are computed.
        feature_weights: ``--feature-weights``, or None.
        ranks: share the examples.

    Raises:
        ArcsmError: options that do not fit the model, data that do not, an output in the way.
    """
    from arcsm_cli.data.stream import open_stream
    from arcsm_cli.evaluation.overlap import Trained
    from arcsm_cli.evaluation.vae_metrics import (
        check_metrics,
        evaluate_vae,
        ticks,
        vae_density,
        vae_features,
        vae_summary,
    )
    from arcsm_cli.io.sample_output import check_sample_output

    features = [name for name in how.metrics if METRICS.has(name, "features")]
    likelihoods = [name for name in how.metrics if name not in features]
    if feature_weights is not None and not features:
        raise UsageError("--feature-weights applies to the metrics fid and kid alone")
    if features and ranks.size > 1:
        raise UsageError(f"--metric {features[0]} takes one process")
    if target.output is not None:
        if not likelihoods:
            raise UsageError(f"-o writes figures of examples; {', '.join(features)} have none")
        check_sample_output(target.output, force=target.force)
    config = source.model.config
    trained = Trained.of(source.checkpoint)
    stream = open_stream(
        source.data,
        options,
        default_split="test",
        like=config.shape,
        names=config.columns,
        part=trained.unseen,
    )
    with stream as examples:
        check_metrics(source.model, examples, features)
        overlap = trained.overlap(examples) if ranks.is_first else {}
        size = target.batch_size or 20
        how = replace(how, metrics=likelihoods)
        result: dict[str, Any] = {
            "model": source.name,
            "data": examples.name,
            "examples": len(examples),
            "metrics": {},
            "inputs": {source.name: source.digest, source.data: examples.digest},
        } | overlap
        if likelihoods:
            with progress(ticks(examples, how, size, ranks), "evaluating") as bar:
                batches = evaluate_vae(
                    source.model, examples, how, batch_size=size, tick=bar.update, ranks=ranks
                )
                figures = _collect(source, examples, batches, target, options.seed, ranks)
            if not ranks.is_first:
                return {}
            result["metrics"] |= vae_summary(figures)
            result["density"] = vae_density(source.model)
        if features:
            from arcsm_cli.evaluation.feature_weights import find_weights
            from arcsm_cli.evaluation.image_features import InceptionFeatures

            extract = InceptionFeatures(
                find_weights(feature_weights, options), source.model.device.type
            )
            result["feature_weights"] = extract.digest
            with progress(2 * len(examples), "extracting features") as bar:
                result["metrics"] |= vae_features(
                    source.model,
                    examples,
                    extract,
                    features,
                    batch_size=size,
                    seed=options.seed,
                    advance=bar.update,
                )
    return result
