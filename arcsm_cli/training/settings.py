"""The settings of a training run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.options import Chosen, check_needs, flag, option, read_fields
from arcsm_cli.parts import Registry
from arcsm_cli.registry import METHODS, OBJECTIVES

SCHEDULES = ("cosine", "constant")
KEPT = ("last", "best")
# What may change when a run is continued: how long it lasts and how it reports.
_FREE = ("steps", "checkpoint_every", "validate_every", "patience")


@dataclass(frozen=True)
class Beginning:
    """What a run begins with."""

    init: str | None = option(
        None,
        "Start from the weights of a model of this architecture, in its data scale.",
        metavar="MODEL",
        shown="none",
    )


@dataclass(frozen=True)
class Reading:
    """How a run reads its data."""

    stream: Literal["yes", "no"] | None = option(
        None,
        "Leave DATA in HDF5 files and read batches as they are needed, in another order.",
        shown="if it takes half of the memory",
    )


@dataclass(frozen=True)
class Keeping:
    """What a run keeps of itself while it goes on."""

    resume: bool = option(False, "Go on where MODEL.resume stands; start if there is none.")
    checkpoint_every: int = option(1000, "Steps between saves.", metavar="N", least=1)
    dry_run: bool = option(
        False,
        "Time ten steps and say what would run, its size, memory and time; write nothing.",
    )
    log_dir: Path | None = option(None, "TensorBoard curves and sample grids.", metavar="DIR")


@dataclass(frozen=True)
class Goal:
    """What a model is trained by; it decides the kind of model."""

    objective: str = option("csm", "{parts}.", names=OBJECTIVES)


@dataclass(frozen=True)
class Passes:
    """How long a run lasts, if not by its steps."""

    epochs: float = option(200.0, "Passes over the data.", metavar="N", above=0)


@dataclass(frozen=True)
class StagedPasses(Passes):
    """The same of runs that may have several stages."""

    epochs: float = option(
        200.0,
        "Passes over the data (for each stage of staged annealing).",
        metavar="N",
        above=0,
    )


def _steps(known: Any) -> int:
    per_epoch: int = max(1, known.examples // min(known.batch_size, known.examples))
    epochs: float = known.epochs
    return max(1, round(epochs * per_epoch))


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
        keep: ``last``, or ``best``: checkpoints hold the averaged weights of the least validation
            loss, of each stage.
        patience: validations without a lower loss after which a run ends; 0 for none.
        started_from: SHA-256 of the checkpoint that the weights began with; empty for fresh ones.
        stream: ``yes`` if the data stay in their files, which decides the order of the examples.
    """

    steps: int = option(
        1000, "Steps, instead of epochs.", metavar="N", least=1, follows=_steps, shown=""
    )
    batch_size: int = option(128, "Examples a step.", metavar="N", least=1)
    lr: float = option(2e-4, "Peak learning rate.", metavar="RATE", above=0)
    schedule: str = option("cosine", "Learning rate after the warm-up.", choices=SCHEDULES)
    warmup: int = option(100, "Steps of linear warm-up.", metavar="N", least=0)
    clip: float = option(1.0, "Largest gradient norm; 0 is no limit.", metavar="NORM", least=0)
    ema: float = option(
        0.999, "Averaging of the weights; 0 is none.", metavar="DECAY", least=0, most=1
    )
    keep: str = option(
        "last", "The weights of the last step, or of the least validation loss.", choices=KEPT
    )
    patience: int = option(
        0,
        "End after N validations (100 a run, fewer in under 1000 steps) without a lower loss.",
        metavar="N",
        least=0,
        shown="no end",
    )
    seed: int = 0
    checkpoint_every: int = 1000
    validate_every: int = 100
    started_from: str = ""
    stream: str = "no"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Rebuild settings from a resume file.

        Raises:
            DamagedInputError: for keys or types that are not those of the settings.
        """
        where = "the resume file's settings"
        if not isinstance(values, dict) or "steps" not in values:
            raise DamagedInputError(f"{where} are damaged")
        return cls(**read_fields(cls, values, where))

    def check_continues(self, earlier: RunSettings) -> None:
        """Refuse to continue a run whose settings were others.

        Raises:
            UsageError: naming the option that differs.
        """
        same = replace(earlier, **{k: getattr(self, k) for k in _FREE})
        for field in fields(self):
            now, then = getattr(self, field.name), getattr(same, field.name)
            if now != then and field.name == "started_from":
                raise UsageError("--init is another model than that of the run to resume")
            if now != then:
                raise UsageError(f"{flag(field.name)} is {now}, but the run to resume has {then}")

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
        control_variate: ``auto``, of csm wherever there is noise, or ``none``.
        draws: noise draws of the score input for each example's contexts.
        dequantize: ``uniform``, noise over the cells of 8-bit values each time, or ``none``.
        precision: ``fp32`` or ``bf16``, of the context network's products alone.
        compile: compile the training step.
        grad_accumulation: parts that a batch is computed in, one after another: less memory, the
            same gradient up to rounding.
    """

    batch_size: int = option(
        128,
        "Examples a step.",
        metavar="N",
        least=1,
        follows=lambda known: 128 if known.image else 512,
        shown="128 for images, else 512",
    )
    lr: float = option(
        2e-4,
        "Adam's peak learning rate.",
        metavar="RATE",
        above=0,
        follows=lambda known: known.rates[0 if known.image else 1],
        shown="1e-3 for images, else 1e-2; transformer: 2e-3",
    )
    objective: str = "csm"
    control_variate: str = option(
        "auto",
        "Of csm under noise: the mixture of csm and dsm whose gradient varies least, in "
        "expectation the same; none is the exact form.",
        choices=("auto", "none"),
        needs=(OBJECTIVES, "variate"),
    )
    draws: int = option(
        1,
        "Noise draws for each example's contexts.",
        metavar="N",
        least=1,
        needs=(OBJECTIVES, "scores"),
        after="batch_size",
    )
    dequantize: str = option(
        "none",
        "Of 8-bit images: uniform adds noise over each grey value's cell each time, for figures by "
        "'eval --dequantize' (needs a --sigma-min of 0.0026 or less).",
        choices=("none", "uniform"),
    )
    precision: str = option(
        "fp32",
        "Of the context network's products; scores are always fp32.",
        choices=("fp32", "bf16"),
    )
    compile: bool = option(False, "Compile the training step (needs a C++ compiler).")
    grad_accumulation: int = option(
        1, "Compute a batch in N parts, one after another, to save memory.", metavar="N", least=1
    )

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """See `RunSettings.from_dict`; files of earlier versions know of no control variate."""
        if isinstance(values, dict) and values.get("objective") in OBJECTIVES.tagged("variate"):
            values = {"control_variate": "none"} | values
        return super().from_dict(values)


_CONTEXTS = 1 << 15


@dataclass(frozen=True)
class DistillSettings(RunSettings):
    """How to teach a model its quantile functions; the loss in nats a scalar.

    Attributes:
        examples: samples of the model that contexts are taken from.
        contexts: how many of these are taught, at most.
    """

    steps: int = option(2000, "Optimizer steps.", metavar="N", least=1)
    batch_size: int = option(1024, "Contexts a step.", metavar="N", least=1)
    lr: float = option(1e-2, "Adam's peak learning rate.", metavar="RATE", above=0)
    examples: int = option(
        512,
        "Samples of MODEL that contexts are taken from; a tenth more are held out.",
        metavar="N",
        least=1,
        follows=lambda known: max(512, _CONTEXTS // known.dimensions),
        shown="512, more of fewer dimensions",
    )
    contexts: int = option(
        _CONTEXTS, "Contexts of these samples to learn from, at most.", metavar="N", least=1
    )


def _rate(known: Any) -> float:
    return 1e-4 if known.network == "conv" else 1e-3


@dataclass(frozen=True)
class VAESettings(RunSettings):
    """How to train a VAE; the loss in nats an example.

    Attributes:
        score_lr: peak learning rate of the score estimator.
    """

    lr: float = option(
        1e-3,
        "RMSprop's peak learning rate.",
        metavar="RATE",
        above=0,
        follows=_rate,
        shown="1e-3; conv: 1e-4",
    )
    clip: float = option(0.0, "Largest gradient norm; 0 is no limit.", metavar="NORM", least=0)
    score_lr: float = option(
        1e-3,
        "The score estimator's.",
        metavar="RATE",
        above=0,
        needs=(METHODS, "estimator"),
        follows=lambda known: known.lr,
        shown="that of --lr",
        after="lr",
    )


class Training(Chosen):
    """Choices of the settings of a run; of autoregressive models, unless derived for others.

    Known must be ``examples``, how many there are, ``image`` and ``rates``, the context network's
    own (see `NetworkOptions`); of a VAE its ``network``.
    """

    groups: tuple[type[Any], ...] = (StagedPasses, TrainSettings)

    def check(self, registry: Registry, part: str) -> None:
        """Refuse choices that do not go together, or that a part has no use for.

        Arguments:
            registry, part: what is trained by: the objective, or a VAE's method.

        Raises:
            UsageError: naming the option.
        """
        if {"steps", "epochs"} <= self.given.keys():
            raise UsageError("give --steps or --epochs, not both")
        check_needs(self.given, self.groups[-1], registry, part)
        if "compile" in self.given and registry.has(part, "twice"):
            raise UsageError(
                f"--compile: {registry.option} {part} takes second derivatives, which compiled "
                "steps do not have: leave it out"
            )

    def settings(self, **others: Any) -> Any:
        """Return the last of the groups; ``others`` are its fields that are no options."""
        # A validation of a few hundred examples costs as much as several steps.
        every = max(1, self.steps // 100, min(10, self.steps // 4))
        return self.settled(self.groups[-1], validate_every=every, **others)


class Distilling(Training):
    """Choices of the settings of a distillation; known must be ``dimensions``."""

    groups = (DistillSettings,)


class VAETraining(Training):
    """Choices of the settings of a run of a VAE."""

    groups = (Passes, VAESettings)
