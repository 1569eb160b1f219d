"""The settings of a training run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from arcsm_cli.errors import DamagedInputError, UsageError

SCHEDULES = ("cosine", "constant")
# What may change when a run is continued: how long it lasts and how it reports.
_FREE = ("steps", "checkpoint_every", "validate_every")


@dataclass(frozen=True)
class RunSettings:
    """What all runs have: a run is a function of these, the model's config, data and machine.

    Attributes:
        steps: optimizer steps of each stage (all but staged models have one stage).
        batch_size: examples a step.
        lr: peak learning rate. The schedule warms up over ``warmup`` steps, then stays or falls to
            zero along a cosine.
        clip: largest gradient norm of the loss; 0 turns clipping off.
        ema: decay of the exponential moving average of the weights that checkpoints hold; 0 none.
        checkpoint_every, validate_every: in steps.
    """

    steps: int
    batch_size: int = 128
    lr: float = 2e-4
    schedule: str = "cosine"
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    checkpoint_every: int = 1000
    validate_every: int = 100

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuild settings from a resume file.

        Raises:
            DamagedInputError: for keys or types that are not those of the settings.
        """
        kinds = {f.name: type(f.default) for f in fields(cls) if f.name != "steps"} | {"steps": int}
        if set(values) != set(kinds) or any(
            type(values[k]) is not kind and not (kind is float and type(values[k]) is int)
            for k, kind in kinds.items()
        ):
            raise DamagedInputError("the resume file's settings are damaged")
        return cls(**values)

    def check_continues(self, earlier: RunSettings) -> None:
        """Refuse to continue a run whose settings were others.

        Raises:
            UsageError: naming the option that differs.
        """
        same = replace(earlier, **{k: getattr(self, k) for k in _FREE})
        for field in fields(self):
            now, then = getattr(self, field.name), getattr(same, field.name)
            if now != then:
                option = "--" + field.name.replace("_", "-")
                raise UsageError(f"{option} is {now}, but the run to resume has {then}")

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step number ``step`` of a stage, from 0."""
        # A short run should not spend itself warming up.
        warm = min(1.0, (step + 1) / (min(self.warmup, self.steps // 5) + 1))
        if self.schedule == "constant":
            return self.lr * warm
        return self.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """How to train an autoregressive model; the loss, and the norm that is clipped, per dimension.

    Attributes:
        objective: of `arcsm_cli.registry.OBJECTIVES`.
        draws: noise draws of the score input for each example's contexts.
        precision: ``fp32`` or ``bf16``, of the context network's products alone.
        compile: compile the training step.
        grad_accumulation: parts that a batch is computed in, one after another: less memory, the
            same gradient up to rounding.
    """

    objective: str = "csm"
    draws: int = 1
    precision: str = "fp32"
    compile: bool = False
    grad_accumulation: int = 1


@dataclass(frozen=True)
class VAESettings(RunSettings):
    """How to train a VAE; the loss in nats an example.

    Attributes:
        score_lr: peak learning rate of the score estimator.
    """

    lr: float = 1e-3
    clip: float = 0.0
    score_lr: float = 1e-3
