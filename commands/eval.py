"""``arcsm eval``: measure a model or samples."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from arcsm_cli.cli_options import (
    BatchSize,
    CenterCrop,
    DataDir,
    Device,
    Download,
    Force,
    Json,
    Limit,
    OptionalData,
    Resize,
    Seed,
    data_options,
    resolve_device,
)
from arcsm_cli.cli_progress import Bar, progress
from arcsm_cli.cli_run import provenance_entry
from arcsm_cli.cli_table import print_result
from arcsm_cli.errors import DamagedInputError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from arcsm_cli.data.dataset import DataOptions

_MODEL_METRICS = ("nll", "bpd", "csm")
_FEATURE_METRICS = ("fid", "kid")
_RESTORATION_METRICS = ("psnr", "ssim", "mse")
_SAMPLE_METRICS = (
    *("moments", "energy", "sliced-wasserstein"),
    *_FEATURE_METRICS,
    *_RESTORATION_METRICS,
    "auroc",
)


def _metrics(given: list[str] | None, known: tuple[str, ...], default: list[str]) -> list[str]:
    names = [name for item in given or [] for name in item.split(",") if name]
    for name in names:
        if name not in known:
            raise UsageError(f"--metric {name}: here one of {', '.join(known)}")
    return list(dict.fromkeys(names)) or default


def run(
    file: Annotated[
        str, typer.Argument(metavar="MODEL_OR_FILE", help="A checkpoint or samples; - is stdin.")
    ],
    data: OptionalData = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME,...",
            show_default="all that apply, but fid, kid, auroc and those of denoise",
            help="Of a model: nll, bpd, csm. Of samples: moments, energy, "
            "sliced-wasserstein, fid, kid. Of what denoise wrote: psnr, ssim, mse. "
            "Of scores: auroc.",
        ),
    ] = None,
    method: Annotated[
        Literal["flow", "quadrature"] | None,
        typer.Option(
            "--method",
            show_default="flow for joint models",
            help="How the likelihood is computed.",
        ),
    ] = None,
    perturb: Annotated[
        bool,
        typer.Option(
            "--perturb/--no-perturb",
            help="Add the model's last noise level to DATA first; not for data that carry it.",
        ),
    ] = True,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default="none",
            help="Also write the examples as evaluated, with their figures under statistics/.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="DATA", help="What samples are compared with."),
    ] = None,
    feature_weights: Annotated[
        str | None,
        typer.Option(
            "--feature-weights",
            metavar="FILE",
            show_default="in the data folder; see --download",
            help="Inception v3 for fid and kid: .safetensors, or torch-fidelity's published .pth.",
        ),
    ] = None,
    batch_size: BatchSize = 128,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
    data_dir: DataDir = None,
    download: Download = False,
    center_crop: CenterCrop = None,
    resize: Resize = None,
    limit: Limit = None,
) -> None:
    """Measure a model on DATA, or samples.

    For a model: the exact negative log-likelihood (nll, nats an example; bpd, bits per dimension)
    of DATA plus noise of the model's last level, and the composite score matching objective (csm,
    of scores). The output says which density was evaluated. 'flow' follows every scalar through the
    noise levels; 'quadrature' normalises the last level's scores on a grid.

    For samples: their moments, and with --against their distances to DATA. 'energy' is zero in
    expectation for samples of the same distribution. 'sliced-wasserstein' is given with its
    standard error over random directions, and with the distance that chance leaves between two
    sets of these sizes (floor). 'fid' and 'kid' compare images by the features of Inception v3;
    'kid' comes with the standard deviation between its subsets. The network's weights are fetched
    only with --download.

    For what denoise wrote from clean examples: psnr (dB), ssim and mse of the restored and of the
    corrupted examples, for values in [0, 1].

    For scores that ood-score wrote: with --metric auroc, how well each statistic tells them from
    those of --against, see ood-score.

    Examples:

      arcsm eval digits.safetensors digits --metric nll,bpd
      arcsm eval g.safetensors 8gaussians --method quadrature --json
      arcsm eval digits.safetensors digits -o scored.h5
      arcsm sample m.safetensors -n 500 -o - | arcsm eval - --against digits
      arcsm denoise m.safetensors mnist --corrupt gaussian:0.6 -o - | arcsm eval - --metric psnr
      arcsm eval s.h5 --against cifar10 --metric fid,kid --feature-weights inception.safetensors
    """
    from arcsm_cli.io.streams import label, local_input, sniff
    from arcsm_cli.runtime import reuse_memory

    reuse_memory()
    options = data_options(
        data_dir=data_dir,
        download=download,
        center_crop=center_crop,
        resize=resize,
        limit=limit,
        seed=seed,
    )
    torch_device = resolve_device(device)
    if [file, data, against, feature_weights].count("-") > 1:
        raise UsageError("standard input can be read only once")
    with local_input(file) as path:
        kind = sniff(path)
        if kind == "samples":
            if data is not None or method is not None or output is not None:
                raise UsageError("samples take --against DATA, and neither DATA, --method nor -o")
            result = _samples(
                path,
                metric,
                against,
                options,
                feature_weights=feature_weights,
                batch_size=batch_size,
                device=torch_device,
            )
        elif kind == "checkpoint":
            if data is None or against is not None:
                raise UsageError("a model is measured on DATA: name it, without --against")
            if feature_weights is not None:
                raise UsageError("--feature-weights is for samples, with --metric fid or kid")
            names = _metrics(metric, _MODEL_METRICS, [])
            result = _model(
                path,
                label(file),
                data,
                options,
                metrics=names,
                method=method,
                perturb=perturb,
                output=output,
                batch_size=batch_size,
                device=torch_device,
                seed=seed,
                force=force,
            )
        else:
            raise DamagedInputError(
                f"{label(file)}: neither a checkpoint (safetensors) nor samples (HDF5) of arcsm"
            )
    if output == "-":
        return
    print_result(result if json else _readable(result), json=json)


def _readable(result: dict[str, Any]) -> dict[str, Any]:
    """A result as the table shows it: figures that separate sets as rows."""
    if "statistics" not in result:
        return result
    from arcsm_cli.evaluation.ood_report import readable

    return readable(result, [against["name"] for against in result["against"]])


def _model(
    path: "Path",
    name: str,
    data: str,
    options: "DataOptions",
    *,
    metrics: list[str],
    method: str | None,
    perturb: bool,
    output: str | None,
    batch_size: int,
    device: str,
    seed: int,
    force: bool,
) -> dict[str, Any]:
    from contextlib import ExitStack

    import numpy as np

    from arcsm_cli.data.spec import load_data
    from arcsm_cli.evaluation.model_metrics import (
        check_shape,
        default_method,
        density_text,
        evaluate,
        metrics_of,
        noise_bpd,
        summary,
    )
    from arcsm_cli.io.atomic import atomic_output, check_output
    from arcsm_cli.io.provenance import extend, sha256_file
    from arcsm_cli.io.samples import SampleWriter
    from arcsm_cli.models.load import load_model

    if output is not None:
        check_output(output, force=force)
    checkpoint, model = load_model(path)
    model = model.to(device)
    metrics = metrics or list(metrics_of(model))
    for metric in metrics:
        if metric not in metrics_of(model):
            raise UsageError(f"--metric {metric} is of scores, {name} has none: use nll or bpd")
    if method is not None and not {"nll", "bpd"} & set(metrics):
        raise UsageError(f"--method {method} applies to the metrics nll and bpd alone")
    examples = load_data(data, options, default_split="test", like=model.config.shape)
    check_shape(model, examples)
    entry = provenance_entry(seed=seed, inputs={name: sha256_file(path), data: examples.digest})
    batches = evaluate(
        model,
        examples,
        metrics=metrics,
        method=method,
        perturb=perturb,
        batch_size=batch_size,
        seed=seed,
    )
    collected: dict[str, list[Any]] = {}
    with ExitStack() as stack:
        writer = None
        if output is not None:
            target = stack.enter_context(atomic_output(output, force=force))
            chain = extend([checkpoint.provenance, examples.source], entry)
            writer = stack.enter_context(SampleWriter(target, model.config.shape, chain))
        bar = stack.enter_context(progress(len(examples), "evaluating"))
        for batch in batches:
            for key, values in batch.figures.items():
                collected.setdefault(key, []).append(values.numpy())
            if writer is not None:
                writer.append(batch.examples, statistics=batch.figures)
            bar.update(len(batch.examples))
    figures = {key: np.concatenate(values) for key, values in collected.items()}
    result: dict[str, Any] = {
        "model": name,
        "data": examples.name,
        "examples": len(examples),
        "metrics": summary(model, figures, metrics),
    }
    if "nll" in figures:
        result["density"] = density_text(model, perturbed=perturb)
        result["method"] = method or default_method(model)
        if "bpd" in metrics and (floor := noise_bpd(model)) is not None:
            result["bpd_of_the_noise_alone"] = floor
    return result


def _samples(
    path: "Path",
    metric: list[str] | None,
    against: str | None,
    options: "DataOptions",
    *,
    feature_weights: str | None,
    batch_size: int,
    device: str,
) -> dict[str, Any]:
    from contextlib import ExitStack

    from arcsm_cli.data.spec import load_data
    from arcsm_cli.evaluation.feature_weights import find_weights
    from arcsm_cli.evaluation.image_features import InceptionFeatures
    from arcsm_cli.evaluation.restoration import restoration_figures
    from arcsm_cli.evaluation.sample_report import check_comparable, check_images, measure
    from arcsm_cli.io.samples import SampleFile
    from arcsm_cli.io.streams import label

    plain = ["moments"] if against is None else ["moments", "energy", "sliced-wasserstein"]
    names = _metrics(metric, _SAMPLE_METRICS, plain)
    if "auroc" in names:
        if len(names) > 1 or against is None:
            raise UsageError("--metric auroc is of scores, alone, with --against SCORES.h5")
        return _scores(path, against, options.seed)
    restoration = [name for name in names if name in _RESTORATION_METRICS]
    others = [name for name in names if name not in restoration]
    distances = [name for name in others if name != "moments"]
    features = [name for name in names if name in _FEATURE_METRICS]
    if distances and against is None:
        raise UsageError(f"--metric {distances[0]} needs --against DATA")
    if feature_weights is not None and not features:
        raise UsageError("--feature-weights applies to the metrics fid and kid alone")
    with SampleFile(path) as samples, ExitStack() as stack:
        if len(samples) == 0:
            raise DamagedInputError(f"{label(path)}: holds no samples")
        result: dict[str, Any] = {"samples": len(samples)}
        data = extract = None
        bar = Bar()
        if features:
            check_images(samples, label(path), features[0])
            extract = InceptionFeatures(find_weights(feature_weights, options), device)
        if distances and against is not None:
            data = load_data(against, options, default_split="test", like=samples.shape)
            check_comparable(samples, label(path), data)
            result |= {"against": data.name, "examples": len(data)}
        if data is not None and extract is not None:
            result["feature_weights"] = extract.digest
            bar = stack.enter_context(progress(len(samples) + len(data), "extracting features"))
        result["metrics"] = measure(
            samples,
            data,
            metrics=others,
            extract=extract,
            batch_size=batch_size,
            seed=options.seed,
            advance=bar.update,
        )
        if restoration:
            result["metrics"] |= restoration_figures(samples, label(path), metrics=restoration)
    return result


def _scores(path: "Path", against: str, seed: int) -> dict[str, Any]:
    from arcsm_cli.evaluation.ood_report import report, shared_statistics
    from arcsm_cli.io.streams import label

    inside, outside = shared_statistics([str(path), against])
    counts = [len(next(iter(values.values()))) for values in (inside, outside)]
    return {
        "scores": label(path),
        "examples": counts[0],
        "against": [{"name": label(against), "examples": counts[1]}],
        **report(inside, {label(against): outside}, seed=seed),
    }
