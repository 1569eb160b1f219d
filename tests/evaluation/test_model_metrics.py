"""Figures of a model on data, in the units that they are stated in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation.model_metrics import (
    bits_per_dimension,
    check_dequantized,
    check_shape,
    density_text,
    evaluate,
    noise_bpd,
    summary,
)

Make = Callable[..., Any]

IMAGE: dict[str, Any] = {"shape": (1, 2, 2), "data_shift": (0.5,), "data_scale": (0.5,)}


def vectors(n: int = 40, d: int = 3) -> Dataset:
    return Dataset("table.csv", torch.randn(n, d, generator=torch.Generator().manual_seed(0)))


def images(n: int = 40) -> Dataset:
    return Dataset("x", torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(0)))


def gathered(model: Any, data: Dataset, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Examples and figures of all batches."""
    options = {"metrics": ["nll", "csm"]} | options
    batches = list(evaluate(model.float(), data, **options))
    figures = {k: torch.cat([b.figures[k] for b in batches]) for k in batches[0].figures}
    return torch.cat([b.examples for b in batches]), figures


def test_nll_is_that_of_the_density_in_file_units(gaussian_model: Make) -> None:
    # In the model's scale N(0, sd^2 + sigma^2); a file value is shift + scale times that.
    shift, scale, sd, sigma = (1.0, 2.0), (3.0, 0.5), (0.5, 2.0), 0.25
    model = gaussian_model((0.0, 0.0), sd, levels=(9.0, sigma), data_shift=shift, data_scale=scale)
    x, figures = gathered(model, vectors(d=2))
    total = [c * math.hypot(s, sigma) for c, s in zip(scale, sd, strict=True)]
    exact = torch.distributions.Normal(torch.tensor(shift), torch.tensor(total))
    assert torch.allclose(figures["nll"], -exact.log_prob(x).double().sum(1), rtol=0, atol=1e-2)


def test_nll_of_images_is_that_of_the_scale_from_minus_one_to_one(gaussian_model: Make) -> None:
    model = gaussian_model((0.0,) * 4, (0.5,) * 4, levels=(3.0, 0.25))
    image = gaussian_model((0.0,) * 4, (0.5,) * 4, levels=(3.0, 0.25), **IMAGE)
    x, figures = gathered(image, images())
    rows = Dataset("rows", 2 * x.flatten(1) - 1)
    _, expected = gathered(model, rows, perturb=False)
    assert torch.allclose(figures["nll"], expected["nll"], rtol=0, atol=1e-3)


def test_csm_is_the_summand_of_the_objective(random_model: Make) -> None:
    model = random_model()
    x, figures = gathered(model, vectors())
    rows = model.sort(x)
    with torch.no_grad():
        s, ds = model.score_and_derivative(rows, model.contexts(rows), torch.tensor(0.1))
    expected = (0.5 * s.square() + ds).sum(1).double()
    assert torch.allclose(figures["csm"], expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_figures_do_not_depend_on_the_batch_size(random_model: Make, size: int) -> None:
    model = random_model()
    x, figures = gathered(model, vectors(), batch_size=size)
    same_x, same = gathered(model, vectors())
    assert torch.allclose(x, same_x, rtol=0, atol=1e-6)
    assert all(torch.allclose(figures[k], same[k], rtol=1e-4, atol=1e-3) for k in same)


def test_the_perturbation_is_noise_of_the_last_level(
    random_model: Make, assert_uniform: Callable[[Tensor], None]
) -> None:
    data = vectors(3000)
    model = random_model(data_scale=(2.0,), hidden=(2,))
    x, _ = gathered(model, data, metrics=["csm"])
    assert_uniform(torch.special.ndtr((x - data.values).double() / (2.0 * 0.1)).flatten())


def test_the_perturbation_is_a_function_of_the_seed(random_model: Make) -> None:
    model = random_model()
    one, same, other = (gathered(model, vectors(), seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.isclose(one, other, rtol=0, atol=1e-7).any()


def test_examples_that_carry_their_noise_are_taken_as_they_are(random_model: Make) -> None:
    x, _ = gathered(random_model(), vectors(), perturb=False)
    assert torch.allclose(x, vectors().values, rtol=0, atol=1e-6)


def test_a_model_without_noise_judges_the_data_themselves(random_model: Make) -> None:
    x, _ = gathered(random_model(annealing="none", levels=(0.0,)), vectors())
    assert torch.allclose(x, vectors().values, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("metrics", "figures"),
    [(["nll"], {"nll"}), (["bpd"], {"nll"}), (["csm"], {"csm"}), (["bpd", "csm"], {"nll", "csm"})],
)
def test_only_what_was_asked_for_is_computed(
    random_model: Make, metrics: list[str], figures: set[str]
) -> None:
    assert set(gathered(random_model(), vectors(), metrics=metrics)[1]) == figures


def test_data_of_another_shape_are_refused_with_both_shapes(random_model: Make) -> None:
    with pytest.raises(DamagedInputError, match=r"table\.csv.* 4, .* 3"):
        check_shape(random_model(), vectors(d=4))


def test_images_are_no_vectors(random_model: Make) -> None:
    with pytest.raises(DamagedInputError, match="1 x 2 x 2"):
        next(evaluate(random_model(shape=(4,)), images(), metrics=["nll"]))


@pytest.mark.parametrize("metric", ["nll", "csm"])
def test_weights_that_overflow_are_refused_and_give_no_figures(
    random_model: Make, metric: str
) -> None:
    model = random_model()
    with torch.no_grad():
        model.networks[0].score.out.weight.fill_(3e38)
    with pytest.raises(DamagedInputError, match="not numbers"):
        gathered(model, vectors(), metrics=[metric])


def test_bits_of_a_vector_are_nats_over_dimensions(random_model: Make) -> None:
    assert bits_per_dimension(random_model(), 3 * math.log(2)) == pytest.approx(1.0)


def test_bits_of_an_image_are_those_of_pixels_from_0_to_255(random_model: Make) -> None:
    # The uniform density on [-1, 1]^4: as a density of pixels, 1/255 in each dimension.
    model = random_model(**IMAGE)
    assert bits_per_dimension(model, 4 * math.log(2)) == pytest.approx(math.log2(255))


@pytest.mark.parametrize("config", [{}, IMAGE, {"data_scale": (2.0,)}], ids=str)
def test_the_bits_of_the_noise_are_those_of_data_without_entropy(
    random_model: Make, config: dict[str, Any]
) -> None:
    model = random_model(**config)
    scale = float(model.config.data_scale[0]) * 0.1 * (255 if model.config.is_image else 1)
    bits = 0.5 * math.log2(2 * math.pi * math.e * scale**2)
    assert noise_bpd(model) == pytest.approx(bits)


def test_without_noise_there_are_no_bits_of_it(random_model: Make) -> None:
    assert noise_bpd(random_model(annealing="none", levels=(0.0,))) is None


def test_a_summary_holds_means_and_their_standard_errors(random_model: Make) -> None:
    values = np.arange(10, dtype=np.float32)
    result = summary(random_model(), {"nll": values}, ["nll"])
    assert result["nll"] == pytest.approx(values.mean())
    assert result["nll_se"] == pytest.approx(values.std(ddof=1) / math.sqrt(10))


def test_the_error_of_bits_is_that_of_nats_in_other_units(random_model: Make) -> None:
    model = random_model(**IMAGE)
    low, high = (
        summary(model, {"nll": np.array([1.0, 2.0, 4.0]) + c}, ["nll", "bpd"]) for c in (0.0, 1.0)
    )
    ratio = (high["bpd"] - low["bpd"]) / (high["nll"] - low["nll"])
    assert low["bpd_se"] / low["nll_se"] == pytest.approx(ratio)


def test_one_example_has_no_standard_error(random_model: Make) -> None:
    assert math.isnan(summary(random_model(), {"nll": np.ones(1)}, ["nll"])["nll_se"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "file units plus normal noise of sigma 0.1"),
        ({"data_scale": (2.0,)}, "standardised"),
        (IMAGE, r"images in \[-1, 1\] plus normal noise of sigma 0.1"),
        ({"annealing": "none", "levels": (0.0,)}, "^data in file units$"),
    ],
    ids=str,
)
def test_the_density_is_named_with_its_scale_and_noise(
    random_model: Make, config: dict[str, Any], words: str
) -> None:
    import re

    assert re.search(words, density_text(random_model(**config), perturbed=True))


def test_it_is_said_when_the_noise_was_not_added_here(random_model: Make) -> None:
    assert "already perturbed" in density_text(random_model(), perturbed=False)


@pytest.mark.parametrize(
    "sd",
    [pytest.param(0.003, marks=pytest.mark.slow), 0.02, pytest.param(0.5, marks=pytest.mark.slow)],
)
def test_the_bound_of_dequantised_images_is_that_of_its_closed_form(
    gaussian_model: Make, sd: float
) -> None:
    # Of N(m, v), m a grey value's centre: E[log p(m + u)] = -log(2 pi v) / 2 - w^2 / (24 v).
    grey, cell, sigma = 128, 2 / 255, 0.0026
    model = gaussian_model((2 * grey / 255 - 1,) * 4, (sd,) * 4, levels=(3.0, sigma), **IMAGE)
    data = Dataset("x", torch.full((2000, 1, 2, 2), grey, dtype=torch.uint8))
    x, figures = gathered(model, data, metrics=["bpd"], dequantize=True)
    bits = bits_per_dimension(model, float(figures["nll"].mean()))
    v = sd**2 + sigma**2
    expected = 0.5 * math.log(2 * math.pi * v) + cell**2 / (24 * v) - math.log(cell)
    assert bits == pytest.approx(expected / math.log(2), abs=0.02)
    assert bits > -math.log2(math.erf(cell / 2 / math.sqrt(2 * v))) - 1e-3  # a draw each
    assert (255 * x - grey).abs().max() <= 0.5 + 1e-4


def test_dequantisation_is_refused_where_noise_is_wide_beside_a_cell(gaussian_model: Make) -> None:
    for sigma, fits in ((0.0026, True), (0.0027, False), (0.04, False)):
        model = gaussian_model((0.0,) * 4, (0.5,) * 4, levels=(3.0, sigma), **IMAGE)
        if fits:
            check_dequantized(model)
        else:
            with pytest.raises(UsageError, match=f"sigma {sigma:g}.*--sigma-min 0.0026"):
                check_dequantized(model)


def test_values_that_are_not_of_8_bits_are_not_dequantised(gaussian_model: Make) -> None:
    model = gaussian_model((0.0,) * 4, (0.5,) * 4, levels=(3.0, 0.0026), **IMAGE)
    with pytest.raises(DamagedInputError, match="8-bit"):
        gathered(model, images(), metrics=["bpd"], dequantize=True)
