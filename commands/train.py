"""``arcsm train``: fit a model to data."""

from typing import Annotated

import typer

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
from arcsm_cli.errors import UsageError
from arcsm_cli.models.architecture import Architecture, Conditionals, Noise
from arcsm_cli.options import Given
from arcsm_cli.training.settings import (
    Beginning,
    Goal,
    Keeping,
    Reading,
    StagedPasses,
    Training,
    TrainSettings,
)


def run(
    data: DataFiles,
    output: Output,
    *,
    given: Annotated[
        str | None,
        typer.Option(
            "--given",
            metavar="NAME,...",
            show_default="nothing",
            help="Model examples given these: labels (labels=NAME, those of this column or array), "
            "or columns of a table.",
        ),
    ] = None,
    architecture: Given[Architecture],
    goal: Goal,
    conditionals: Given[Conditionals],
    noise: Given[Noise],
    passes: Given[StagedPasses],
    training: Given[TrainSettings],
    reading: Reading,
    beginning: Beginning,
    keeping: Keeping,
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

    A file or folder without splits is split by the content of its examples: train and valid are
    used, test is left for 'eval'. FILE:all is all of it. Validation losses decide what --keep best
    keeps and when --patience ends.

    DATA may be several HDF5 or other files, or a quoted pattern of them, that hold alike: they are
    taken as one. HDF5 files whose values would take more than half of the memory are not loaded:
    batches are read from them, in shuffled blocks, and each process reads its part (--stream).

    With --given a model is of examples given their labels, or of the other columns of a table given
    these: numbers, or texts as categories. 'sample' then draws by label, and 'eval --metric
    accuracy' tells labels by Bayes' rule.

    SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 finish the step, save and exit with 75; the same
    command with --resume goes on and ends with the same weights as a run that was never stopped.
    With -o - the checkpoint goes to standard output at the end, and there is nothing to resume.

    --dry-run prints what would run, on which device, with how much memory and for how long, from
    ten steps of it, and writes nothing; --json gives it to scripts.

    Examples:

      arcsm train digits -o digits.safetensors
      arcsm train mnist --download --sigma-min 0.1 -o mnist.safetensors --log-dir runs/mnist
      arcsm train 8gaussians --steps 8000 -o g.safetensors --resume
      arcsm train table.csv --standardize --keep best --patience 20 -o table.safetensors
      arcsm train digits --given labels -o by-label.safetensors
      arcsm train wine.csv --given quality --standardize -o by-quality.safetensors
      arcsm train more.csv --init table.safetensors -o more.safetensors
      arcsm train cifar10 --context pixelcnn --size base --precision bf16 -o cifar.safetensors
      arcsm train mnist --context pixelcnn --objective mle -o pixelcnn.safetensors
      arcsm train table.csv --context transformer --order any -o any.safetensors
      arcsm train 'shards/*.h5' --stream yes -o large.safetensors
      arcsm train cifar10 --context pixelcnn --dry-run --json -o cifar.safetensors
      arcsm train digits --steps 300 -o - | arcsm sample - -n 16 -o digits.h5
    """
    from arcsm_cli.data.given import conditions_of, told
    from arcsm_cli.data.streamed import is_streamed
    from arcsm_cli.distributed.ranks import joined
    from arcsm_cli.registry import OBJECTIVES
    from arcsm_cli.runtime import reuse_memory
    from arcsm_cli.training.configure import (
        Choices,
        check_choices,
        check_dequantizing,
        model_config,
    )
    from arcsm_cli.training.run import find_place, load_examples, run_training
    from arcsm_cli.training.start import load_start

    choices = Choices(**architecture, **conditionals, **noise, objective=goal.objective)
    check_choices(choices, conditional=given is not None)
    chosen = Training(**passes, **training)
    chosen.check(OBJECTIVES, goal.objective)
    start = load_start(beginning.init)
    place = find_place(output, keeping, force=force)
    torch_device = resolve_device(device)
    reuse_memory()

    with joined(torch_device) as ranks:
        loaded = load_examples(data, options, reading, place)
        config = model_config(loaded.train, choices, conditions_of(loaded.train, loaded.valid))
        if start is not None:
            own = bool({"sigma_max", "sigma_min", "levels"} & noise.keys())
            config = start.fitted(config, own_levels=own)
        train, valid = (told(part, config.given) for part in (loaded.train, loaded.valid))
        settings = chosen.about(
            examples=len(train), image=config.is_image, rates=config.network.rates
        ).settings(
            objective=goal.objective,
            seed=seed,
            checkpoint_every=keeping.checkpoint_every,
            started_from="" if start is None else start.digest,
            stream="yes" if is_streamed(train) else "no",
        )
        if settings.dequantize != "none":
            check_dequantizing(config, train)
        if settings.patience and config.annealing == "staged":
            raise UsageError("--patience ends a run, and is not for the stages of staged annealing")
        run_training(
            place,
            config,
            settings,
            " ".join(data),
            loaded._replace(train=train, valid=valid),
            device=torch_device,
            log_dir=keeping.log_dir,
            ranks=ranks,
            json=json,
            start=start,
        )
