"""``arcsm denoise``: restore corrupted examples."""

from typing import Annotated

import typer

from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.options import (
    BatchSize,
    Data,
    Device,
    Force,
    Json,
    Model,
    Output,
    Seed,
    resolve_device,
)
from arcsm_cli.cli.progress import progress
from arcsm_cli.cli.table import print_result
from arcsm_cli.data.options import DataOptions
from arcsm_cli.denoising.options import Restoring
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.options import Given


def run(
    model: Model,
    data: Data,
    output: Output,
    *,
    corrupt: Annotated[
        str | None,
        typer.Option(
            "--corrupt",
            metavar="KIND:VALUE",
            show_default="none: DATA are corrupted already",
            help="Corrupt clean DATA first: gaussian:S, salt-pepper:P, or mask:FILE (an .npy, "
            "what is not zero is hidden, or an image, what is white is).",
        ),
    ] = None,
    restoring: Given[Restoring],
    clip: Annotated[bool, typer.Option("--clip/--no-clip", help="Clip images to [0, 1].")] = True,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
    options: DataOptions,
) -> None:
    """Restore corrupted examples.

    The output holds the restored examples as samples, beside the corrupted and, if --corrupt made
    them, the clean ones; 'arcsm eval' compares them and 'arcsm plot' shows them.

    single-step: the expected clean value of every scalar at once, with contexts from the corrupted
    example. sequential: the same one after another, with contexts from what is restored. ode: each
    scalar follows the probability flow from its noise to the last level, so contexts stay sharp.
    langevin: annealed Langevin dynamics from the corrupted value. particles: many drawn
    restorations an example, weighed by how well they foresee the corrupted values to come; the
    slowest, and the one that knows salt-pepper noise and masks for what they are. What a mask hides
    is drawn given all that is known, before it and after it; --average gives the expected values.
    known-first: of a model trained with --order any, which draws what a mask hides after all that
    is known, exactly and without particles; --draws N gives the mean of N draws.

    Examples are read and written batch by batch, whatever their number; processes started by
    torchrun or srun share the batches.

    Examples:

      arcsm denoise mnist.safetensors mnist --corrupt gaussian:0.6 --limit 100 -o restored.h5
      arcsm denoise mnist.safetensors noisy.h5 --sigma 0.5 -o restored.h5
      arcsm denoise mnist.safetensors mnist --corrupt mask:half.png --limit 64 -o filled.h5
      arcsm data digits -o - | arcsm denoise m.safetensors - --corrupt salt-pepper:0.3 -o out.h5
    """
    from arcsm_cli.data.stream import open_stream
    from arcsm_cli.denoising.examples import restore_all
    from arcsm_cli.denoising.methods import (
        Settings,
        choose_denoiser,
        noise_to_expect,
        parse_corruption,
    )
    from arcsm_cli.distributed.ranks import joined
    from arcsm_cli.evaluation.figures import check_shape, collect
    from arcsm_cli.evaluation.overlap import Trained
    from arcsm_cli.io.provenance import extend, sha256_file
    from arcsm_cli.io.sample_output import check_sample_output, sample_output
    from arcsm_cli.io.streams import label, local_input
    from arcsm_cli.models.arcsm import ARCSM
    from arcsm_cli.models.load import load_model
    from arcsm_cli.runtime import reuse_memory

    check_sample_output(output, force=force)
    torch_device = resolve_device(device)
    reuse_memory()
    with joined(torch_device) as ranks:
        with local_input(model) as path:
            checkpoint, network = load_model(path)
            digest = sha256_file(path)
        if not isinstance(network, ARCSM):
            raise DamagedInputError(
                f"{label(model)}: denoise takes a score model; this one is of kind {network.kind}"
            )
        network = network.to(torch_device)
        corruption = None if corrupt is None else parse_corruption(corrupt, network)
        settings = Settings(**restoring)
        shape = network.config.shape
        stream = open_stream(
            data,
            options,
            default_split="test",
            like=shape,
            names=network.config.columns,
            given=network.config.given,
        )
        with stream as examples:
            check_shape(network, examples)
            # What is clean will be measured; what is not is only to be restored.
            told = corruption is not None and ranks.is_first
            overlap = Trained.of(checkpoint).overlap(examples) if told else {}
            estimated = noise_to_expect(network, corruption, settings, examples)
            denoiser = choose_denoiser(network, corruption, settings, estimated)
            inputs = {label(model): digest, data: examples.digest}
            entry = provenance_entry(seed=seed, inputs=inputs)
            chain = extend([checkpoint.provenance, examples.source], entry)
            file = sample_output(
                output,
                shape,
                chain,
                columns=network.config.columns,
                force=force,
                writes=ranks.is_first,
            )
            total = ranks.own_count(len(examples), batch_size) * network.config.dimensions
            with file as append, progress(total, "denoising") as bar:
                batches = restore_all(
                    denoiser,
                    corruption,
                    examples,
                    clip=clip,
                    batch_size=batch_size,
                    seed=seed,
                    tick=bar.update,
                    ranks=ranks,
                )
                collect(batches, len(examples), append=append)
            count = len(examples)
    if json and output != "-" and ranks.is_first:
        figures: dict[str, object] = {"samples": count}
        if denoiser.sigma is not None:
            figures["sigma"] = denoiser.sigma
        print_result({"method": denoiser.method, "metrics": figures} | overlap, json=True)
