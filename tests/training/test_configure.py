"""From data and choices to a model's configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import UsageError
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.contexts.made import MADEOptions
from arcsm_cli.training.autoregressive import AutoregressiveTask
from arcsm_cli.training.configure import Choices, check_dequantizing, model_config
from arcsm_cli.training.settings import TrainSettings


def table(scale: float = 1.0, d: int = 3) -> Dataset:
    noise = torch.randn(500, d, generator=torch.Generator().manual_seed(0))
    return Dataset("table.csv", scale * (noise * torch.arange(1, d + 1) + 5))


def pictures(channels: int = 1) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    return Dataset(
        "pictures",
        torch.randint(0, 256, (50, channels, 4, 4), dtype=torch.uint8, generator=generator),
    )


def test_mean_and_spread_of_vectors_are_those_of_each_column() -> None:
    data = table()
    config = model_config(data, Choices())
    assert config.mean == pytest.approx(data.values.double().mean(0).tolist())
    assert config.sd == pytest.approx(data.values.double().std(0, unbiased=False).tolist())


def test_vectors_stay_as_they_are() -> None:
    config = model_config(table(), Choices())
    assert (config.data_shift, config.data_scale) == ((0.0,), (1.0,))


def test_standardised_columns_have_mean_0_and_variance_1() -> None:
    data = table(scale=100.0)
    config = model_config(data, Choices(standardize=True))
    scaled = (data.values - torch.tensor(config.data_shift)) / torch.tensor(config.data_scale)
    assert torch.allclose(scaled.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(scaled.std(0, unbiased=False), torch.ones(3), atol=1e-5)
    assert config.mean == pytest.approx((0.0,) * 3, abs=1e-9)
    assert config.sd == pytest.approx((1.0,) * 3)


def test_images_go_from_minus_one_to_one() -> None:
    config = model_config(pictures(), Choices())
    assert (config.data_shift, config.data_scale) == ((0.5,), (0.5,))


def test_images_have_one_mean_and_spread_for_all_pixels() -> None:
    data = pictures(3)
    scaled = 2 * data.values.double() / 255 - 1
    config = model_config(data, Choices())
    assert config.mean == pytest.approx([scaled.mean().item()], abs=1e-6)
    assert config.sd == pytest.approx([scaled.std(unbiased=False).item()], abs=1e-6)


def test_a_constant_column_has_a_spread_above_zero() -> None:
    data = Dataset("table.csv", torch.ones(10, 2))
    for standardize in (False, True):
        config = model_config(data, Choices(standardize=standardize))
        assert min((*config.sd, *config.data_scale)) > 0


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_joint_annealing_starts_where_noise_dwarfs_the_data(scale: float) -> None:
    config = model_config(table(scale), Choices())
    assert config.levels[0] >= 3 * max(config.sd)
    assert config.levels[-1] == 0.05


@pytest.mark.parametrize(("channels", "high"), [(1, 1.0), (3, 0.2)])
def test_staged_levels_of_images_are_the_papers(channels: int, high: float) -> None:
    config = model_config(pictures(channels), Choices(annealing="staged"))
    assert config.levels == pytest.approx((high, (high * 0.04) ** 0.5, 0.04))


def test_levels_can_be_chosen() -> None:
    config = model_config(table(), Choices(sigma_max=8.0, sigma_min=0.5, levels=3))
    assert config.levels == pytest.approx((8.0, 2.0, 0.5))


def test_without_annealing_there_is_one_level() -> None:
    assert model_config(table(), Choices(annealing="none", sigma_min=0.3)).levels == (0.3,)


def test_without_annealing_there_may_be_no_noise() -> None:
    assert model_config(table(), Choices(annealing="none", sigma_min=0.0)).levels == (0.0,)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "--sigma-min"),
        ({"sigma_min": 0.0}, "--sigma-min"),
        ({"sigma_min": -1.0}, "--sigma-min"),
        ({"levels": 1}, "--levels"),
        ({"annealing": "none", "sigma_max": 1.0}, "--annealing none"),
        ({"annealing": "none", "levels": 3}, "--annealing none"),
        ({"annealing": "none", "sigma_min": -1.0}, "levels"),
        ({"hidden": (4, 5), "residual": True}, "one size"),
        ({"hidden": (1 << 20,)}, "hidden must be"),
        ({"order": "random", "order_seed": 1 << 64}, "order_seed"),
    ],
    ids=str,
)
def test_choices_that_do_not_fit_are_refused(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        model_config(table(), Choices(**choices))


def test_choices_reach_the_config() -> None:
    chosen: dict[str, Any] = {
        "order": "random",
        "order_seed": 3,
        "context_width": 5,
        "hidden": (9, 9),
        "residual": True,
        "score_hidden": (7,),
    }
    config = model_config(table(), Choices(**chosen))
    values = vars(config) | vars(config.network)
    assert {key: values[key] for key in chosen} == chosen


def test_no_hidden_layers_are_a_choice_of_their_own() -> None:
    assert model_config(table(), Choices(hidden=())).network == MADEOptions(hidden=())


def test_the_scale_is_that_of_all_rows() -> None:
    sorted_rows = torch.cat([torch.zeros(24_000, 1), torch.ones(6_000, 1)])
    config = model_config(Dataset("t", sorted_rows), Choices(standardize=True))
    assert (config.data_shift, config.data_scale) == (
        pytest.approx((0.2,)),
        pytest.approx((0.4,)),
    )


@pytest.mark.parametrize("size", [1e-9, 1e-6, 1e6])
def test_a_column_of_any_size_is_brought_to_variance_1(size: float) -> None:
    config = model_config(table(size), Choices(standardize=True))
    assert config.sd == pytest.approx((1.0,) * 3)
    assert config.data_scale[2] == pytest.approx(3 * size, rel=0.1)


def column(*values: float, rest: float = 5.0) -> Dataset:
    """Noise beside a column k that holds these values and otherwise ``rest``."""
    k = torch.full((400,), rest, dtype=torch.float64)
    k[: len(values)] = torch.tensor(values)
    noise = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    return Dataset("t.csv", torch.stack([noise, k], 1), columns=("a", "k"))


@pytest.mark.parametrize(("values", "words"), [((), "one value"), ((5.01,), "nearly")])
def test_columns_that_are_all_but_constant_are_named(
    values: tuple[float, ...], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    model_config(column(*values), Choices(standardize=True))
    assert words in caplog.text
    assert "'k'" in caplog.text
    assert "--drop k" in caplog.text


def test_a_column_with_two_values_is_no_constant(caplog: pytest.LogCaptureFixture) -> None:
    model_config(column(*[6.0] * 40), Choices(standardize=True))
    assert not caplog.text


def test_values_too_close_for_single_precision_are_to_be_standardised() -> None:
    far = Dataset("t.csv", table().values.double() + 1e9)
    with pytest.raises(UsageError, match=r"t\.csv: .*columns 1, 2, 3 .*--standardize"):
        model_config(far, Choices())
    assert model_config(far, Choices(standardize=True)).sd == pytest.approx((1.0,) * 3)


def test_values_beyond_what_models_take_are_named() -> None:
    for standardize in (False, True):
        with pytest.raises(UsageError, match=r"t\.csv: column 2 \('k'\)"):
            model_config(column(rest=1e30), Choices(standardize=standardize))


def test_columns_that_the_noise_hides_are_named(caplog: pytest.LogCaptureFixture) -> None:
    model_config(table(1e-3), Choices())
    assert "--standardize" in caplog.text


def test_names_of_columns_reach_the_config() -> None:
    assert model_config(column(), Choices()).columns == ("a", "k")


def test_dequantised_examples_lie_anywhere_in_the_cells_of_their_values(
    assert_uniform: Callable[[Tensor], None],
) -> None:
    grey = 77
    data = Dataset("grey", torch.full((1000, 1, 2, 2), grey, dtype=torch.uint8))
    config = model_config(data, Choices(sigma_min=1e-6, hidden=(4,)))
    check_dequantizing(config, data)
    prepared = AutoregressiveTask().prepare(
        ARCSM(config),
        data.rows(0, 1000),
        torch.Generator().manual_seed(0),
        TrainSettings(dequantize="uniform"),
        0,
        training=True,
    )
    levels = 255 * (prepared.context_input.x.double() + 1) / 2
    assert_uniform((levels - grey + 0.5).flatten())


def test_only_8_bit_images_are_dequantised() -> None:
    for values in (torch.rand(50, 1, 2, 2), torch.randn(50, 3)):
        data = Dataset("x", values)
        with pytest.raises(UsageError, match="--dequantize"):
            check_dequantizing(model_config(data, Choices(hidden=(4,))), data)
    data = Dataset("x", torch.zeros(50, 1, 2, 2, dtype=torch.uint8))
    discrete = Choices(objective="mle", likelihood="discretized-logistic-mixture", hidden=(4,))
    with pytest.raises(UsageError, match="--dequantize"):
        check_dequantizing(model_config(data, discrete), data)
