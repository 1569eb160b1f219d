"""What ``arcsm eval`` does with samples and scores: their figures, alone or against others."""

from typing import TYPE_CHECKING, Any

from arcsm_cli.cli.progress import Bar, progress
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.registry import METRICS

if TYPE_CHECKING:
    from pathlib import Path

    from arcsm_cli.data.options import DataOptions


def measure_samples(
    path: "Path",
    names: list[str],
    against: str | None,
    options: "DataOptions",
    *,
    feature_weights: str | None,
    batch_size: int,
    device: str,
) -> dict[str, Any]:
    """Return what ``arcsm eval`` prints of a sample file.

    Arguments:
        names: those of `METRICS` for samples.
        against: DATA, or for auroc a file of scores; None if not given.
        feature_weights: ``--feature-weights``, or None.

    Raises:
        ArcsmError: options that do not go together, files that do not fit or are damaged.
    """
    from contextlib import ExitStack

    from arcsm_cli.data.spec import load_data
    from arcsm_cli.evaluation.feature_weights import find_weights
    from arcsm_cli.evaluation.image_features import InceptionFeatures
    from arcsm_cli.evaluation.restoration import restoration_figures
    from arcsm_cli.evaluation.sample_report import check_comparable, check_images, measure
    from arcsm_cli.io.provenance import sha256_file
    from arcsm_cli.io.samples import SampleFile
    from arcsm_cli.io.streams import label

    if "auroc" in names:
        if len(names) > 1 or against is None:
            raise UsageError("--metric auroc is of scores, alone, with --against SCORES.h5")
        return _scores(path, against, options.seed)
    restoration = [name for name in names if METRICS.has(name, "restored")]
    others = [name for name in names if name not in restoration]
    distances = [name for name in others if name != "moments"]
    features = [name for name in names if METRICS.has(name, "features")]
    if distances and against is None:
        raise UsageError(f"--metric {distances[0]} needs --against DATA")
    if against is not None and not distances:
        raise UsageError(f"--against has no part in --metric {','.join(names)}")
    if feature_weights is not None and not features:
        raise UsageError("--feature-weights applies to the metrics fid and kid alone")
    with SampleFile(path) as samples, ExitStack() as stack:
        if len(samples) == 0:
            raise DamagedInputError(f"{label(path)}: holds no samples")
        result: dict[str, Any] = {"samples": len(samples)}
        inputs = {label(path): sha256_file(path)}
        data = extract = None
        bar = Bar()
        if features:
            check_images(samples, label(path), features[0])
            extract = InceptionFeatures(find_weights(feature_weights, options), device)
        if distances and against is not None:
            data = load_data(
                against,
                options,
                default_split="test",
                like=samples.shape,
                names=samples.columns or (),
            )
            check_comparable(samples, label(path), data)
            result |= {"against": data.name, "examples": len(data)}
            inputs[data.name] = data.digest
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
    return result | {"inputs": inputs}


def _scores(path: "Path", against: str, seed: int) -> dict[str, Any]:
    from arcsm_cli.evaluation.ood_report import report, shared_statistics
    from arcsm_cli.io.provenance import sha256_file
    from arcsm_cli.io.streams import label, local_input

    with local_input(against) as other:
        inside, outside = shared_statistics([str(path), str(other)])
        inputs = {label(file): sha256_file(file) for file in (path, other)}
    counts = [len(next(iter(values.values()))) for values in (inside, outside)]
    return {
        "scores": label(path),
        "examples": counts[0],
        "against": [{"name": label(against), "examples": counts[1]}],
        "inputs": inputs,
        **report(inside, {label(against): outside}, seed=seed),
    }
