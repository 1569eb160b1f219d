"""A training run with its files: start or resume, save as it goes, stop when asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arcsm_cli.data.conditions import names_of
from arcsm_cli.data.dataset import Rows
from arcsm_cli.errors import ArcsmError, DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.atomic import atomic_output
from arcsm_cli.io.checkpoint import (
    load_checkpoint,
    load_resume,
    load_resume_state,
    save_checkpoint,
    save_resume,
)
from arcsm_cli.io.streams import label, show
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.restore import Config, make_model
from arcsm_cli.notices import note
from arcsm_cli.options import flag, options_of
from arcsm_cli.randomness import Purpose, generator_for
from arcsm_cli.registry import OBJECTIVES
from arcsm_cli.training.loop import Observer, train
from arcsm_cli.training.settings import DistillSettings, RunSettings, TrainSettings
from arcsm_cli.training.state import TrainState

if TYPE_CHECKING:
    from torch import Tensor

    from arcsm_cli.training.tensorboard import TensorBoard


def is_stream(output: str) -> bool:
    """Return whether a checkpoint goes to standard output, a pipe or a device.

    It can be written only once then, and nothing can lie beside it.
    """
    if output == "-":
        return True
    return os.path.exists(output) and not (os.path.isfile(output) or os.path.isdir(output))


def resume_path(output: str) -> Path:
    """Return where the file that only resuming needs lies: beside the checkpoint."""
    return Path(output + ".resume")


def fresh_state(
    config: Config, settings: RunSettings, device: str, weights: dict[str, Tensor] | None = None
) -> TrainState:
    """Return the state before the first step.

    Arguments:
        weights: to begin with; those that are not among them are a function of the seed.
    """
    import torch

    seed = generator_for(settings.seed, Purpose.INITIAL_WEIGHTS, 0).initial_seed()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make_model(config)
    if weights is not None:
        model.load_state_dict(model.state_dict() | weights)
    return TrainState(model.to(device), settings)


@dataclass
class Session(Observer):
    """Where a run's results go, and what it tells whom; an observer of the training loop.

    Attributes:
        output: the checkpoint's path; only the final checkpoint is written to a stream.
        digest: SHA-256 of the training data, or of the model that teaches.
        provenance: the chain for the files, this command's entry last.
        stop: polled after every step.
        report: called with (loss, latest validation loss or None) after every step.
        board: TensorBoard curves, if wanted.
        examples: what the checkpoint tells of the examples that it was trained on.
    """

    output: str
    digest: str
    provenance: list[dict[str, Any]]
    stop: Callable[[], bool]
    report: Callable[[float, float | None], None]
    board: TensorBoard | None = None
    examples: dict[str, Any] = field(default_factory=dict)
    _valid_loss: float | None = field(default=None, init=False)
    _ours: set[str] = field(default_factory=set, init=False)

    def run(self, state: TrainState, data: Rows, valid: Rows, *, force: bool) -> bool:
        """Train to the end; True if complete, False if stopped early with everything saved."""
        self._force = force
        self._stream = is_stream(self.output)
        first = state.step
        complete = train(state, data, valid, self)
        # A run that was killed between its last two files has nothing left to train, but to write.
        idle = complete and state.step == first and not self._stream
        if complete and state.is_stalled:
            least = state.least() or {}
            note(
                "ends at step %d: the validation loss has not become less for %d validations, "
                "since step %d",
                *(state.step, state.waited, least.get("step", 0)),
            )
        if (complete and self._stream) or (idle and not self._is_written(state)):
            self._write(state)
        return complete

    def _is_written(self, state: TrainState) -> bool:
        try:
            return load_checkpoint(self.output).training.get("step") == state.step
        except (MissingInputError, DamagedInputError):
            return False

    def stepped(self, state: TrainState, loss: float) -> None:
        """Report a step."""
        self.report(loss, self._valid_loss)

    def recorded(self, state: TrainState) -> None:
        """Pass a new entry of the history on."""
        self._valid_loss = state.history["valid_loss"][-1]
        if self.board is not None:
            self.board.record(state)

    def stop_requested(self) -> bool:
        """Whether a signal came."""
        return self.stop()

    def checkpoint(self, state: TrainState) -> None:
        """Write both files; the resume file first, since it alone is enough to go on."""
        if self._stream:
            return
        tensors, values = state.resume_file(self.provenance, self.digest)
        with self._output(str(resume_path(self.output))) as path:
            save_resume(path, tensors, values)
        self._write(state)

    def _write(self, state: TrainState) -> None:
        with self._output(self.output) as path:
            save_checkpoint(path, state.checkpoint(self.provenance, self.digest, self.examples))

    @contextmanager
    def _output(self, name: str) -> Iterator[Path]:
        # The first write honours --force; later ones replace this run's own file. So of several
        # runs that begin at once, the first to save has both files to itself.
        with atomic_output(name, force=self._force or name in self._ours) as path:
            yield path
        self._ours.add(name)


def earlier_settings(output: str) -> dict[str, Any]:
    """Return the settings in the resume file of an interrupted run, unchecked.

    Raises:
        DamagedInputError: it is damaged.
    """
    found = load_resume_state(resume_path(output)).get("settings")
    return found if isinstance(found, dict) else {}


def resumed_state(
    output: str, config: Config, settings: RunSettings, digest: str, device: str
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Return the state and the provenance chain of an interrupted run.

    Raises:
        DamagedInputError: if the resume file is damaged.
        UsageError: if model, data or settings are not those of the interrupted run.
    """
    path = resume_path(output)
    tensors, values = load_resume(path)
    trained_on = values.get("data_digest")
    if not isinstance(trained_on, str):
        raise DamagedInputError(f"{label(path)}: does not say what data it is of")
    if trained_on != digest:
        raise UsageError(
            f"{label(path)}: the run to resume distils another model"
            if isinstance(settings, DistillSettings)
            else f"{label(path)}: the run to resume was trained on other data (of a file without "
            "splits, earlier versions trained on FILE:all)"
        )
    # Compared before anything is built: a damaged file must not decide how large the model is.
    if isinstance(settings, TrainSettings):
        _check_objective(values.get("settings"), settings.objective)
    _check_config(values.get("config"), config, label(path))
    try:
        state = TrainState.from_resume(tensors, values, settings, device)
    except DamagedInputError as error:
        raise DamagedInputError(f"{label(path)}: {error}") from error
    earlier = values["settings"]["steps"]
    if state.task.stages(state.model) > 1 and settings.steps != earlier:
        # Which stage a step belongs to would change.
        raise UsageError(
            f"--steps is {settings.steps} a stage, but the run to resume has {earlier}; only runs "
            "of one stage can be made longer"
        )
    _tell_rate(state, type(settings).from_dict(values["settings"]))
    chain = values.get("provenance")
    return state, chain if isinstance(chain, list) else []


def _tell_rate(state: TrainState, earlier: RunSettings) -> None:
    """Say if the learning rate rises, since more steps stretch the schedule."""
    step, settings = state.step, state.settings
    before, warm = earlier.learning_rate(step - 1), min(settings.warmup, settings.steps // 5)
    after = max(settings.learning_rate(at) for at in (step, max(step, warm)))
    if step and settings.steps != earlier.steps and after > 1.01 * before:
        note(
            "--steps %d after %d: the learning rate rises from %.2g, where the run stood, to %.2g, "
            "and falls to 0 at the new end",
            *(settings.steps, earlier.steps, before, after),
        )


def _check_objective(theirs: Any, objective: str) -> None:
    """Refuse to continue a run of another objective, which may have decided the kind of model."""
    then = theirs.get("objective") if isinstance(theirs, dict) else None
    if then in OBJECTIVES and then != objective:
        raise UsageError(f"--objective is {objective}, but the run to resume has {then}")


def _check_config(theirs: Any, config: Config, name: str) -> None:
    """Refuse to continue a run of another model; the message names the option that differs."""
    try:
        before = type(config).from_dict(theirs).to_dict()
    except ArcsmError as error:
        raise type(error)(f"{name}: {error}") from error
    ours = config.to_dict()
    if "columns" not in before:  # their names were not kept once
        ours.pop("columns", None)
    # Taken from the data, which are the same by their digest, in ways that change with versions.
    ours |= {key: before[key] for key in ("mean", "sd") if key in before}
    if isinstance(config, ModelConfig) and ours.get("given") != before.get("given"):
        theirs_given = ModelConfig.from_dict(theirs).given
        alike = names_of(config.given) == names_of(theirs_given)
        raise UsageError(
            f"--given is {names_of(config.given)}, but the run to resume has "
            f"{names_of(theirs_given)}"
            + (" of other categories or numbers: give the same DATA" if alike else "")
        )
    options = _compared(config)
    # The levels come last: what else differs may have decided them.
    order = [*options, *(k for k in (ours | before) if k != "levels"), "levels"]
    key = next((k for k in order if ours.get(k) != before.get(k)), None)
    if key is None:
        return
    option = flag(key) if key in options else None
    now: Any = ours.get(key)
    then: Any = before.get(key)
    if key == "levels":
        option, now, then = _differing_level(now, then)
    if key == "likelihood" and ours["levels"] != before["levels"]:
        # Either may have decided the other: name both.
        now, then = (
            f"{_shown(v)} with --sigma-min {_shown(n)}"
            for v, n in ((now, ours["levels"]), (then, before["levels"]))
        )
    if option is None:
        raise UsageError(
            f"{name}: the run to resume has {key} {show(then)}, not {show(now)}; give the same "
            "DATA, --limit and --standardize"
        )
    raise UsageError(f"{option} is {_shown(now)}, but the run to resume has {_shown(then)}")


def _compared(config: Config) -> list[str]:
    """Return the options that a configuration holds; first those that follow from no others."""
    parts = (config.network, config.quantiles) if isinstance(config, ModelConfig) else ()
    groups = [config, *filter(None, parts)]
    known = {k: o for group in groups for k, o in options_of(group).items() if o.stored}
    return sorted(known, key=lambda name: known[name].follows is not None)


def _differing_level(now: list[float], then: list[float]) -> tuple[str, Any, Any]:
    """Return which of the options of the noise levels differs, and its two values."""
    if len(now) != len(then):
        return "--levels", len(now), len(then)
    if now[-1] != then[-1]:
        return "--sigma-min", now[-1], then[-1]
    return "--sigma-max", now[0], then[0]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return value if isinstance(value, str) and len(value) <= 60 else show(value)
