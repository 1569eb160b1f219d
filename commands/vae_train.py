"""``arcsm vae-train``: fit a variational autoencoder to data."""

from arcsm_cli.cli.options import (
    DataFiles,
    Device,
    Force,
    Json,
    Output,
    Seed,
    resolve_device,
)
from arcsm_cli.data.options import DataOptions
from arcsm_cli.models.vae_config import VAEOptions
from arcsm_cli.options import Given
from arcsm_cli.training.settings import (
    Beginning,
    Keeping,
    Passes,
    Reading,
    VAESettings,
    VAETraining,
)


def run(
    data: DataFiles,
    output: Output,
    *,
    model: Given[VAEOptions],
    passes: Given[Passes],
    training: Given[VAESettings],
    reading: Reading,
    beginning: Beginning,
    keeping: Keeping,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
    options: DataOptions,
) -> None:
    """Train a variational autoencoder on DATA.

    Maximises the evidence lower bound. With an implicit encoder, z a function of the example and of
    noise, the density of z is unknown, but the gradient of its entropy takes its scores alone; a
    score estimator is trained beside the model. csm and ssm-ar estimate conditional scores by an
    AR-CSM, over an encoder that is triangular in the noise, for which the gradient is exact.

    The checkpoint holds all networks, and MODEL.resume lies beside it; signals and --resume as for
    'arcsm train'. 'sample' draws from the prior, 'eval' measures the likelihood by annealed
    importance sampling, 'plot' shows the training and, with --data, reconstructions.

    Examples:

      arcsm vae-train mnist --download -o vae.safetensors
      arcsm vae-train mnist --method elbo --latent-dim 16 --steps 100000 -o elbo.safetensors
      arcsm vae-train celeba --center-crop 140 --resize 64 -o faces.safetensors --resume
      arcsm vae-train digits --steps 500 -o - | arcsm sample - -n 16 -o digits.h5
    """
    from arcsm_cli.data.streamed import is_streamed
    from arcsm_cli.distributed.ranks import joined
    from arcsm_cli.options import check_needs
    from arcsm_cli.registry import METHODS
    from arcsm_cli.runtime import reuse_memory
    from arcsm_cli.training.run import find_place, load_examples, run_training
    from arcsm_cli.training.start import load_start
    from arcsm_cli.training.vae_configure import VAEChoices, vae_config

    choices = VAEChoices(**model)
    check_needs(model, VAEOptions, METHODS, choices.method)
    chosen = VAETraining(**passes, **training)
    chosen.check(METHODS, choices.method)
    start = load_start(beginning.init)
    place = find_place(output, keeping, force=force)
    torch_device = resolve_device(device)
    reuse_memory()

    with joined(torch_device) as ranks:
        given = load_examples(data, options, reading, place)
        config = vae_config(given.train, choices)
        if start is not None:
            config = start.fitted(config)
        settings = chosen.about(examples=len(given.train), network=config.network).settings(
            seed=seed,
            checkpoint_every=keeping.checkpoint_every,
            started_from="" if start is None else start.digest,
            stream="yes" if is_streamed(given.train) else "no",
        )
        run_training(
            place,
            config,
            settings,
            " ".join(data),
            given,
            device=torch_device,
            log_dir=keeping.log_dir,
            ranks=ranks,
            json=json,
            start=start,
        )
