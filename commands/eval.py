"""``arcsm eval``: measure a model or samples."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from arcsm_cli.cli.options import (
    Device,
    Force,
    Json,
    OptionalDataFiles,
    Seed,
    resolve_device,
)
from arcsm_cli.cli.table import print_result
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation.measuring import (
    Source,
    Target,
    measure_model,
    measure_vae,
)
from arcsm_cli.evaluation.sample_measuring import measure_samples
from arcsm_cli.registry import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from arcsm_cli.models.config import ModelConfig


def _metrics(given: list[str] | None, kind: str, *, distances: bool = True) -> list[str]:
    """The metrics that are named, or by default of what is measured, see `METRICS`."""
    known = METRICS.tagged(kind)
    names = [name for item in given or [] for name in item.split(",") if name]
    for name in names:
        if name not in known:
            raise UsageError(f"--metric {name}: here one of {', '.join(known)}")
    default = [name for name in known if METRICS.has(name, "default")]
    return list(dict.fromkeys(names)) or [
        name for name in default if distances or not METRICS.has(name, "distance")
    ]


def run(
    file: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_FILE", help="A MODEL, such as arcsm:NAME, or samples; - is stdin."
        ),
    ],
    data: OptionalDataFiles = None,
    *,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME,...",
            show_default="all that apply, but ais, fid, kid, auroc and those of denoise",
            help="Of a model: nll, bpd, csm; given labels, accuracy. Of samples: moments, energy, "
            "sliced-wasserstein, fid, kid. Of what denoise wrote: psnr, ssim, mse. "
            "Of scores: auroc. Of a VAE: elbo, iwae, ais, fid, kid.",
        ),
    ] = None,
    method: Annotated[
        Literal["flow", "quadrature", "spline"] | None,
        typer.Option(
            "--method",
            show_default="spline for distilled models, flow for other joint ones",
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
    dequantize: Annotated[
        Literal["uniform"] | None,
        typer.Option(
            "--dequantize",
            show_default="none",
            help="Of a model of images: bpd as the bound of 8-bit images that published figures "
            "are, with uniform noise over each grey value's cell in place of the model's.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="PART",
            show_default="all that is not given",
            help="Of a model trained with --order any: the variables whose likelihood is measured, "
            "columns by names or numbers (a,b,3), or of images mask:FILE (an .npy, what is not "
            "zero, or an image, what is white).",
        ),
    ] = None,
    known: Annotated[  # not `given`, which is what DataOptions calls train's
        str | None,
        typer.Option(
            "--given",
            metavar="PART",
            show_default="nothing",
            help="Of the same: the variables that are known, likewise. Those in neither part are "
            "unknown. (What a conditional model was told with train --given, it takes from DATA.)",
        ),
    ] = None,
    orders: Annotated[
        int | None,
        typer.Option(
            "--orders",
            metavar="K",
            min=1,
            max=10_000,
            show_default="one, as the variables stand",
            help="Of the same: average the likelihood, not its logarithm, over K random orders.",
        ),
    ] = None,
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
    chains: Annotated[
        int | None,
        typer.Option(
            "--chains", metavar="N", min=1, show_default="16", help="Of ais, for each example."
        ),
    ] = None,
    temperatures: Annotated[
        int | None,
        typer.Option(
            "--temperatures",
            metavar="N",
            min=2,
            show_default="1000",
            help="Of ais, from prior to posterior.",
        ),
    ] = None,
    importance_samples: Annotated[
        int | None,
        typer.Option(
            "--importance-samples",
            metavar="K",
            min=1,
            show_default="500",
            help="Of iwae and elbo.",
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        typer.Option(
            "--precision",
            show_default="fp32",
            help="Of the gradients that move ais's chains; their weights are exact.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            show_default="128; of a VAE 20",
            help="Examples computed at a time.",
        ),
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
    options: DataOptions,
) -> None:
    """Measure a model on DATA, or samples.

    For a model: the exact negative log-likelihood (nll, nats an example; bpd, bits per dimension)
    of DATA plus noise of the model's last level, and the composite score matching objective at that
    level (csm, of scores; the loss of a training is weighted by sigma^2). The output says which
    density was evaluated. Of a conditional model all is given what DATA say, their labels or
    columns; 'accuracy' is the share of examples whose label is the most probable by Bayes' rule,
    from the likelihoods given each label and the labels' shares in training.

    'flow' follows every scalar through the noise levels; 'quadrature' normalises the last level's
    scores on a grid; 'spline' is of what a distilled model draws, and its difference from the
    others says how far that is from its teacher.

    Published bits per dimension are of 8-bit values: --dequantize uniform gives that bound, of
    models whose last level is at most a third of a grey value's cell (train --dequantize uniform
    --sigma-min 0.0026).

    A model trained with --order any gives the likelihood of some variables given any others,
    exactly: --target A --given B measures log p(A | B), with the others unknown (in nats, and bits
    per dimension of A).

    Of a file without splits that trained the model its test split is measured. Where DATA hold
    examples that trained the model, a line and, in the JSON, overlap say which share of them.

    For samples: their moments, and with --against their distances to DATA. 'energy' is zero in
    expectation for samples of the same distribution. 'sliced-wasserstein' is given with its
    standard error over random directions, and with the distance that chance leaves between two
    sets of these sizes (floor). 'fid' and 'kid' compare images by the features of Inception v3;
    'kid' comes with the standard deviation between its subsets. The network's weights are fetched
    only with --download.

    For what denoise wrote from clean examples: psnr (dB), ssim and mse of the restored and of the
    corrupted examples, for values in [0, 1].

    For a VAE on DATA, in nats an example: minus the evidence lower bound (elbo), its tightening by
    K importance samples (iwae), and minus the log-likelihood by annealed importance sampling (ais),
    with Hamiltonian moves; of implicit encoders the bounds are those of a normal distribution
    fitted to their draws. Binary data are drawn once, with the values of DATA as probabilities. fid
    and kid compare as many samples of the model as there are examples with DATA.

    Processes started by torchrun or srun share the examples of a model or a VAE.

    For scores that ood-score wrote: with --metric auroc, how well each statistic tells them from
    those of --against, see ood-score.

    Examples:

      arcsm eval digits.safetensors digits --metric nll,bpd
      arcsm eval g.safetensors 8gaussians --method quadrature --json
      arcsm eval digits.safetensors digits -o scored.h5
      arcsm eval by-label.safetensors digits --metric accuracy
      arcsm eval fine.safetensors mnist --metric bpd --dequantize uniform
      arcsm eval any.safetensors table.csv --target price --given rooms,area --orders 8
      arcsm sample m.safetensors -n 500 -o - | arcsm eval - --against digits
      arcsm denoise m.safetensors mnist --corrupt gaussian:0.6 -o - | arcsm eval - --metric psnr
      arcsm eval vae.safetensors mnist --limit 200 --metric ais
      arcsm eval s.h5 --against cifar10 --metric fid,kid --feature-weights inception.safetensors
    """
    from arcsm_cli.data.several import together
    from arcsm_cli.distributed.ranks import joined
    from arcsm_cli.evaluation.ais import AnnealedSampling
    from arcsm_cli.evaluation.any_order import Question
    from arcsm_cli.evaluation.vae_metrics import Likelihoods
    from arcsm_cli.io.provenance import sha256_file
    from arcsm_cli.io.streams import label, local_input, sniff
    from arcsm_cli.models.load import load_any
    from arcsm_cli.models.vae import VAE
    from arcsm_cli.runtime import lowered, reuse_memory

    reuse_memory()
    torch_device = resolve_device(device)
    if [file, *(data or ()), against, feature_weights].count("-") > 1:
        raise UsageError("standard input can be read only once")
    with joined(torch_device) as ranks, local_input(file) as path:
        kind = sniff(path)
        annealing = {
            "--chains": chains,
            "--temperatures": temperatures,
            "--precision": precision,
        }
        weighting = {"--importance-samples": importance_samples}
        if kind == "samples":
            if ranks.size > 1:
                raise UsageError(f"{label(file)} holds samples: measuring them takes one process")
            _refuse("is for a VAE", annealing | weighting)
            of_models = {"--dequantize": dequantize, "--target": target}
            _refuse("is for a model", of_models | {"--given": known, "--orders": orders})
            if data is not None or method is not None or output is not None:
                raise UsageError("samples take --against DATA, and neither DATA, --method nor -o")
            result = measure_samples(
                path,
                _metrics(metric, "samples", distances=against is not None),
                against,
                options,
                feature_weights=feature_weights,
                batch_size=batch_size or 128,
                device=torch_device,
            )
        elif kind == "checkpoint":
            if data is None or against is not None:
                raise UsageError("a model is measured on DATA: name it, without --against")
            checkpoint, model = load_any(path)
            named = (label(file), sha256_file(path), together(data))
            source = Source(*named, checkpoint, model.to(torch_device))
            whole = Target(output, batch_size, force)
            if isinstance(model, VAE):
                of_others = {"--dequantize": dequantize, "--target": target}
                _refuse(
                    "is for autoregressive models",
                    of_others | {"--given": known, "--orders": orders},
                )
                if method is not None or not perturb:
                    raise UsageError(f"--method and --no-perturb: {label(file)} holds a VAE")
                names = _metrics(metric, "vae")
                if "ais" not in names:
                    _refuse("is of the metric ais", annealing)
                if not {"elbo", "iwae"} & set(names):
                    _refuse("is of the metrics elbo and iwae", weighting)
                how = Likelihoods(
                    names,
                    AnnealedSampling(chains or 16, temperatures or 1000),
                    importance_samples or 500,
                    lowered(precision, torch_device),
                    seed,
                )
                result = measure_vae(source, options, how, whole, feature_weights, ranks)
            else:
                _refuse("is for a VAE", annealing | weighting)
                if feature_weights is not None:
                    raise UsageError("--feature-weights is for samples, with --metric fid or kid")
                names = _metrics(metric, "model")
                asked = Question.of(
                    model.config,
                    None if target is None else _part("--target", target, model.config),
                    None if known is None else _part("--given", known, model.config),
                    orders,
                    options.seed,
                )
                result = measure_model(
                    source,
                    options,
                    names,
                    method,
                    perturb,
                    whole,
                    ranks,
                    asked,
                    dequantize=dequantize is not None,
                )
        else:
            raise DamagedInputError(
                f"{label(file)}: neither a checkpoint (safetensors) nor samples (HDF5) of arcsm"
            )
    if output == "-" or not ranks.is_first:
        return
    print_result(result if json else _readable(result), json=json)


def _part(option: str, text: str, config: "ModelConfig") -> "Tensor":
    """The variables that an option names, bool of an example's shape."""
    import torch

    from arcsm_cli.data.columns import chosen
    from arcsm_cli.denoising.methods import read_mask

    kind, colon, file = text.partition(":")
    if colon and kind == "mask":
        return read_mask(file, config.shape)
    if config.is_image:
        raise UsageError(f"{option} {text}: the variables of images are named as mask:FILE")
    found = torch.zeros(config.shape, dtype=torch.bool)
    columns = DataOptions(columns=text)
    found[chosen(columns, config.columns or None, config.shape[0], "the model", option)] = True
    return found


def _refuse(why: str, options: dict[str, Any]) -> None:
    """Refuse options that have no part in what is asked for."""
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} {why}")


def _readable(result: dict[str, Any]) -> dict[str, Any]:
    """A result as the table shows it: figures that separate sets as rows, and no digests."""
    result = {key: value for key, value in result.items() if key != "inputs"}
    if "statistics" not in result:
        return result
    from arcsm_cli.evaluation.ood_report import readable

    return readable(result, [against["name"] for against in result["against"]])
