"""A run of a command that trains, from what it is given to its last checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.progress import progress
from arcsm_cli.cli.signals import StopFlag
from arcsm_cli.cli.table import print_result
from arcsm_cli.data.dataset import Rows
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.several import together
from arcsm_cli.data.sketch import to_json
from arcsm_cli.data.spec import TrainingData, load_training
from arcsm_cli.data.streamed import is_streamed
from arcsm_cli.distributed.ranks import Ranks
from arcsm_cli.errors import Interrupted, OutputError, StoppedEarly, UsageError
from arcsm_cli.io.atomic import check_output
from arcsm_cli.io.provenance import extend
from arcsm_cli.io.sample_output import check_ending
from arcsm_cli.io.streams import label, show
from arcsm_cli.models.restore import Config
from arcsm_cli.notices import note
from arcsm_cli.training.loop import train
from arcsm_cli.training.rehearsal import rehearse
from arcsm_cli.training.session import (
    Session,
    earlier_settings,
    fresh_state,
    is_stream,
    resume_path,
    resumed_state,
)
from arcsm_cli.training.settings import Keeping, Reading, RunSettings
from arcsm_cli.training.silent import Follower
from arcsm_cli.training.start import Start
from arcsm_cli.training.state import TrainState

if TYPE_CHECKING:
    from arcsm_cli.training.tensorboard import TensorBoard


def load_examples(
    data: Sequence[str], options: DataOptions, reading: Reading, place: Place
) -> TrainingData:
    """Load what a run is given of DATA.

    A run that goes on reads its data as it did before, unless ``reading`` says how.

    Arguments:
        data: of one word, or of several files.

    Raises:
        ArcsmError: see `load_training`.
    """
    stream = reading.stream
    if stream is None and place.going_on:
        stream = earlier_settings(place.output).get("stream", "no")
    return load_training(
        together(data), options, stream=None if stream is None else stream == "yes"
    )


@dataclass(frozen=True)
class Place:
    """Where a run's checkpoint goes.

    Attributes:
        output: the path, or ``-``.
        streamed: it is written once, at the end, and nothing lies beside it.
        going_on: there is an interrupted run to continue.
        overwrite: files that are there may be replaced.
        dry_run: nothing is written: the run is only found out about.
    """

    output: str
    streamed: bool
    going_on: bool
    overwrite: bool
    dry_run: bool = False


def find_place(output: str, keeping: Keeping, *, force: bool) -> Place:
    """Check where a run's files go, before anything is computed.

    Raises:
        UsageError: ``--resume`` without a file to resume.
        OutputError: an output exists or cannot be created.
    """
    streamed, resume = is_stream(output), keeping.resume
    if resume and streamed:
        raise UsageError(f"--resume needs the checkpoint in a file, not -o {output}")
    beside = resume_path(output)
    going_on = resume and os.path.exists(beside)
    if resume and not going_on and os.path.exists(output) and not force:
        raise OutputError(f"{output}: exists but {beside} does not; --force starts anew")
    overwrite = force or going_on
    check_ending(output, (".safetensors",), "a checkpoint")
    check_output(output, force=overwrite)
    if not streamed:
        check_output(str(beside), force=overwrite)
    return Place(output, streamed, going_on, overwrite, keeping.dry_run)


def run_training(
    place: Place,
    config: Config,
    settings: RunSettings,
    data: str,
    given: TrainingData,
    *,
    device: str,
    log_dir: Path | None,
    ranks: Ranks,
    json: bool,
    start: Start | None = None,
) -> None:
    """Train on DATA from the start or from where a run stands to the last checkpoint.

    Arguments:
        data: the specification of the examples.
        given: the examples.
        ranks: train together; the first one writes.
        start: what the weights begin with, fresh ones if None.

    Raises:
        ArcsmError: see `begin` and `carry_on`.
    """
    examples = given.train
    if min(settings.batch_size, len(examples)) < ranks.size:
        raise UsageError(
            f"--batch-size {settings.batch_size}: is for all {ranks.size} processes together, "
            "and each needs an example"
        )
    begun = {} if start is None else {start.name: start.digest}
    material = Material(
        examples,
        given.valid,
        # Of the examples themselves: the input's own digest does not see --limit or --resize.
        examples.content(),
        (examples.inputs or {data: examples.digest}) | begun,
        [examples.source, [] if start is None else start.provenance],
        _account(given),
        _counts(given, start),
    )
    tensors = None if start is None else start.tensors
    state, earlier = begin(place, config, settings, material.digest, device, tensors)
    carry_on(place, state, material, earlier, log_dir=log_dir, ranks=ranks, json=json)


@dataclass(frozen=True)
class Material:
    """What a run learns from, and what its files tell of that.

    Attributes:
        train, valid: the examples.
        digest: what a run that goes on must have been of.
        inputs: SHA-256 of what was read, by its name.
        chains: where that comes from.
        account: one line on what is learnt from.
        told: what a checkpoint tells of its examples.
    """

    train: Rows
    valid: Rows
    digest: str
    inputs: dict[str, str]
    chains: list[list[dict[str, Any]]]
    account: str
    told: dict[str, Any]


def begin(
    place: Place,
    config: Config,
    settings: RunSettings,
    digest: str,
    device: str,
    tensors: dict[str, Tensor] | None = None,
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Return the state that a run begins or goes on with, and the latter's provenance.

    Arguments:
        digest: of what is learnt from.
        tensors: weights to begin with.

    Raises:
        ArcsmError: see `resumed_state`.
    """
    if place.going_on:
        return resumed_state(place.output, config, settings, digest, device)
    return fresh_state(config, settings, device, tensors), []


def carry_on(
    place: Place,
    state: TrainState,
    material: Material,
    earlier: list[dict[str, Any]],
    *,
    log_dir: Path | None,
    ranks: Ranks,
    json: bool,
    closing: Callable[[TrainState], dict[str, float]] | None = None,
) -> None:
    """Train from where a state stands, with progress, to the last checkpoint.

    Arguments:
        earlier: the provenance of the run that goes on.
        closing: what is measured at the end, for the final figures.

    Raises:
        StoppedEarly, Interrupted: a signal came; with everything saved, with nothing to save.
        ArcsmError: see `train`.
    """
    settings = state.settings
    entry = provenance_entry(seed=settings.seed, inputs=material.inputs)
    total = settings.steps * state.task.stages(state.model)

    if place.dry_run:
        _rehearse(state, material, ranks, json=json)
        return
    with (
        StopFlag() as stop,
        progress(total, "training", done=state.step) as bar,
    ):
        state.share(ranks)

        def report(loss: float, valid_loss: float | None) -> None:
            figures = {"loss": loss} | ({} if valid_loss is None else {"valid": valid_loss})
            bar.update(1, **figures)

        board = _board(log_dir) if ranks.is_first else None
        note("%s", material.account)
        session = Session(
            place.output,
            material.digest,
            extend([*material.chains, earlier], entry),
            lambda: bool(stop),
            report,
            board,
            material.told,
        )
        if ranks.is_first:
            complete = session.run(state, material.train, material.valid, force=place.overwrite)
        else:
            follower = Follower(lambda: bool(stop))
            complete = train(state, material.train, material.valid, follower)
        ranks.wait()  # until the first one has saved: launchers end all when one has ended
        if board is not None:
            board.close()
        if not complete and place.streamed:
            raise Interrupted(f"stopped before the end; -o {place.output} leaves nothing to resume")
        if not complete:
            raise StoppedEarly(
                f"stopped by {stop.reason} at step {state.step} of {total}, all saved; "
                "the same command with --resume goes on"
            )
    figures = closing(state) if closing is not None and ranks.is_first else {}
    if json and place.output != "-" and ranks.is_first:
        last = {k: v[-1] for k, v in state.history.items() if v}
        last |= {"step": state.step} | figures
        parameters = sum(p.numel() for p in state.model.parameters())
        kept = {"kept": state.least()} if state.best else {}
        print_result({"metrics": last, "parameters": parameters} | kept, json=True)


def _rehearse(state: TrainState, material: Material, ranks: Ranks, *, json: bool) -> None:
    """Print what ``--dry-run`` finds out.

    Raises:
        Interrupted: a signal came.
    """
    with StopFlag() as stop:
        state.share(ranks)
        note("%s", material.account)
        found = rehearse(state, material.train, material.valid, lambda: bool(stop))
        ranks.wait()
        if stop:
            raise Interrupted(f"interrupted by {stop.reason}; --dry-run leaves nothing to resume")
    if found is None:
        raise UsageError("--dry-run: the run has no two steps left that could be timed")
    if ranks.is_first:
        print_result(found, json=json)


def _account(given: TrainingData) -> str:
    """Say how many examples are trained on, held out, left and skipped."""
    train, valid = given.train, given.valid
    text = f"trains on {len(train)} examples of {label(train.name)}"
    if is_streamed(train):
        text += ", read from there as they are needed (--stream)"
    if valid.name.startswith(train.name):
        text += f", holding {len(valid)} out for validation"
    else:
        text += f", validates on {len(valid)} of {label(valid.name)}"
    if given.part == "train":
        text += f", leaves {given.test} for test, of {given.whole} in all"
    if train.beside:
        kinds = (
            part.name if part.classes is None else f"{part.name} ({len(part.classes)} classes)"
            for part in train.beside
        )
        text += f", given {show(', '.join(kinds), 200)[1:-1]}"
    if train.skipped:
        text += f"; {train.skipped} could not be read and were skipped"
    return text


def _counts(given: TrainingData, start: Start | None) -> dict[str, Any]:
    """Return what a checkpoint tells of its examples."""
    found: dict[str, Any] = {
        "used": len(given.train),
        "held_out": len(given.valid),
        "left_for_test": given.test,
        "skipped": given.train.skipped,
        "part": given.part,
        "sketch": to_json(given.train.sketch()),
    }
    if start is not None:
        found["before"] = start.trained_on
    return found


def _board(folder: Path | None) -> TensorBoard | None:
    if folder is None:
        return None
    from arcsm_cli.training.tensorboard import TensorBoard

    try:
        return TensorBoard(folder)
    except OSError as error:
        raise OutputError(f"--log-dir {folder}: cannot be written: {error.strerror}") from error
