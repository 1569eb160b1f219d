"""What a training run carries from one step to the next, and its way to and from files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint
from arcsm_cli.models.restore import config_type, make_model, parameter_count
from arcsm_cli.models.vae import VAE
from arcsm_cli.models.variate import PosteriorShares
from arcsm_cli.registry import OBJECTIVES
from arcsm_cli.runtime import lowered
from arcsm_cli.training.autoregressive import AutoregressiveTask
from arcsm_cli.training.distillation import DistillationTask
from arcsm_cli.training.settings import RunSettings, TrainSettings
from arcsm_cli.training.shared_gradients import SharedGradients
from arcsm_cli.training.task import Task
from arcsm_cli.training.vae_task import VAETask

Losses = TypeVar("Losses")

_ADAM = ("step", "exp_avg", "exp_avg_sq")


class TrainState:
    """Weights, their moving average, optimizer moments, position and history.

    Attributes:
        model: the weights being trained.
        task: how its kind is trained.
        average: name to averaged weight; what checkpoints hold.
        best: the same at the least validation loss, where these are kept; else empty.
        optimizer: Adam over all weights; weights without gradient (other stages') stay untouched.
        step: optimizer steps done, over all stages.
        history: curves, name to list: ``step``, ``valid_loss``, ``lr`` and those of the task.
        pending: sums of the task's figures since the last entry of the history, and their count.
        ranks: the processes that train together, each with such a state; see `share`.
    """

    def __init__(self, model: Any, settings: Any) -> None:
        self.model = model
        self.task: Task = task_of(model)
        self.settings = settings
        device = next(model.parameters()).device.type
        if isinstance(settings, TrainSettings):
            model.low_precision = lowered(settings.precision, device)
            if settings.control_variate == "auto" and OBJECTIVES.has(settings.objective, "variate"):
                self._follow_shares()
        self.average = {k: v.detach().clone() for k, v in model.named_parameters()}
        keeps = settings.keep == "best"
        self.best = {k: v.clone() for k, v in self.average.items()} if keeps else {}
        # The fused kernel exists for CPU and CUDA and saves most of the memory traffic.
        fused = device in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(
            self.task.groups(model, settings),
            lr=settings.lr,
            betas=self.task.betas,
            fused=fused,
        )
        self.step = 0
        curves = self.task.curves(model)
        names = ("step", *curves, "valid_loss", "lr")
        self.history: dict[str, list[float]] = {name: [] for name in names}
        self.pending = [0.0] * (len(curves) + 1)
        self.ranks = SOLO
        self._shared: SharedGradients | None = None

    def share(self, ranks: Ranks) -> None:
        """Train together with other ranks from now on: gradients become means over all of them."""
        self.ranks = ranks
        if ranks.size > 1:
            self._shared = SharedGradients(self.model, partly=self.task.stages(self.model) > 1)

    def evaluate(self, losses: Callable[[], Losses], *, last: bool = True) -> Losses:
        """Return what ``losses`` computes, whose backward pass adds to the gradients.

        Arguments:
            last: the backward pass completes the step's gradients, which ranks then exchange.
        """
        return losses() if self._shared is None else self._shared.evaluate(losses, last=last)

    @torch.no_grad()
    def begin_average(self) -> None:
        """Start anew, on all ranks, from the weights that the first one was given."""
        self.ranks.copy_first([w.detach() for w in self.model.parameters()])
        for name, weight in self.model.named_parameters():
            self.average[name].copy_(weight)

    def _follow_shares(self) -> None:
        """Let the model keep what a control variate is read off, where there is noise."""
        if self.model.sigma_min > 0:
            shares = PosteriorShares(self.model.config.dimensions)
            self.model.shares = shares.to(self.model.mean.device)

    def update_shares(self) -> None:
        """Take in what the step's batch said of posterior variances."""
        if (shares := getattr(self.model, "shares", None)) is not None:
            shares.take_in(self.ranks.total)

    @torch.no_grad()
    def update_average(self, stage_step: int, names: list[str]) -> None:
        """Move the average of the named weights towards the weights.

        Early on the average follows closely: decay (1 + t) / (10 + t) up to the setting.
        """
        decay = min(self.settings.ema, (1 + stage_step) / (10 + stage_step))
        weights = dict(self.model.named_parameters())
        torch._foreach_lerp_(
            [self.average[n] for n in names], [weights[n].detach() for n in names], 1 - decay
        )

    @property
    def stage(self) -> int:
        """Which stage the last step was of, from 0."""
        return max(0, self.step - 1) // int(self.settings.steps)

    @property
    def _of_stage(self) -> list[float]:
        """The validation losses of the stage, which those of others cannot be compared with."""
        begin = self.stage * self.settings.steps
        rows = zip(self.history["step"], self.history["valid_loss"], strict=True)
        return [loss for step, loss in rows if step > begin]

    @property
    def waited(self) -> int:
        """How many validations ago the stage's least loss was."""
        losses = self._of_stage
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0

    @property
    def is_stalled(self) -> bool:
        """Whether the validation loss has not become less for as long as the run has patience."""
        patience: int = self.settings.patience
        return 0 < patience <= self.waited

    def least(self) -> dict[str, float] | None:
        """Return the step and the loss of the stage's best validation, None before the first."""
        if not self._of_stage:
            return None
        index = -1 - self.waited
        return {
            "step": int(self.history["step"][index]),
            "valid_loss": self.history["valid_loss"][index],
        }

    @torch.no_grad()
    def keep(self, names: list[str]) -> None:
        """Take these averaged weights for the best."""
        for name in names if self.best else ():
            self.best[name].copy_(self.average[name])

    def averaged_model(self) -> Any:
        """Return a copy of the model with the averaged weights, for validation and sampling."""
        with torch.random.fork_rng(devices=[]):  # the fresh weights are drawn to be replaced
            copy = make_model(self.model.config).to(next(self.model.parameters()).device)
        copy.load_state_dict(self.average)
        return copy.eval()

    def is_finite(self) -> bool:
        """Whether every averaged weight is a number."""
        return all(bool(v.isfinite().all()) for v in self.average.values())

    def checkpoint(
        self, provenance: list[dict[str, Any]], digest: str, examples: dict[str, Any]
    ) -> Checkpoint:
        """Return what the checkpoint file holds."""
        training = {
            "step": self.step,
            "settings": self.settings.to_dict(),
            "data_digest": digest,
            "examples": examples,
            "loss": self.history["loss"][-1] if self.history["loss"] else None,
            "valid_loss": self.history["valid_loss"][-1] if self.history["valid_loss"] else None,
            "history": self.history,
        }
        if self.best and (kept := self.least()):
            training["kept"] = kept
        held = self.best if "kept" in training else self.average
        tensors = {k: v.detach().cpu().contiguous() for k, v in held.items()}
        return Checkpoint(
            self.model.kind, self.model.config.to_dict(), training, provenance, tensors
        )

    def resume_file(
        self, provenance: list[dict[str, Any]], digest: str
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON state from which `from_resume` rebuilds this very state."""
        tensors = {f"weights.{k}": v.detach() for k, v in self.model.named_parameters()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        moments = self.optimizer.state_dict()["state"]
        if (shares := getattr(self.model, "shares", None)) is not None:
            tensors["posterior_shares"] = shares.share
        for index, entry in moments.items():
            tensors |= {f"adam.{index}.{key}": entry[key] for key in _ADAM}
        state = {
            "config": self.model.config.to_dict(),
            "settings": self.settings.to_dict(),
            "step": self.step,
            "history": self.history,
            "pending": self.pending,
            "data_digest": digest,
            "provenance": provenance,
        }
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, state

    @classmethod
    def from_resume(
        cls,
        tensors: dict[str, Tensor],
        state: dict[str, Any],
        settings: RunSettings,
        device: str,
    ) -> TrainState:
        """Rebuild a state from a resume file's content.

        Raises:
            DamagedInputError: if tensors or entries are missing, unknown, or of the wrong shape or
                type; nothing is allocated before there are as many weights as the config needs.
            UsageError: if the settings differ from those of the interrupted run.
        """
        try:
            settings.check_continues(type(settings).from_dict(state["settings"]))
            config = config_type(state["config"]).from_dict(state["config"])
            held = sum(t.numel() for k, t in tensors.items() if k.startswith("weights."))
            if held != parameter_count(config):
                raise DamagedInputError(
                    f"the resume file holds {held} weights, but its config needs "
                    f"{parameter_count(config)}"
                )
            result = cls(make_model(config).to(device), settings)
            result._fill(dict(tensors))
            result._place(state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedInputError(
                f"the resume file is damaged or lacks an entry: {error}"
            ) from None
        return result

    def _fill(self, tensors: dict[str, Tensor]) -> None:
        """Move the tensors of a resume file into weights, average and optimizer."""
        weights: Mapping[str, Tensor] = dict(self.model.named_parameters())
        own = {"weights": weights, "average": self.average, "best": self.best}
        for prefix, targets in own.items():
            for name, target in targets.items():
                with torch.no_grad():
                    target.copy_(_take(tensors, f"{prefix}.{name}", target.shape))
        if (shares := getattr(self.model, "shares", None)) is not None:
            share = _take(tensors, "posterior_shares", shares.share.shape)
            if not bool(((share >= 0) & (share <= 1)).all()):
                raise DamagedInputError("the resume file's posterior_shares are no shares")
            shares.share.copy_(share)
        packed = self.optimizer.state_dict()
        trained = [w for group in self.optimizer.param_groups for w in group["params"]]
        for index, weight in enumerate(trained):
            if f"adam.{index}.step" not in tensors:
                continue
            # The fused kernel trusts these shapes: a wrong one would overwrite foreign memory.
            shapes = (torch.Size(), weight.shape, weight.shape)
            moments = {
                key: _take(tensors, f"adam.{index}.{key}", shape)
                for key, shape in zip(_ADAM, shapes, strict=True)
            }
            if moments["step"] < 1 or moments["exp_avg_sq"].min() < 0:
                raise DamagedInputError(f"the resume file's adam.{index} holds negative numbers")
            packed["state"][index] = moments
        if tensors:
            raise DamagedInputError(f"the resume file holds an unknown tensor {min(tensors)!r}")
        self.optimizer.load_state_dict(packed)

    def _place(self, state: dict[str, Any]) -> None:
        """Take position and curves from a resume file's entries."""
        self.step = state["step"]
        if type(self.step) is not int or self.step < 0:
            raise DamagedInputError("the resume file's step is not a whole number from 0 on")
        expected = self.pending
        self.pending = _numbers(state["pending"])
        self.history = {key: _numbers(state["history"][key]) for key in self.history}
        lengths = {len(curve) for curve in self.history.values()}
        if len(self.pending) != len(expected) or len(lengths) != 1:
            raise DamagedInputError("the resume file's curves are damaged")


def task_of(model: Any) -> Task:
    """Return how a model's kind is trained."""
    if isinstance(model, VAE):
        return VAETask()
    distilled = model.config.quantiles is not None
    return DistillationTask() if distilled else AutoregressiveTask()


def _take(tensors: dict[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    """Remove a tensor from a resume file's and return a copy, checked."""
    tensor = tensors.pop(name, None)
    if tensor is None or tensor.dtype != torch.float32 or tensor.shape != shape:
        raise DamagedInputError(f"the resume file lacks {name}, or it has a wrong shape or type")
    return tensor.clone()


def _numbers(values: Any) -> list[float]:
    most = sys.float_info.max
    if not isinstance(values, list) or not all(
        type(v) in (int, float) and abs(v) <= most for v in values
    ):
        raise DamagedInputError("the resume file's curves are damaged")
    return [float(v) for v in values]
