"""What a training run carries from one step to the next, and its way to and from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.training.settings import TrainSettings

_ADAM = ("step", "exp_avg", "exp_avg_sq")


class TrainState:
    """Weights, their moving average, optimizer moments, position and history.

    Attributes:
        model: the weights being trained.
        average: name to averaged weight; what checkpoints hold.
        optimizer: Adam over all weights; weights without gradient (other stages') stay untouched.
        step: optimizer steps done, over all stages.
        history: curves, name to list: ``step``, ``loss``, ``valid_loss``, ``lr``.
        pending: sum and count of the losses since the last entry of the history.
    """

    def __init__(self, model: ARCSM, settings: TrainSettings) -> None:
        self.model = model
        self.settings = settings
        self.average = {k: v.detach().clone() for k, v in model.named_parameters()}
        # The fused kernel exists for CPU and CUDA and saves most of the memory traffic.
        fused = next(model.parameters()).device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=settings.lr, betas=(0.9, 0.99), fused=fused
        )
        self.step = 0
        self.history: dict[str, list[float]] = {"step": [], "loss": [], "valid_loss": [], "lr": []}
        self.pending = [0.0, 0.0]

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

    def averaged_model(self) -> ARCSM:
        """Return a copy of the model with the averaged weights, for validation and sampling."""
        copy = ARCSM(self.model.config).to(self.model.mean.device)
        copy.load_state_dict(self.average)
        return copy.eval()

    def is_finite(self) -> bool:
        """Whether every averaged weight is a number."""
        return all(bool(v.isfinite().all()) for v in self.average.values())

    def checkpoint(self, provenance: list[dict[str, Any]], digest: str) -> Checkpoint:
        """Return what the checkpoint file holds."""
        training = {
            "step": self.step,
            "settings": self.settings.to_dict(),
            "data_digest": digest,
            "loss": self.history["loss"][-1] if self.history["loss"] else None,
            "valid_loss": self.history["valid_loss"][-1] if self.history["valid_loss"] else None,
            "history": self.history,
        }
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.average.items()}
        return Checkpoint("ar-csm", self.model.config.to_dict(), training, provenance, tensors)

    def resume_file(
        self, provenance: list[dict[str, Any]], digest: str
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON state from which `from_resume` rebuilds this very state."""
        tensors = {f"weights.{k}": v.detach() for k, v in self.model.named_parameters()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        moments = self.optimizer.state_dict()["state"]
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
        settings: TrainSettings,
        device: str,
    ) -> TrainState:
        """Rebuild a state from a resume file's content.

        Raises:
            DamagedInputError: if tensors or entries are missing or have the wrong shape.
            UsageError: if the settings differ from those of the interrupted run.
        """
        try:
            settings.check_continues(TrainSettings.from_dict(state["settings"]))
            model = ARCSM(ModelConfig.from_dict(state["config"])).to(device)
            result = cls(model, settings)
            own: list[Mapping[str, Tensor]] = [dict(model.named_parameters()), result.average]
            for prefix, targets in zip(("weights", "average"), own, strict=True):
                for name, target in targets.items():
                    _copy(tensors, f"{prefix}.{name}", target)
            packed = result.optimizer.state_dict()
            for index, weight in enumerate(model.parameters()):
                if f"adam.{index}.step" in tensors:
                    moments = {k: tensors[f"adam.{index}.{k}"].clone() for k in _ADAM}
                    if moments["exp_avg"].shape != weight.shape:
                        raise DamagedInputError(f"the resume file's adam.{index} has a wrong shape")
                    packed["state"][index] = moments
            result.optimizer.load_state_dict(packed)
            result.step = int(state["step"])
            result.history = {k: [float(v) for v in state["history"][k]] for k in result.history}
            result.pending = [float(v) for v in state["pending"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedInputError(
                f"the resume file is damaged or lacks an entry: {error}"
            ) from None
        return result


@torch.no_grad()
def _copy(tensors: dict[str, Tensor], name: str, target: Tensor) -> None:
    source = tensors.get(name)
    if source is None or source.shape != target.shape:
        raise DamagedInputError(f"the resume file lacks {name}, or it has a wrong shape")
    target.copy_(source)
