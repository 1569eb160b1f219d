"""Another model's weights to start a training from (``--init``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from arcsm_cli.data.conditions import Conditions, names_of
from arcsm_cli.errors import UsageError
from arcsm_cli.io.provenance import sha256_file
from arcsm_cli.io.streams import label, local_input, show
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.load import load_any
from arcsm_cli.models.restore import Config
from arcsm_cli.notices import note

C = TypeVar("C", bound=Config)

MOST_TRAININGS = 64
"""One after another, whose examples a checkpoint tells of."""

# What the weights are relative to: it belongs to the model that they come from.
_SCALE = ("data_shift", "data_scale", "mean", "sd")


@dataclass(frozen=True)
class Start:
    """A checkpoint to start from.

    Attributes:
        name: the file.
        digest: its SHA-256.
        config: of its model.
        tensors: its weights.
        provenance: its chain.
        told: what it tells of its examples.
    """

    name: str
    digest: str
    config: Config
    tensors: dict[str, Tensor]
    provenance: list[dict[str, Any]]
    told: dict[str, Any]

    @property
    def trained_on(self) -> list[dict[str, Any]]:
        """What it tells of the examples that trained it, and of those before, the latest first."""
        last = {key: value for key, value in self.told.items() if key != "before"}
        before = self.told.get("before", [])
        return [last, *(before if isinstance(before, list) else [])][:MOST_TRAININGS]

    def fitted(self, config: C, *, own_levels: bool = False) -> C:
        """Return the configuration of a run that starts from this model.

        It keeps this model's data scale and, unless ``own_levels``, its noise levels, and says so
        where DATA's are others.

        Raises:
            UsageError: it is another architecture; the message names what differs.
        """
        name = label(self.name)
        if type(config) is not type(self.config):
            raise UsageError(
                f"--init {name}: a VAE starts from a VAE, and other models from others"
            )
        if isinstance(config, ModelConfig) and isinstance(self.config, ModelConfig):
            config = replace(config, given=self._given(config.given, self.config.given))
        ours, theirs = config.to_dict(), self.config.to_dict()
        free = (*_SCALE, "given") if "levels" not in ours else (*_SCALE, "given", "levels")
        for key in (*ours, *theirs):
            if key not in free and ours.get(key) != theirs.get(key):
                raise UsageError(
                    f"--init {name}: its model has {key} {show(theirs.get(key))}, and this run "
                    f"{show(ours.get(key))}"
                )
        stages = [len(c["levels"]) if c.get("annealing") == "staged" else 1 for c in (ours, theirs)]
        if own_levels and stages[0] != stages[1]:
            raise UsageError(
                f"--init {name}: its model has {stages[1]} --levels, one a stage, and this run "
                f"{stages[0]}"
            )
        kept = [key for key in free if key in ours and not (own_levels and key == "levels")]
        if any(ours[key] != theirs[key] for key in kept):
            note("keeps data scale and noise levels of %s: those of DATA are others", name)
        return replace(config, **{key: getattr(self.config, key) for key in kept if key != "given"})

    def _given(self, ours: Conditions, theirs: Conditions) -> Conditions:
        """Return what a run tells its model: numbers in the scale of the model that it starts from.

        Counts of categories stay those of the run's own data.
        """
        now, then = ([(c.name, c.categories) for c in part] for part in (ours, theirs))
        if now != then:
            alike = [name for name, _ in now] == [name for name, _ in then]
            raise UsageError(
                f"--init {label(self.name)}: its model is given {names_of(theirs)}, and this run "
                f"{names_of(ours)}" + (" of other categories" if alike else "")
            )
        return tuple(a if a.categories else b for a, b in zip(ours, theirs, strict=True))


def load_start(source: str | None) -> Start | None:
    """Read the checkpoint of ``--init``, if it is given; see `read_start`."""
    return None if source is None else read_start(source)


def read_start(source: str) -> Start:
    """Read the checkpoint that a run starts from.

    Raises:
        MissingInputError, DamagedInputError: it is not there, or no sound checkpoint.
    """
    with local_input(source) as path:
        checkpoint, model = load_any(path)
        told = checkpoint.training.get("examples")
        return Start(
            source,
            sha256_file(path),
            model.config,
            checkpoint.tensors,
            checkpoint.provenance,
            told if isinstance(told, dict) else {},
        )
