"""Which values of an image its contexts may depend on, for every context network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.models.images import (
    FILTERS,
    Case,
    Make,
    case_inputs,
    every,
    few,
    in_one_pass,
    jacobian,
    noisy,
    one_by_one,
)

# Causality


@every
def test_contexts_do_not_depend_on_their_own_or_later_sites(case: Case) -> None:
    gradient = jacobian(case.network(), case.inputs(1)[0])
    for site, of_site in enumerate(gradient):
        later = of_site[:, site * case.site :]
        assert torch.equal(later, torch.zeros_like(later))


@every
@torch.no_grad()
def test_contexts_stay_when_later_inputs_change(case: Case) -> None:
    network, (x, other) = case.network(), case.inputs(2)
    # In row d all inputs from d on are others.
    rows = torch.where(torch.ones(len(x), len(x), dtype=torch.bool).tril(-1), x, other)
    of_rows, of_x = in_one_pass(network, rows), in_one_pass(network, x[None])[0]
    for d in range(0, len(x), case.site):
        assert (of_rows[d, d] - of_x[d]).abs().max() <= 1e-12 * of_x.abs().max()


@every
def test_the_first_context_is_a_constant(case: Case) -> None:
    first = case.network()(case.inputs(5))[:, 0]
    assert torch.allclose(first, first[:1].expand_as(first), rtol=1e-12, atol=1e-12)


@every
def test_contexts_depend_on_the_site_before_in_their_row(case: Case) -> None:
    gradient = jacobian(case.network(), case.inputs(1)[0])
    row = case.shape[0] * case.shape[2] // case.site
    for site in range(len(gradient)):
        if site % row > 0:
            before = slice((site - 1) * case.site, site * case.site)
            assert (gradient[site, :, before] != 0).all()


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4)], ids=str)
def test_scores_do_not_depend_on_later_values(
    random_model: Make, context: str, shape: tuple[int, int, int]
) -> None:
    model = noisy(random_model(shape=shape, context=context, filters=FILTERS, resnet_blocks=1))
    sigma = torch.tensor(0.3).double()
    x = case_inputs(model, 1)[0]
    gradient = jacobian(lambda v: model.score(v, model.contexts(v), sigma), x)
    assert torch.equal(gradient.triu(1), torch.zeros_like(gradient))
    assert (gradient.diagonal() != 0).all()


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
@pytest.mark.parametrize("order", ["raster", "reversed"])
def test_the_contexts_of_a_pixel_see_pixels_before_it_and_its_earlier_channels(
    random_model: Make, context: str, order: str
) -> None:
    shape = (3, 4, 4)
    model = noisy(
        random_model(shape=shape, context=context, order=order, filters=FILTERS, hidden=(50,))
    )
    image = torch.rand(shape, dtype=torch.float64)

    def contexts(flat: Tensor) -> Tensor:
        return model.contexts(model.sort(flat.view(-1, *shape)))

    gradient = jacobian(contexts, image.flatten()).view(16, 3, -1, 3, 16).abs().sum(2)
    for pixel in range(16):
        for channel in range(3):
            seen = gradient[pixel, channel] != 0  # (channels, pixels) of the image as it lies
            at = pixel if order == "raster" else 15 - pixel
            before = slice(0, at) if order == "raster" else slice(at + 1, 16)
            after = slice(at + 1, 16) if order == "raster" else slice(0, at)
            assert not seen[:, after].any()
            assert seen[:, at].tolist() == [c < channel for c in range(3)]
            assert seen[:, before].all()


# Dropout


@few
def test_dropout_keeps_causality(case: Case) -> None:
    network = case.network(dropout=0.5).train()
    gradient = jacobian(network, case.inputs(1)[0])
    for site, of_site in enumerate(gradient):
        later = of_site[:, site * case.site :]
        assert torch.equal(later, torch.zeros_like(later))


@few
@torch.no_grad()
def test_dropout_does_nothing_out_of_training(case: Case) -> None:
    x = case.inputs(2)
    assert torch.equal(case.network(dropout=0.5)(x), case.network(dropout=0.0)(x))


@few
def test_walking_drops_nothing(case: Case) -> None:
    network, x = case.network(dropout=0.5), case.inputs(2)
    assert torch.equal(one_by_one(network, x), one_by_one(network.train(), x))
