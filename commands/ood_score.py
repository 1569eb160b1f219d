"""``arcsm ood-score``: how unlike the training data examples are."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.options import (
    BatchSize,
    Data,
    Device,
    Force,
    Json,
    Model,
    Seed,
    resolve_device,
)
from arcsm_cli.cli.progress import Bar, progress
from arcsm_cli.cli.table import print_result
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from arcsm_cli.data.stream import Examples


def run(
    model: Model,
    data: Data,
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default="none",
            help="Write the examples of DATA as scored, with their statistics; - is stdout.",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="DATA",
            show_default="none",
            help="Other data, that DATA is told from: uniform, constant-uniform, or any.",
        ),
    ] = None,
    statistic: Annotated[
        list[str] | None,
        typer.Option(
            "--statistic",
            metavar="NAME,...",
            show_default="multiscale; nll-typicality of models trained by mle",
            help="multiscale, nearest, score-sum, typicality, or one of score-norm, ratio, csm, "
            "nll, with or without -typicality.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="DATA",
            show_default="what the model was trained on",
            help="Training data, that multiscale, nearest and the typicalities are relative to.",
        ),
    ] = None,
    reference_limit: Annotated[
        int | None,
        typer.Option(
            "--reference-limit",
            metavar="N",
            min=1,
            show_default="1000",
            help="Take the first N of the training data.",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            "--alpha",
            metavar="A",
            show_default="none",
            help="Give each example its p-value among those of --calibration, and say which share "
            "has A or less.",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="DATA",
            show_default="none",
            help="Of --alpha: examples like the training data that the model has not seen, and not "
            "those of DATA, such as FILE:valid.",
        ),
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            "--bootstrap",
            metavar="N",
            min=0,
            max=100_000,
            show_default="1000",
            help="Draws behind the confidence intervals; 0 for none.",
        ),
    ] = None,
    perturb: Annotated[
        bool,
        typer.Option(
            "--perturb/--no-perturb",
            help="Add the model's last noise level to DATA and --against first; not for data that "
            "carry it.",
        ),
    ] = True,
    batch_size: BatchSize = 128,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
    options: DataOptions,
) -> None:
    """Score how unlike the training data examples are.

    Every example of DATA, plus noise of the model's last level, gets a statistic. The default is
    multiscale: how far score-norm and csm at up to ten noise levels, taken together, are from those
    of training data, as a squared Mahalanobis distance. Of the last level alone: score-sum, the sum
    of the conditional scores; score-norm, their mean square; csm, the example's figure of that
    name in eval; nll, its exact negative log-likelihood, which takes far longer. Each of these
    also comes two-sided, as the distance from its median over training data: typicality is
    that of score-sum, NAME-typicality of the others. Models trained by mle have nll and
    nll-typicality. What training data are like is kept in MODEL.reference and used again;
    --reference replaces it.

    With --against, says how well each statistic tells DATA, the positive class, from other data:
    AUROC with its bootstrap interval of 95 %, AUPR, and the false positive rate where 95 % of DATA
    pass (fpr95). Which values count as like the training data is fixed beforehand: higher ones for
    score-sum, lower ones for all others. --limit holds for DATA and for each --against.

    With --alpha A every example also gets a conformal p-value a statistic: the share of held-out
    examples, --calibration DATA, that are no more like the training data. Of examples like those a
    share of A at most has p-values up to A, whatever the statistic: A is the rate of false alarms.

    Processes started by torchrun or srun share the examples.

    Examples:

      arcsm ood-score digits.safetensors digits --against uniform --against constant-uniform
      arcsm ood-score m.safetensors mnist --against other.npz --statistic multiscale,nll --json
      arcsm ood-score m.safetensors new.csv --alpha 0.01 --calibration table.csv:valid -o flags.h5
      arcsm ood-score digits.safetensors digits -o scores.h5
      arcsm data uniform.npz -o - | arcsm ood-score digits.safetensors - -o other.h5
      arcsm eval scores.h5 --against other.h5 --metric auroc
    """
    from arcsm_cli.data.stream import open_stream
    from arcsm_cli.distributed.ranks import joined
    from arcsm_cli.evaluation.conformal import Calibration, check_alpha, flagged, split
    from arcsm_cli.evaluation.detection import BOOTSTRAP
    from arcsm_cli.evaluation.figures import check_shape, collect
    from arcsm_cli.evaluation.ood import choose_statistics, needs_reference, score
    from arcsm_cli.evaluation.ood_reference import Request, distances_from, find_reference
    from arcsm_cli.evaluation.ood_report import readable, report
    from arcsm_cli.evaluation.overlap import Trained
    from arcsm_cli.io.provenance import extend, sha256_file
    from arcsm_cli.io.sample_output import check_sample_output, sample_output
    from arcsm_cli.io.streams import label, local_input
    from arcsm_cli.models.load import load_model
    from arcsm_cli.runtime import reuse_memory

    sets = list(dict.fromkeys(against or []))
    if output == "-" and (json or sets):
        raise UsageError(
            "-o - takes standard output for the scores, so --against and --json need -o FILE"
        )
    if bootstrap is not None and not sets:
        raise UsageError("--bootstrap is for the figures of --against DATA")
    if (alpha is None) != (calibration is None):
        raise UsageError("--alpha A and --calibration DATA go together: give both or none")
    if alpha is not None and not 0 < alpha < 1:
        raise UsageError(f"--alpha {alpha:g}: expected a number between 0 and 1")
    if output is not None:
        check_sample_output(output, force=force)
    reuse_memory()
    torch_device = resolve_device(device)
    with ExitStack() as stack:
        ranks = stack.enter_context(joined(torch_device))
        path = stack.enter_context(local_input(model))
        checkpoint, network = load_model(path)
        network = network.to(torch_device)
        names = choose_statistics(network, statistic, label(model))
        if not needs_reference(names) and (reference, reference_limit) != (None, None):
            raise UsageError(
                "--reference is for multiscale, nearest and the typicalities: name one with "
                "--statistic"
            )

        config = network.config
        trained = Trained.of(checkpoint)
        overlaps: dict[str, Any] = {}

        def opened(spec: str) -> "Examples":
            stream = open_stream(
                spec,
                options,
                default_split="test",
                like=config.shape,
                names=config.columns,
                given=config.given,
                part=trained.unseen,
            )
            examples = stack.enter_context(stream)
            check_shape(network, examples)
            if ranks.is_first and (found := trained.overlap(examples)):
                overlaps[spec] = found["overlap"]
            return examples

        inside = opened(data)
        others = {name: opened(name) for name in sets}
        held = None if calibration is None else opened(calibration)
        if held is not None and alpha is not None:
            if held.digest == inside.digest:
                raise UsageError(
                    f"--calibration {label(held.name)}: are the examples of DATA themselves; name "
                    "others like the training data"
                )
            check_alpha(alpha, len(held))
        digest = sha256_file(path)
        inputs = {label(model): digest}
        typical = None
        if needs_reference(names):
            wanted = Request(
                model_file=model,
                checkpoint=digest,
                trained=trained,
                data=reference,
                limit=reference_limit,
                options=options,
                batch_size=batch_size,
                ranks=ranks,
            )
            typical = find_reference(network, wanted, needs_reference(names), _track)
            inputs[typical.data] = typical.digest
        known = [inside, *others.values(), *([] if held is None else [held])]
        inputs |= {examples.name: examples.digest for examples in known}
        medians, distances = {}, {}
        if typical is not None and ranks.is_first:
            medians = {name: found.median for name, found in typical.statistics.items()}
            distances = distances_from(typical, names)
        entry = provenance_entry(seed=seed, inputs=inputs)
        file = sample_output(
            output,
            config.shape,
            extend([checkpoint.provenance, inside.source], entry),
            columns=config.columns,
            force=force,
            writes=ranks.is_first,
        )

        def values_of(
            examples: "Examples",
            seed: int = seed,
            calibrated: "Calibration | None" = None,
            **options: Any,
        ) -> Any:
            batches = score(
                network,
                examples,
                statistics=names,
                medians=medians,
                distances=distances,
                p_values=None if calibrated is None else calibrated.p_values,
                perturb=perturb,
                batch_size=batch_size,
                seed=seed,
                ranks=ranks,
            )
            with progress(len(examples), "scoring") as bar:
                return collect(batches, len(examples), advance=bar.update, **options)

        calibrated = None
        if held is not None:  # with noise of its own
            calibrated = Calibration(values_of(held, seed=(seed + 1) % 2**64))
        with file as append:
            found, p = split(values_of(inside, calibrated=calibrated, append=append))
            compared, theirs = {}, {}
            for name, examples in others.items():
                compared[name], theirs[name] = split(values_of(examples, calibrated=calibrated))
    told = bool(sets) or json or alpha is not None
    if not ranks.is_first or output == "-" or (output is not None and not told):
        return
    result: dict[str, Any] = {"model": label(model), "data": inside.name, "examples": len(inside)}
    if others:
        result["against"] = [
            {"name": name, "examples": len(examples)} for name, examples in others.items()
        ]
    if overlaps:
        result["overlap"] = overlaps
    if typical is not None:
        result["reference"] = {"data": typical.data, "examples": typical.count}
    draws = BOOTSTRAP if bootstrap is None else bootstrap
    result |= report(found, compared, typical=typical, draws=draws, seed=seed)
    if alpha is not None and held is not None:
        result["calibration"] = {"data": held.name, "examples": len(held), "alpha": alpha}
        shares = {f"flagged/{name}": share for name, share in flagged(p, alpha).items()}
        for which, values in theirs.items():
            of = flagged(values, alpha)
            shares |= {f"flagged/{name}/{which}": share for name, share in of.items()}
        result["metrics"] |= shares
    print_result(result | {"inputs": inputs} if json else readable(result, sets), json=json)


def _track(total: int) -> "AbstractContextManager[Bar]":
    return progress(total, "scoring training data")
