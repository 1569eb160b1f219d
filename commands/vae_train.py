"""``arcsm vae-train``: fit a variational autoencoder to data."""

from typing import Annotated, Literal

import typer

from arcsm_cli.cli.options import (
    Data,
    Device,
    Force,
    Json,
    Output,
    Seed,
    resolve_device,
)
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import UsageError
from arcsm_cli.training.run import (
    CheckpointEvery,
    Clip,
    Ema,
    LogDir,
    Resume,
    Schedule,
    Steps,
    Warmup,
    find_place,
    run_training,
    step_count,
)


def run(
    data: Data,
    output: Output,
    *,
    method: Annotated[
        Literal["elbo", "csm", "ssm", "ssm-ar", "stein", "spectral"],
        typer.Option(
            "--method",
            help="How the entropy's gradient is had: in closed form, of a Gaussian encoder (elbo); "
            "of implicit encoders by an AR-CSM (csm, ssm-ar), by a joint score network (ssm), or "
            "by kernels (stein, spectral).",
        ),
    ] = "csm",
    latent_dim: Annotated[
        int | None,
        typer.Option(
            "--latent-dim", metavar="N", min=1, show_default="8; conv: 32", help="Size of z."
        ),
    ] = None,
    network: Annotated[
        Literal["mlp", "conv"] | None,
        typer.Option(
            "--network",
            show_default="conv for colour images",
            help="Encoder and decoder: perceptrons, or strided 5 x 5 convolutions.",
        ),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            "--hidden",
            metavar="N,N",
            show_default="256,256",
            help="Two hidden layers of encoder, decoder and score estimator.",
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            "--channels",
            metavar="N,N,...",
            show_default="64,128,256",
            help="Of the convolutions; each halves the image's sides.",
        ),
    ] = None,
    decoder: Annotated[
        Literal["bernoulli", "gaussian"] | None,
        typer.Option(
            "--decoder",
            show_default="bernoulli for grey images",
            help="p(x|z): binary, the data being binarised afresh at each draw with their values "
            "as probabilities; or normal with one learned deviation.",
        ),
    ] = None,
    context_width: Annotated[
        int | None,
        typer.Option(
            "--context-width",
            metavar="N",
            min=1,
            show_default="16",
            help="Context vectors of triangular encoder and AR-CSM.",
        ),
    ] = None,
    score_hidden: Annotated[
        str | None,
        typer.Option(
            "--score-hidden",
            metavar="N,N,...",
            show_default="64,64",
            help="Hidden layers of the conditional score network.",
        ),
    ] = None,
    particles: Annotated[
        int | None,
        typer.Option(
            "--particles",
            metavar="N",
            min=2,
            show_default="100",
            help="Draws of z an example that stein and spectral take.",
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option("--epochs", metavar="N", show_default="200", help="Passes over the data."),
    ] = None,
    steps: Steps = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Examples a step.")
    ] = 128,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            metavar="RATE",
            show_default="1e-3; conv: 1e-4",
            help="RMSprop's peak learning rate.",
        ),
    ] = None,
    score_lr: Annotated[
        float | None,
        typer.Option(
            "--score-lr",
            metavar="RATE",
            show_default="that of --lr",
            help="The score estimator's.",
        ),
    ] = None,
    schedule: Schedule = "cosine",
    warmup: Warmup = 100,
    clip: Clip = 0.0,
    ema: Ema = 0.999,
    resume: Resume = False,
    checkpoint_every: CheckpointEvery = 1000,
    log_dir: LogDir = None,
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
    from arcsm_cli.data.spec import train_and_valid
    from arcsm_cli.distributed.ranks import joined
    from arcsm_cli.runtime import reuse_memory
    from arcsm_cli.training.options import check_number, layer_sizes
    from arcsm_cli.training.settings import VAESettings
    from arcsm_cli.training.vae_configure import VAEChoices, vae_config

    if steps is not None and epochs is not None:
        raise UsageError("give --steps or --epochs, not both")
    for option, value in (("--lr", lr), ("--score-lr", score_lr), ("--epochs", epochs)):
        check_number(option, value)
    if score_lr is not None and method not in ("csm", "ssm", "ssm-ar"):
        raise UsageError(f"--score-lr: --method {method} trains no score estimator")
    choices = VAEChoices(
        method=method,
        latent_dim=latent_dim,
        network=network,
        hidden=layer_sizes("--hidden", hidden, least=1),
        channels=layer_sizes("--channels", channels, least=1),
        decoder=decoder,
        context_width=context_width,
        score_hidden=layer_sizes("--score-hidden", score_hidden, least=1),
        particles=particles,
    )
    place = find_place(output, resume=resume, force=force)
    torch_device = resolve_device(device)
    reuse_memory()

    with joined(torch_device) as ranks:
        examples, valid = train_and_valid(data, options)
        config = vae_config(examples, choices)
        steps = step_count(examples, batch_size, steps, epochs, 200.0)
        rate = (1e-4 if config.network == "conv" else 1e-3) if lr is None else lr
        settings = VAESettings(
            steps=steps,
            batch_size=batch_size,
            lr=rate,
            score_lr=rate if score_lr is None else score_lr,
            schedule=schedule,
            warmup=warmup,
            clip=clip,
            ema=ema,
            seed=seed,
            checkpoint_every=checkpoint_every,
            validate_every=max(1, steps // 100),
        )
        run_training(
            place,
            config,
            settings,
            data,
            examples,
            valid,
            device=torch_device,
            log_dir=log_dir,
            ranks=ranks,
            json=json,
        )
