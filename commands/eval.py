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
from arcsm_cli.cli_progress import progress
from arcsm_cli.cli_run import provenance_entry
from arcsm_cli.cli_table import print_result
from arcsm_cli.errors import DamagedInputError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from arcsm_cli.data.dataset import DataOptions

_MODEL_METRICS = ("nll", "bpd", "csm")
_SAMPLE_METRICS = ("moments", "energy")


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
            show_default="all that apply",
            help="Of a model: nll, bpd, csm. Of samples: moments, energy.",
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
    of DATA plus noise of the model's last level, and the composite score matching objective
    (csm). The output says which density was evaluated. 'flow' follows every scalar through the
    noise levels; 'quadrature' normalises the last level's scores on a grid.

    For samples: their moments, and with --against the energy distance to DATA, which is zero in
    expectation for samples of the same distribution.

    Examples:

      arcsm eval digits.safetensors digits --metric nll,bpd
      arcsm eval g.safetensors 8gaussians --method quadrature --json
      arcsm eval digits.safetensors digits -o scored.h5
      arcsm sample m.safetensors -n 500 -o - | arcsm eval - --against digits
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
    if file == "-" and "-" in (data, against):
        raise UsageError("standard input can be read only once")
    with local_input(file) as path:
        kind = sniff(path)
        if kind == "samples":
            if data is not None or method is not None or output is not None:
                raise UsageError("samples take --against DATA, and neither DATA, --method nor -o")
            result = _samples(path, metric, against, options)
        elif kind == "checkpoint":
            if data is None or against is not None:
                raise UsageError("a model is measured on DATA: name it, without --against")
            names = _metrics(metric, _MODEL_METRICS, ["nll", "bpd", "csm"])
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
    print_result(result, json=json)


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
        density_text,
        evaluate,
        noise_bpd,
        summary,
    )
    from arcsm_cli.io.atomic import atomic_output, check_output
    from arcsm_cli.io.provenance import extend, sha256_file
    from arcsm_cli.io.samples import SampleWriter
    from arcsm_cli.models.load import load_model

    if method is not None and not {"nll", "bpd"} & set(metrics):
        raise UsageError(f"--method {method} applies to the metrics nll and bpd alone")
    if output is not None:
        check_output(output, force=force)
    checkpoint, model = load_model(path)
    model = model.to(device)
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
        joint = model.config.annealing == "joint"
        result["density"] = density_text(model, perturbed=perturb)
        result["method"] = method or ("flow" if joint else "quadrature")
        if "bpd" in metrics and (floor := noise_bpd(model)) is not None:
            result["bpd_of_the_noise_alone"] = floor
    return result


def _samples(
    path: "Path", metric: list[str] | None, against: str | None, options: "DataOptions"
) -> dict[str, Any]:
    import torch

    from arcsm_cli.data.spec import load_data
    from arcsm_cli.evaluation.sample_metrics import energy_distance, moments
    from arcsm_cli.io.samples import SampleFile
    from arcsm_cli.io.streams import label

    names = _metrics(
        metric, _SAMPLE_METRICS, ["moments"] if against is None else ["moments", "energy"]
    )
    if "energy" in names and against is None:
        raise UsageError("--metric energy needs --against DATA")
    with SampleFile(path) as samples:
        x = torch.from_numpy(samples.read(0, len(samples)))
    if len(x) == 0:
        raise DamagedInputError(f"{label(path)}: holds no samples")
    result: dict[str, Any] = {"samples": len(x), "metrics": {}}
    if "moments" in names:
        result["metrics"] |= moments(x)
    if "energy" in names and against is not None:
        data = load_data(against, options, default_split="test", like=tuple(x.shape[1:]))
        if data.shape != tuple(x.shape[1:]):
            theirs, ours = (" x ".join(map(str, s)) for s in (data.shape, x.shape[1:]))
            raise DamagedInputError(f"{data.name}: examples are {theirs}, the samples {ours}")
        for name, examples in ((label(path), x), (data.name, data)):
            if len(examples) < 2:
                raise DamagedInputError(
                    f"{name}: has one example, the energy distance takes two or more"
                )
        y = data.take(torch.arange(len(data)))
        result |= {"against": data.name}
        result["metrics"]["energy"] = energy_distance(x, y)
    return result
