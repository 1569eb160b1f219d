"""``arcsm train``: fit a model to data."""

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
from arcsm_cli.registry import OBJECTIVES
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

_MOST_UNITS = 1 << 16  # of a layer; no checkpoint may have more


def run(
    data: Data,
    output: Output,
    *,
    context: Annotated[
        Literal["made", "pixelcnn"],
        typer.Option(
            "--context",
            help="The context network: a masked perceptron (any data) or PixelCNN++ (images).",
        ),
    ] = "made",
    hidden: Annotated[
        str | None,
        typer.Option(
            "--hidden",
            metavar="N,N,...",
            show_default="64,64 to 1024,1024 by the data's size",
            help="Hidden layers of MADE.",
        ),
    ] = None,
    residual: Annotated[
        bool, typer.Option("--residual", help="Residual hidden layers of MADE (of one size).")
    ] = False,
    size: Annotated[
        Literal["small", "base", "paper"] | None,
        typer.Option(
            "--size",
            show_default="paper",
            help="PixelCNN++ with 32 filters, 2 blocks and no dropout; 96, 3 and 0.25; or as "
            "published, 160, 5 and 0.5.",
        ),
    ] = None,
    filters: Annotated[
        int | None,
        typer.Option(
            "--filters",
            metavar="N",
            min=1,
            max=4096,
            show_default="by --size",
            help="Channels of PixelCNN++.",
        ),
    ] = None,
    resnet_blocks: Annotated[
        int | None,
        typer.Option(
            "--resnet-blocks",
            metavar="N",
            min=1,
            max=64,
            show_default="by --size",
            help="Gated blocks of PixelCNN++ at each of three resolutions.",
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            "--dropout",
            metavar="P",
            show_default="by --size",
            help="Share of activations dropped in the blocks of PixelCNN++, below 1.",
        ),
    ] = None,
    context_width: Annotated[
        int | None,
        typer.Option(
            "--context-width",
            metavar="N",
            min=1,
            max=_MOST_UNITS,
            show_default="16",
            help="Size of a context vector of score models.",
        ),
    ] = None,
    score_hidden: Annotated[
        str | None,
        typer.Option(
            "--score-hidden",
            metavar="N,N,...",
            show_default="64,64 for images, else 64,64,64",
            help="Hidden layers of the conditional score network.",
        ),
    ] = None,
    order: Annotated[
        Literal["raster", "reversed", "random"],
        typer.Option("--order", help="Order of the variables."),
    ] = "raster",
    order_seed: Annotated[
        int,
        typer.Option("--order-seed", metavar="N", min=0, max=2**63 - 1, help="Which random order."),
    ] = 0,
    objective: Annotated[
        Literal["csm", "dsm", "ssm", "mle"],
        typer.Option(
            "--objective",
            help="Composite, univariate denoising or sliced score matching, or maximum likelihood "
            "of a model with normalised conditionals.",
        ),
    ] = "csm",
    likelihood: Annotated[
        Literal["gaussian", "logistic-mixture", "discretized-logistic-mixture"] | None,
        typer.Option(
            "--likelihood",
            metavar="NAME",
            show_default="discretized-logistic-mixture for pixelcnn without noise, else "
            "logistic-mixture",
            help="The conditionals of --objective mle: gaussian, logistic-mixture, or of 8-bit "
            "images discretized-logistic-mixture.",
        ),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(
            "--components",
            metavar="N",
            min=1,
            max=4096,
            show_default="10",
            help="Logistic components of a mixture.",
        ),
    ] = None,
    annealing: Annotated[
        Literal["joint", "staged", "none"] | None,
        typer.Option(
            "--annealing",
            show_default="joint; none for mle",
            help="One network of all noise levels; one a level (the paper's); or one level.",
        ),
    ] = None,
    sigma_max: Annotated[
        float | None,
        typer.Option(
            "--sigma-max",
            metavar="S",
            show_default="joint: 3, or 3 sd; staged: 1, or 0.2 for colour",
            help="First and largest noise level.",
        ),
    ] = None,
    sigma_min: Annotated[
        float | None,
        typer.Option(
            "--sigma-min",
            metavar="S",
            show_default="0.04 for images, else 0.05; 0 if discretized",
            help="Last noise level, that of the density modelled.",
        ),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            "--levels",
            metavar="N",
            min=1,
            max=1000,
            show_default="joint: 10 for Langevin; staged: 3",
            help="Number of noise levels, a geometric sequence.",
        ),
    ] = None,
    standardize: Annotated[
        bool,
        typer.Option(
            "--standardize",
            help="Give each column of vectors mean 0 and variance 1; sigmas are in that scale.",
        ),
    ] = False,
    epochs: Annotated[
        float | None,
        typer.Option(
            "--epochs",
            metavar="N",
            show_default="200",
            help="Passes over the data (for each stage of staged annealing).",
        ),
    ] = None,
    steps: Steps = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            show_default="128 for images, else 512",
            help="Examples a step.",
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            "--draws", metavar="N", min=1, help="Noise draws for each example's contexts."
        ),
    ] = 1,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            metavar="RATE",
            show_default="1e-3 for images, else 5e-3",
            help="Adam's peak learning rate.",
        ),
    ] = None,
    schedule: Schedule = "cosine",
    warmup: Warmup = 100,
    clip: Clip = 1.0,
    ema: Ema = 0.999,
    precision: Annotated[
        Literal["fp32", "bf16"],
        typer.Option(
            "--precision", help="Of the context network's products; scores are always fp32."
        ),
    ] = "fp32",
    compile_step: Annotated[
        bool, typer.Option("--compile", help="Compile the training step (needs a C++ compiler).")
    ] = False,
    grad_accumulation: Annotated[
        int,
        typer.Option(
            "--grad-accumulation",
            metavar="N",
            min=1,
            help="Compute a batch in N parts, one after another, to save memory.",
        ),
    ] = 1,
    resume: Resume = False,
    checkpoint_every: CheckpointEvery = 1000,
    log_dir: LogDir = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
    options: DataOptions,
) -> None:
    """Train a model on DATA.

    Fits an autoregressive conditional score model (or with --objective mle, as a baseline, the
    same networks with normalised conditionals) and writes one checkpoint, holding averaged
    weights, and MODEL.resume beside it. Images are modelled in [-1, 1]; noise levels are in that
    scale, and for vectors in the data's own.

    SIGTERM, SIGINT and SIGUSR1 finish the step, save and exit with 75; the same command with
    --resume goes on and ends with the same weights as a run that was never stopped. With -o - the
    checkpoint goes to standard output at the end, and there is nothing to resume.

    Examples:

      arcsm train digits -o digits.safetensors
      arcsm train mnist --download --sigma-min 0.1 -o mnist.safetensors --log-dir runs/mnist
      arcsm train 8gaussians --steps 8000 -o g.safetensors --resume
      arcsm train table.csv --standardize -o table.safetensors
      arcsm train cifar10 --context pixelcnn --size base --precision bf16 -o cifar.safetensors
      arcsm train mnist --context pixelcnn --objective mle -o pixelcnn.safetensors
      arcsm train digits --steps 300 -o - | arcsm sample - -n 16 -o digits.h5
    """
    from arcsm_cli.data.spec import train_and_valid
    from arcsm_cli.distributed.ranks import joined
    from arcsm_cli.runtime import reuse_memory
    from arcsm_cli.training.configure import Choices, model_config
    from arcsm_cli.training.options import check_number, layer_sizes, settled
    from arcsm_cli.training.settings import TrainSettings

    if steps is not None and epochs is not None:
        raise UsageError("give --steps or --epochs, not both")
    check_number("--lr", lr)
    check_number("--epochs", epochs)
    if compile_step and OBJECTIVES.has(objective, "twice"):
        raise UsageError(
            f"--compile: --objective {objective} takes second derivatives, which compiled steps "
            "do not have: leave it out"
        )
    choices = settled(
        Choices(
            order=order,
            order_seed=order_seed,
            context=context,
            context_width=context_width,
            size=size,
            filters=filters,
            resnet_blocks=resnet_blocks,
            dropout=dropout,
            likelihood=likelihood or "",
            components=components,
            hidden=layer_sizes("--hidden", hidden),
            residual=residual,
            score_hidden=layer_sizes("--score-hidden", score_hidden, least=1),
            annealing=annealing or ("none" if OBJECTIVES.has(objective, "densities") else "joint"),
            sigma_max=sigma_max,
            sigma_min=sigma_min,
            levels=levels,
            standardize=standardize,
        ),
        objective,
        draws=draws,
    )
    place = find_place(output, resume=resume, force=force)
    torch_device = resolve_device(device)
    reuse_memory()

    with joined(torch_device) as ranks:
        examples, valid = train_and_valid(data, options)
        image = examples.kind == "image"
        config = model_config(examples, choices)
        batch = batch_size or (128 if image else 512)
        steps = step_count(examples, batch, steps, epochs, 200.0)
        settings = TrainSettings(
            steps=steps,
            batch_size=batch,
            objective=objective,
            draws=draws,
            lr=(1e-3 if image else 5e-3) if lr is None else lr,
            schedule=schedule,
            warmup=warmup,
            clip=clip,
            ema=ema,
            seed=seed,
            precision=precision,
            compile=compile_step,
            grad_accumulation=grad_accumulation,
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
