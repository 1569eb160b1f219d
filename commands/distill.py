"""``arcsm distill``: teach a model to draw each scalar in one evaluation."""

from arcsm_cli.cli.options import Device, Force, Json, Model, Output, Seed, resolve_device
from arcsm_cli.models.architecture import Quantiles
from arcsm_cli.options import Given
from arcsm_cli.training.settings import DistillSettings, Keeping


def run(
    model: Model,
    output: Output,
    *,
    quantiles: Given[Quantiles],
    training: Given[DistillSettings],
    keeping: Keeping,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Teach a score model to draw each scalar in one evaluation.

    In one dimension the probability flow is a monotone map of its start, and so the conditional's
    quantile function. A small network that reads the contexts of MODEL, which stay as they are,
    learns that map as a monotone spline. The output is MODEL with that network beside its own:
    'sample' then takes --sampler quantile by default, and 'eval' the exact density of what it
    draws (--method spline). All else that MODEL can do, it does as before, with its scores.

    No data are needed: contexts are those of MODEL's own samples, where the result is to be used,
    and each is taught the quantiles of its conditional. At the end a line says how far the result
    is from MODEL: the mean difference of their log-densities on samples of MODEL that were held
    out, which is the divergence of the two, 0 if they are the same.

    MODEL.resume, signals and --resume as for 'arcsm train'.

    Examples:

      arcsm distill digits.safetensors -o fast.safetensors
      arcsm sample fast.safetensors -n 10000 -o samples.h5
      arcsm eval fast.safetensors digits --metric nll
      arcsm eval fast.safetensors digits --metric nll --method flow
      arcsm train digits -o - | arcsm distill - --steps 500 -o - | arcsm sample - -n 16 -o d.h5
    """
    from arcsm_cli.distributed.ranks import joined
    from arcsm_cli.runtime import reuse_memory
    from arcsm_cli.training.run import find_place
    from arcsm_cli.training.settings import Distilling
    from arcsm_cli.training.start import read_start
    from arcsm_cli.training.teaching import distill

    start = read_start(model)
    place = find_place(output, keeping, force=force)
    torch_device = resolve_device(device)
    reuse_memory()
    with joined(torch_device) as ranks:
        distill(
            place,
            start,
            Quantiles(**quantiles),
            Distilling(**training),
            seed=seed,
            keeping=keeping,
            device=torch_device,
            ranks=ranks,
            json=json,
        )
