"""A run that was stopped and resumed, through real files, ends as one that never was."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import DamagedInputError, MissingInputError, OutputError, UsageError
from arcsm_cli.io.checkpoint import load_checkpoint, load_resume
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.restore import restore
from arcsm_cli.training import autoregressive, state
from arcsm_cli.training.loop import DivergedError
from arcsm_cli.training.session import Session, fresh_state, resume_path, resumed_state
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.state import TrainState

Make = Callable[..., Any]

STAGED: dict[str, Any] = {"annealing": "staged", "levels": 3}


class Run:
    """One training command: settings, data and an output, started as often as needed."""

    def __init__(
        self, output: Path, config: Any, settings: TrainSettings, data: Dataset, valid: Dataset
    ) -> None:
        self.output, self.config, self.settings = str(output), config, settings
        self.data, self.valid = data, valid

    @property
    def files(self) -> tuple[Path, Path]:
        return Path(self.output), resume_path(self.output)

    def state(self) -> TrainState:
        if self.files[1].exists():
            return self.resumed()
        return fresh_state(self.config, self.settings, "cpu")

    def resumed(self, **changes: Any) -> TrainState:
        settings = replace(self.settings, **changes)
        return resumed_state(self.output, self.config, settings, self.data.digest, "cpu")[0]

    def start(self, after: int | None = None, *, force: bool = True) -> bool:
        """Train; stop once ``after`` more steps are done."""
        done = itertools.count(1)
        stop = False

        def report(loss: float, valid_loss: float | None) -> None:
            nonlocal stop
            stop = next(done) == after

        session = Session(self.output, self.data.digest, [], lambda: stop, report)
        return session.run(self.state(), self.data, self.valid, force=force)

    def interrupted(self, stops: Iterable[int]) -> None:
        for after in stops:
            assert not self.start(after)
        assert self.start()


@pytest.fixture
def run(tmp_path: Path, config: Make, settings: Make, data: Dataset, valid: Dataset) -> Make:
    """Makes runs with outputs of their own."""
    names = (tmp_path / f"run{i}.safetensors" for i in itertools.count())

    def make(choices: dict[str, Any] | None = None, **values: Any) -> Run:
        return Run(next(names), config(**choices or {}), settings(**values), data, valid)

    return make


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def assert_same_files(one: Run, other: Run) -> None:
    first, second = load_checkpoint(one.output), load_checkpoint(other.output)
    assert equal(first.tensors, second.tensors)
    assert first.training == second.training
    assert equal(load_resume(one.files[1])[0], load_resume(other.files[1])[0])


# Going on


def test_a_run_stopped_at_any_step_ends_as_one_that_was_not(run: Make) -> None:
    whole = run()
    whole.start()
    for stop in range(1, 7):
        parts = run()
        parts.interrupted([stop])
        assert_same_files(whole, parts)


def test_a_staged_run_stopped_at_any_step_ends_as_one_that_was_not(run: Make) -> None:
    whole = run(STAGED, steps=4)
    whole.start()
    # Stages of four steps: 4 and 8 are their boundaries, 5 and 10 those of epochs.
    for stop in (2, 4, 5, 8, 10):
        parts = run(STAGED, steps=4)
        parts.interrupted([stop])
        assert_same_files(whole, parts)


@pytest.mark.parametrize(
    "values",
    [
        {"objective": "dsm"},
        {"control_variate": "none"},
        {"draws": 3},
        {"ema": 0.0},
        {"schedule": "constant", "clip": 0.0},
        {"precision": "bf16"},
        {"seed": 5},
        {"batch_size": 100},
    ],
    ids=str,
)
def test_a_run_of_other_settings_goes_on_as_well(run: Make, values: dict[str, Any]) -> None:
    whole, parts = run(**values), run(**values)
    whole.start()
    parts.interrupted([2, 3])
    assert_same_files(whole, parts)


def test_a_run_with_frames_goes_on_as_well(run: Make) -> None:
    whole, parts = run({"frames": "linear"}), run({"frames": "linear"})
    whole.start()
    parts.interrupted([2, 3])
    assert_same_files(whole, parts)


def test_a_file_of_before_control_variates_goes_on_without(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings],
) -> None:
    tensors, values, settings = content
    del tensors["posterior_shares"], values["settings"]["control_variate"]
    with pytest.raises(UsageError, match="--control-variate is auto"):
        TrainState.from_resume(dict(tensors), values, settings, "cpu")
    exact = replace(settings, control_variate="none")
    assert TrainState.from_resume(tensors, values, exact, "cpu").model.shares is None


def test_a_run_killed_between_checkpoints_goes_on_from_the_last(
    run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = run(), run()
    whole.start()

    class Killed(BaseException):
        pass

    def kill(self: Session, state: TrainState, loss: float) -> None:
        if state.step == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Session, "stepped", kill)
        with pytest.raises(Killed):
            parts.start()
    assert parts.resumed().step == 3
    parts.start()
    assert_same_files(whole, parts)


def test_a_run_killed_between_its_two_files_writes_the_other(run: Make) -> None:
    parts = run()
    parts.start()
    content = parts.files[0].read_bytes()
    parts.files[0].unlink()
    assert parts.start()
    assert parts.files[0].read_bytes() == content


def test_a_complete_run_is_left_as_it_is(run: Make) -> None:
    complete = run()
    complete.start()
    content = [path.read_bytes() for path in complete.files]
    assert complete.start()
    assert [path.read_bytes() for path in complete.files] == content


def test_a_complete_run_can_be_made_longer(run: Make) -> None:
    longer = run()
    longer.start()
    longer.settings = replace(longer.settings, steps=9)
    assert longer.start()
    assert load_checkpoint(longer.output).training["step"] == 9


# What the files hold


def test_the_checkpoint_holds_the_averaged_weights(run: Make) -> None:
    complete = run()
    complete.start()
    averaged = complete.resumed().average
    assert equal(load_checkpoint(complete.output).tensors, averaged)


def test_the_checkpoint_makes_the_model_again(run: Make) -> None:
    complete = run()
    complete.start()
    assert restore(load_checkpoint(complete.output)).config == complete.config


def test_the_checkpoint_says_how_far_it_was_trained(run: Make) -> None:
    stopped = run()
    stopped.start(5)
    training = load_checkpoint(stopped.output).training
    assert training["step"] == 5
    assert training["history"]["step"] == [2, 4]
    assert training["data_digest"] == stopped.data.digest


def test_a_stream_gets_the_final_checkpoint_alone(
    run: Make, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    streamed, filed = run(), run()
    streamed.output = "-"
    filed.start()
    capsysbinary.readouterr()
    assert streamed.start()
    assert capsysbinary.readouterr().out == filed.files[0].read_bytes()
    assert not Path("-.resume").exists()


def test_a_stopped_run_writes_nothing_to_a_stream(
    run: Make, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    streamed = run()
    streamed.output = "-"
    assert not streamed.start(3)
    assert capsysbinary.readouterr().out == b""


def test_an_existing_output_is_kept_unless_forced(run: Make) -> None:
    fresh = run()
    fresh.files[0].write_bytes(b"precious")
    with pytest.raises(OutputError):
        fresh.start(force=False)
    assert fresh.files[0].read_bytes() == b"precious"


def test_a_run_leaves_alone_what_another_saved_meanwhile(run: Make) -> None:
    fresh = run()
    state = fresh.state()
    fresh.files[1].write_bytes(b"theirs")
    session = Session(fresh.output, "", [], lambda: False, lambda loss, valid: None)
    with pytest.raises(OutputError):
        session.run(state, fresh.data, fresh.valid, force=False)
    assert fresh.files[1].read_bytes() == b"theirs"
    assert not fresh.files[0].exists()


def test_a_run_replaces_the_checkpoints_that_it_wrote_itself(run: Make) -> None:
    fresh = run(checkpoint_every=1)
    assert fresh.start(force=False)


# Divergence


def test_a_diverged_run_leaves_nothing(run: Make) -> None:
    diverging = run(lr=1e30, warmup=0, checkpoint_every=1, validate_every=1)
    with pytest.raises(DivergedError):
        diverging.start()
    assert list(diverging.files[0].parent.iterdir()) == []


def test_a_diverged_run_keeps_its_last_good_files(
    run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging = run()
    diverging.start(4)
    content = [path.read_bytes() for path in diverging.files]

    def bad(model: ARCSM, batch: Any, random: Any) -> Tensor:
        return sum(p.sum() for p in model.parameters()) * torch.tensor(float("nan"))  # type: ignore[return-value]

    monkeypatch.setitem(autoregressive.OBJECTIVES, "csm", bad)
    with pytest.raises(DivergedError):
        diverging.start()
    assert [path.read_bytes() for path in diverging.files] == content


# Refusals


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 9},
        {"objective": "dsm"},
        {"lr": 2e-2},
        {"schedule": "constant"},
        {"ema": 0.5},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_setting_is_refused_by_its_option(run: Make, change: dict[str, Any]) -> None:
    stopped = run()
    stopped.start(2)
    option = "--" + next(iter(change)).replace("_", "-")
    with pytest.raises(UsageError, match=option):
        stopped.resumed(**change)


def test_a_staged_run_cannot_change_the_length_of_its_stages(run: Make) -> None:
    stopped = run(STAGED)
    stopped.start(9)
    with pytest.raises(UsageError, match="--steps"):
        stopped.resumed(steps=20)


@pytest.mark.parametrize(
    ("choices", "option"),
    [
        ({"hidden": (7, 7)}, "--hidden"),
        ({"context_width": 3}, "--context-width"),
        ({"score_hidden": (6,)}, "--score-hidden"),
        ({"order": "reversed"}, "--order"),
        ({"residual": True}, "--residual"),
        ({"annealing": "none"}, "--annealing"),
        ({"sigma_min": 0.1}, "--sigma-min"),
        ({"sigma_max": 9.0}, "--sigma-max"),
        ({"levels": 4}, "--levels"),
        ({"standardize": True}, "--standardize"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_model_is_refused_by_its_option(
    run: Make, config: Make, choices: dict[str, Any], option: str
) -> None:
    stopped = run()
    stopped.start(2)
    stopped.config = config(**choices)
    with pytest.raises(UsageError, match=option):
        stopped.resumed()


def test_other_data_are_refused(run: Make) -> None:
    stopped = run()
    stopped.start(2)
    stopped.data = Dataset("other", stopped.data.values + 1)
    with pytest.raises(UsageError, match="other data"):
        stopped.resumed()


def test_nothing_to_resume_is_missing(run: Make) -> None:
    with pytest.raises(MissingInputError):
        run().resumed()


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"{}"], ids=["empty", "zeros", "short"])
def test_a_damaged_resume_file_is_refused_by_name(run: Make, content: bytes) -> None:
    stopped = run()
    stopped.start(2)
    stopped.files[1].write_bytes(content)
    with pytest.raises(DamagedInputError, match=r"safetensors\.resume"):
        stopped.resumed()


def test_a_cut_resume_file_is_refused(run: Make) -> None:
    stopped = run()
    stopped.start(2)
    content = stopped.files[1].read_bytes()
    for kept in (len(content) - 1, len(content) // 2, 9):
        stopped.files[1].write_bytes(content[:kept])
        with pytest.raises(DamagedInputError):
            stopped.resumed()


def test_a_checkpoint_is_no_resume_file(run: Make) -> None:
    stopped = run()
    stopped.start(2)
    stopped.files[1].write_bytes(stopped.files[0].read_bytes())
    with pytest.raises(DamagedInputError, match="resume"):
        stopped.resumed()


# Content that a hostile file may hold


@pytest.fixture
def content(run: Make) -> tuple[dict[str, Tensor], dict[str, Any], TrainSettings]:
    """Tensors and entries of a sound resume file, to be spoiled."""
    stopped = run({"frames": "none"})  # all weights are trained, the first one too
    stopped.start(3)
    tensors, values = load_resume(stopped.files[1])
    return dict(tensors), dict(values), stopped.settings


TENSORS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "no weights": lambda t: t.pop("weights.stages.0.score.out.bias"),
    "no average": lambda t: t.pop("average.stages.0.score.out.bias"),
    "weights of another shape": lambda t: t.update(
        {"average.stages.0.score.out.bias": torch.zeros(2)}
    ),
    "weights of another type": lambda t: t.update(
        {"average.stages.0.score.out.bias": torch.zeros(1, dtype=torch.complex64)}
    ),
    "a missing moment": lambda t: t.pop("adam.0.exp_avg"),
    "moments without a step": lambda t: t.pop("adam.0.step"),
    "a first moment of another shape": lambda t: t.update({"adam.0.exp_avg": torch.zeros(1)}),
    "a second moment of another shape": lambda t: t.update({"adam.0.exp_avg_sq": torch.zeros(1)}),
    "a step that is no scalar": lambda t: t.update({"adam.0.step": torch.ones(3)}),
    "a negative step": lambda t: t.update({"adam.0.step": torch.tensor(-1.0)}),
    "a negative second moment": lambda t: t["adam.0.exp_avg_sq"].sub_(1.0),
    "moments of whole numbers": lambda t: t.update({"adam.0.exp_avg": t["adam.0.exp_avg"].long()}),
    "no posterior shares": lambda t: t.pop("posterior_shares"),
    "posterior shares above 1": lambda t: t["posterior_shares"].add_(1.0),
    "posterior shares of another shape": lambda t: t.update(posterior_shares=torch.ones(3)),
    "an unknown tensor": lambda t: t.update(more=torch.zeros(1)),
    "moments of no weight": lambda t: t.update({"adam.999.step": torch.ones(())}),
}
ENTRIES: dict[str, dict[str, Any]] = {
    "a negative position": {"step": -1},
    "a broken position": {"step": 1.5},
    "an infinite position": {"step": float("inf")},
    "a position in words": {"step": "3"},
    "no pending losses": {"pending": []},
    "pending losses in words": {"pending": "ab"},
    "infinite pending losses": {"pending": [float("inf"), 1]},
    "pending losses beyond numbers": {"pending": [10**400, 1]},
    "no curves": {"history": {}},
    "curves of unequal lengths": {"history": {"step": [1], "loss": [], "valid_loss": [], "lr": []}},
    "a curve that is no list": {"history": {"step": 1, "loss": 1, "valid_loss": 1, "lr": 1}},
    "curves that are no object": {"history": []},
    "no config": {"config": None},
    "no settings": {"settings": None},
    "settings that are a list": {"settings": []},
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_resume_file_with_bad_tensors_is_refused(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings], name: str
) -> None:
    tensors, values, settings = content
    TENSORS[name](tensors)
    with pytest.raises(DamagedInputError):
        TrainState.from_resume(tensors, values, settings, "cpu")


@pytest.mark.parametrize("name", ENTRIES)
def test_a_resume_file_with_bad_entries_is_refused(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings], name: str
) -> None:
    tensors, values, settings = content
    with pytest.raises(DamagedInputError):
        TrainState.from_resume(tensors, values | ENTRIES[name], settings, "cpu")


@pytest.mark.parametrize("key", ["config", "settings", "step", "history", "pending"])
def test_a_resume_file_that_lacks_an_entry_is_refused(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings], key: str
) -> None:
    tensors, values, settings = content
    del values[key]
    with pytest.raises(DamagedInputError):
        TrainState.from_resume(tensors, values, settings, "cpu")


def test_a_small_resume_file_cannot_claim_a_large_model(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors, values, settings = content
    values["config"] = values["config"] | {"hidden": [1 << 16, 1 << 16]}

    def build(config: Any) -> ARCSM:
        raise AssertionError("a model was built")

    monkeypatch.setattr(state, "make_model", build)
    with pytest.raises(DamagedInputError, match="weights"):
        TrainState.from_resume(tensors, values, settings, "cpu")


def test_a_resumed_state_owns_its_tensors(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings],
) -> None:
    tensors, values, settings = content
    resumed = TrainState.from_resume(tensors, values, settings, "cpu")
    before = resumed.resume_file([], "")[0]
    before = {k: v.clone() for k, v in before.items()}
    for tensor in tensors.values():
        tensor.zero_()
    assert equal(resumed.resume_file([], "")[0], before)
