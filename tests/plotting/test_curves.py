"""Training curves."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.plotting.curves import History, draw_history, read_history
from arcsm_cli.plotting.figure import new_figure

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
COLUMN = st.lists(st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=5)


def training(count: int = 4, **columns: Any) -> dict[str, Any]:
    history = {
        "step": [10.0 * (i + 1) for i in range(count)],
        "loss": [1.0 / (i + 1) for i in range(count)],
        "valid_loss": [1.1 / (i + 1) for i in range(count)],
        "lr": [1e-3] * count,
    }
    return {"history": history | columns, "settings": {"objective": "csm", "steps": 20}}


def drawn(history: History) -> Any:
    """The axes of the losses, drawn to the last pixel."""
    with new_figure(6, 4, layout="constrained") as figure:
        draw_history(figure, history)
        figure.canvas.draw()
        return figure.axes[0]


def test_every_column_is_read() -> None:
    history = read_history(training(), {}, "m")
    assert set(history.curves) == {"loss", "valid_loss", "lr"}


def test_the_axis_names_the_objective() -> None:
    assert drawn(read_history(training(), {}, "m")).get_ylabel() == "CSM loss per dimension"


@pytest.mark.parametrize("key", ["valid_loss", "lr"])
def test_a_history_may_lack_a_column(key: str) -> None:
    some = training()
    del some["history"][key]
    drawn(read_history(some, {}, "m"))


@pytest.mark.parametrize("values", [{}, {"history": {}}, {"history": {"step": []}}])
def test_a_model_without_records_is_said_to_have_none(values: dict[str, Any]) -> None:
    with pytest.raises(DamagedInputError, match="m: holds no training history"):
        read_history(values, {}, "m")


@pytest.mark.parametrize(
    "column", [None, "text", [1.0], [1, 2, 3, "4"], [1, 2, 3, True], [1, 2, 3, 10**400], [[1]] * 4]
)
def test_a_damaged_column_is_refused(column: Any) -> None:
    with pytest.raises(DamagedInputError, match="m: "):
        read_history(training(loss=column), {}, "m")


@pytest.mark.parametrize("steps", [[1, 1, 2, 3], [4, 3, 2, 1]])
def test_steps_that_do_not_ascend_are_refused(steps: list[float]) -> None:
    with pytest.raises(DamagedInputError, match="ascend"):
        read_history(training(step=steps), {}, "m")


@given(st.dictionaries(st.sampled_from(["history", "settings"]), JSON), JSON)
def test_any_content_is_read_or_refused(values: dict[str, Any], inner: Any) -> None:
    config = inner if isinstance(inner, dict) else {"annealing": "staged", "levels": inner}
    with suppress(DamagedInputError):
        read_history(values, config, "m")


@given(st.fixed_dictionaries({"loss": COLUMN, "valid_loss": COLUMN, "lr": COLUMN}))
@settings(max_examples=4)
def test_whatever_is_read_can_be_drawn(columns: dict[str, list[float]]) -> None:
    count = min(map(len, columns.values()))
    cut = {key: column[:count] for key, column in columns.items()}
    with suppress(DamagedInputError):
        drawn(read_history(training(count, **cut), {}, "m"))


def test_a_single_record_is_seen() -> None:
    axes = drawn(read_history(training(1), {}, "m"))
    assert axes.lines[0].get_marker() == "o"


def test_a_huge_first_loss_does_not_flatten_the_rest() -> None:
    loss = [1e6, *np.linspace(2, 1, 99)]
    axes = drawn(read_history(training(100, loss=loss, valid_loss=loss), {}, "m"))
    assert axes.get_ylim()[1] < 10
    assert "1e+06" in axes.get_title(loc="left")


def test_an_ordinary_fall_is_shown_whole() -> None:
    axes = drawn(read_history(training(100), {}, "m"))
    assert axes.get_ylim()[1] > 1.1


def test_stages_are_named_by_their_noise_levels_as_far_as_they_were_reached() -> None:
    config = {"annealing": "staged", "levels": [1.0, 0.2, 0.04]}
    history = read_history(training(3), config, "m")  # 30 steps, 20 a stage
    assert [text.get_text() for text in drawn(history).texts] == ["σ = 1", "σ = 0.2"]


def test_the_curve_of_a_stage_does_not_continue_the_last_one() -> None:
    config = {"annealing": "staged", "levels": [1.0, 0.2]}
    line = drawn(read_history(training(4), config, "m")).lines[0]
    assert np.isnan(line.get_ydata()).tolist() == [False, False, True, False, False]


# Of VAEs


def of_vae(method: str = "csm", **columns: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    values = training(**columns)
    del values["settings"]["objective"]
    return values, {"latent_dim": 8, "method": method}


@pytest.mark.parametrize(("method", "loss"), [("elbo", "-ELBO"), ("csm", "-log p(x, z)")])
def test_the_loss_of_a_vae_is_named_in_nats(method: str, loss: str) -> None:
    history = read_history(*of_vae(method), "m")
    assert history.quantity == f"{loss}, nats"
    assert drawn(history).get_ylabel() == history.quantity


def test_a_score_loss_has_a_panel_of_its_own() -> None:
    score_loss = [-0.3, -0.4, -0.45, -0.47]
    history = read_history(*of_vae(score_loss=score_loss), "m")
    with new_figure(6, 4, layout="constrained") as figure:
        draw_history(figure, history)
        figure.canvas.draw()
        panels = figure.axes
    assert len(panels) == 3
    assert "score loss" in " ".join(panels[1].get_ylabel().split())
    assert np.array_equal(panels[1].lines[0].get_ydata(), score_loss)


def test_without_an_estimator_there_is_no_such_panel() -> None:
    with new_figure(6, 4, layout="constrained") as figure:
        draw_history(figure, read_history(*of_vae("elbo"), "m"))
        assert len(figure.axes) == 2


@pytest.mark.parametrize("column", [None, "text", [1.0], [1, 2, 3, True]])
def test_a_damaged_score_loss_is_refused(column: Any) -> None:
    with pytest.raises(DamagedInputError, match="m: "):
        read_history(*of_vae(score_loss=column), "m")


@pytest.mark.slow
@given(COLUMN, st.sampled_from(["elbo", "csm"]))
@settings(max_examples=4)
def test_any_score_loss_that_is_read_can_be_drawn(column: list[float], method: str) -> None:
    count = len(column)
    columns = {"score_loss": column, **training(count)["history"]}
    values = {"history": columns}
    with suppress(DamagedInputError):
        drawn(read_history(values, {"latent_dim": 8, "method": method}, "m"))
