"""A distillation from a model to the checkpoint of one that draws in one evaluation a scalar."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from arcsm_cli.cli.progress import progress
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.io.streams import label
from arcsm_cli.models.architecture import ANY, Quantiles
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.restore import make_model
from arcsm_cli.notices import note
from arcsm_cli.randomness import Purpose, generator_for
from arcsm_cli.training.distillation import lessons, teacher_samples
from arcsm_cli.training.run import Material, Place, begin, carry_on
from arcsm_cli.training.settings import Distilling, DistillSettings, Keeping
from arcsm_cli.training.start import Start
from arcsm_cli.training.state import TrainState

if TYPE_CHECKING:
    from arcsm_cli.distributed.ranks import Ranks

_HELD_OUT = 10  # one in so many
_COMPARED = 1 << 15  # scalars whose densities are compared at the end


def distill(
    place: Place,
    start: Start,
    quantiles: Quantiles,
    chosen: Distilling,
    *,
    seed: int,
    keeping: Keeping,
    device: str,
    ranks: Ranks,
    json: bool,
) -> None:
    """Teach a model its quantile functions, from the start or from where a run stands.

    Arguments:
        start: the model.
        quantiles: what is added to it.
        chosen: settings of the run.

    Raises:
        DamagedInputError: the model has no scores.
        UsageError: it is conditioned on what is given, or follows any order.
        ArcsmError: see `begin` and `carry_on`.
    """
    config = start.config
    if not isinstance(config, ModelConfig) or config.likelihood:
        raise DamagedInputError(
            f"{label(start.name)}: distill takes a score model; the samples of others take one "
            "evaluation already"
        )
    if config.given or config.order == ANY:
        what = "given labels or columns" if config.given else "any order"
        raise UsageError(f"{label(start.name)}: distill takes no models of {what}")
    config = replace(config, quantiles=quantiles)
    settings: DistillSettings = chosen.about(dimensions=config.dimensions).settings(
        seed=seed, checkpoint_every=keeping.checkpoint_every
    )
    own = {name: t for name, t in start.tensors.items() if not name.startswith("quantiles.")}
    state, earlier = begin(place, config, settings, start.digest, device, own)
    teacher = make_model(replace(config, quantiles=None))
    assert isinstance(teacher, ARCSM)
    teacher.load_state_dict(own)
    teacher = teacher.to(device).eval()
    train, valid, held_out = learnt_from(teacher, settings, start.name)
    carry_on(
        place,
        state,
        Material(
            train,
            valid,
            start.digest,
            {start.name: start.digest},
            [start.provenance],
            f"learns {len(train)} conditionals of {settings.examples} samples of "
            f"{label(start.name)}, holding {len(valid)} of {len(held_out)} out for validation",
            start.told,
        ),
        earlier,
        log_dir=keeping.log_dir,
        ranks=ranks,
        json=json,
        closing=lambda state: _gap(state, teacher, held_out, label(start.name)),
    )


def learnt_from(
    teacher: ARCSM, settings: DistillSettings, name: str
) -> tuple[Dataset, Dataset, Tensor]:
    """Return what is learnt of a model, held out, and the samples (B, D) that the latter is of.

    Arguments:
        name: of the model.
    """
    # An error of the divergence takes two at least.
    count = settings.examples + max(2, math.ceil(settings.examples / _HELD_OUT))
    with progress(count * teacher.config.dimensions, "sampling") as bar:
        x = teacher_samples(teacher, settings.seed, range(count), bar.update)
    x, held_out = x[: settings.examples], x[settings.examples :]
    parts = [(x, settings.contexts), (held_out, math.ceil(settings.contexts / _HELD_OUT))]
    with progress(sum(min(y.numel(), most) for y, most in parts), "computing quantiles") as bar:
        tables = []
        for i, (y, most) in enumerate(parts):
            generator = generator_for(settings.seed, Purpose.LESSONS, i)
            tables.append(Dataset(name, lessons(teacher, y, most, generator, bar.update).cpu()))
    return tables[0], tables[1], held_out


def _gap(state: TrainState, teacher: ARCSM, x: Tensor, name: str) -> dict[str, float]:
    """Say how far a model's density is from its teacher's, on the teacher's samples x (B, D)."""
    pupil: Any = state.averaged_model()
    if state.best:
        pupil.load_state_dict(state.best)
    x = x[: max(2, _COMPARED // x.shape[1])]
    gaps = (log_likelihood(teacher, x) - log_likelihood(pupil, x)).double().sum(1)
    mean = float(gaps.mean())
    error = float(gaps.std()) / math.sqrt(len(gaps))
    note(
        "%.3g +- %.2g nats an example from %s, %.2g a dimension (divergence, on %d samples of it)",
        *(mean, error, name, mean / x.shape[1], len(x)),
    )
    return {"gap": mean, "gap_se": error}
