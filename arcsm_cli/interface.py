"""The Python interface: `load` and `train` models, draw from them, and evaluate them.

Thin over what the commands use: at an equal seed the numbers are the same, and `train` is the
command itself, run in this process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.app import call
from arcsm_cli.cli.options import resolve_device
from arcsm_cli.data.dataset import Beside, Dataset, require_finite
from arcsm_cli.data.given import classes_of, encoded
from arcsm_cli.data.precision import narrowed
from arcsm_cli.denoising.examples import restore_all
from arcsm_cli.denoising.methods import Settings, choose_denoiser, noise_to_expect
from arcsm_cli.errors import UsageError
from arcsm_cli.evaluation.figures import check_shape, collect
from arcsm_cli.evaluation.model_metrics import evaluate
from arcsm_cli.io.atomic import atomic_output
from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint
from arcsm_cli.io.sample_output import sample_output
from arcsm_cli.io.streams import called, label
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.conditional import ConditionalModel
from arcsm_cli.models.load import load_any
from arcsm_cli.models.vae import VAE
from arcsm_cli.options import flag, shown
from arcsm_cli.sampling.drawer import Drawer
from arcsm_cli.sampling.given import giving

Array = Tensor | NDArray[Any]
"""Examples: images (N, C, H, W) as numbers in [0, 1], or vectors (N, D) in their own units."""

_ARRAY = "array"


class Model:
    """A model in memory: a checkpoint, and the networks that it describes.

    Attributes:
        name: what messages call it.
        checkpoint: its settings, its training, its provenance and its weights.
        network: the PyTorch module, an `AutoregressiveModel` or a `VAE`.

    Example:
        >>> model = load("arcsm:8gaussians")
        >>> model.kind, model.shape
        ('ar-csm', (2,))
        >>> x = model.sample(5, seed=1)
        >>> model.log_prob(x).shape, model.score(x).shape
        (torch.Size([5]), torch.Size([5, 2]))
    """

    def __init__(
        self, name: str, checkpoint: Checkpoint, network: AutoregressiveModel | VAE
    ) -> None:
        self.name, self.checkpoint, self.network = name, checkpoint, network

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return f"<{self.kind} {self.name} of {size}>"

    @property
    def kind(self) -> str:
        """``ar-csm`` (scores), ``ar-mle`` (trained by maximum likelihood) or ``vae``."""
        return self.checkpoint.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) or (D,)."""
        return self.network.config.shape

    def to(self, device: str) -> Model:
        """Move to a device (``cpu``, ``cuda``, ``mps``), and return the model itself."""
        self.network = self.network.to(resolve_device(device))
        return self

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        *,
        labels: str | int | Sequence[str | int] | None = None,
        denoise: bool = False,
        clip: bool = True,
        batch_size: int = 256,
        **drawing: Any,
    ) -> Tensor:
        """Draw samples, those of ``arcsm sample`` at the same seed.

        Arguments:
            n: how many.
            seed: of all; sample i depends on it and i alone.
            labels: of a model trained ``given="labels"``: as many of each of these.
            denoise: give the expected clean value of each scalar instead of its noisy one.
            clip: clip images to [0, 1].
            batch_size: samples computed at a time.
            drawing: ``sampler`` and its options, as of the command: ``steps``, ``points``, ...

        Returns:
            (n, *shape), in the units of the data, on the CPU.

        Raises:
            UsageError: a choice that does not fit the model.

        Example:
            >>> load("arcsm:8gaussians").sample(3, seed=1, sampler="grid").shape
            torch.Size([3, 2])
        """
        conditions = () if isinstance(self.network, VAE) else self.network.config.given
        wanted = labels if isinstance(labels, list | tuple) else [labels]
        text = None if labels is None else ",".join(map(str, wanted))
        plan = giving(conditions, self.name, labels=text, source=None, count=n, seed=seed)
        drawer = Drawer(
            self.network, self.name, plan, drawing, seed=seed, denoise=denoise, clip=clip
        )
        starts = range(0, n, batch_size)
        return torch.cat([drawer(range(n)[start : start + batch_size]) for start in starts])

    def log_prob(
        self,
        x: Array,
        *,
        given: Any = None,
        perturb: bool = False,
        seed: int = 0,
        method: str | None = None,
        batch_size: int = 128,
    ) -> Tensor:
        """Return the exact log-density of examples in nats, (N,) float64.

        The density is that of the data plus noise of the model's last level, and of images that of
        values in [-1, 1], as ``arcsm eval`` has it: minus the ``nll`` of ``--no-perturb``, or with
        ``perturb`` of the default, which adds that noise to clean examples first.

        Arguments:
            x: (N, *shape).
            given: of a conditional model, what each example is given: labels (N,), or a mapping
                from the names of columns to their values (N,).
            perturb, seed: add the noise, by this seed.
            method: ``flow``, ``quadrature`` or ``spline``.
            batch_size: examples computed at a time.

        Raises:
            UsageError: the model has no exact likelihood (a VAE), or the method does not fit.
            DamagedInputError: the examples are of another shape.
        """
        model = self._autoregressive("log_prob", AutoregressiveModel)
        data = self._examples(x, given)
        batches = evaluate(
            model,
            data,
            metrics=["nll"],
            method=method,
            perturb=perturb,
            batch_size=batch_size,
            seed=seed,
        )
        return -torch.from_numpy(collect(batches, len(data))["nll"])

    @torch.no_grad()
    def score(self, x: Array, *, given: Any = None, batch_size: int = 128) -> Tensor:
        """Return s_d = d/dx_d log p(x_d | x_<d) at the last noise level, (N, *shape).

        By x in its own units: of images, whose values are in [0, 1], twice that in [-1, 1].

        Arguments:
            x, given, batch_size: as of `log_prob`.

        Raises:
            UsageError: the model is none of scores.
        """
        model = self._autoregressive("score", ARCSM)
        data = self._examples(x, given)
        scale = torch.tensor(model.config.data_scale).expand(model.config.dimensions)
        found = []
        for batch in data.batches(batch_size):
            rows = batch.to(model.mean.device)
            rows = rows.holding(model.sort(rows.x))
            conditionals = ConditionalModel(model).of_examples(rows)
            s = conditionals.at(model.sigma_min)(rows.x.flatten()).view_as(rows.x)
            own = torch.empty_like(s)
            own[:, model.order] = s
            found.append((own.cpu() / scale).view(-1, *self.shape))
        return torch.cat(found)

    def denoise(
        self,
        x: Array,
        sigma: float | None = None,
        seed: int = 0,
        *,
        given: Any = None,
        method: str | None = None,
        clip: bool = True,
        batch_size: int = 64,
        **options: Any,
    ) -> Tensor:
        """Restore noisy examples, as ``arcsm denoise`` without ``--corrupt`` does, (N, *shape).

        Arguments:
            x: (N, *shape), noisy.
            sigma: of their noise, in the model's scale; of images estimated where it is left out.
            seed: of methods that draw.
            given: as of `log_prob`.
            method: ``single-step``, ``sequential``, ``ode``, ``langevin`` or ``particles``.
            clip: clip images to [0, 1].
            batch_size: examples computed at a time.
            options: the method's own, such as ``steps``.

        Raises:
            UsageError: the model is none of scores, or a choice does not fit it.
        """
        model = self._autoregressive("denoise", ARCSM)
        data = self._examples(x, given)
        settings = Settings(method, sigma, **options)
        expected = noise_to_expect(model, None, settings, data)
        denoiser = choose_denoiser(model, None, settings, expected)
        found = restore_all(denoiser, None, data, clip=clip, batch_size=batch_size, seed=seed)
        return torch.cat([batch.examples for batch in found])

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the checkpoint, whole or not at all; every command and `load` read it.

        Arguments:
            force: an existing file may be replaced.

        Raises:
            OutputError: the file exists, or cannot be written.
        """
        with atomic_output(os.fspath(path), force=force) as file:
            save_checkpoint(file, self.checkpoint)

    def _autoregressive(self, what: str, kind: type[Any]) -> Any:
        if not isinstance(self.network, kind):
            raise UsageError(f"{self.name}: a model of kind {self.kind} has no {what}")
        return self.network

    def _examples(self, x: Array, given: Any) -> Dataset:
        data = Dataset(_ARRAY, _values(x))
        check_shape(self.network, data)
        conditions = () if isinstance(self.network, VAE) else self.network.config.given
        if not conditions:
            if given is not None:
                raise UsageError(f"given: {self.name} models examples given nothing")
            return data
        named = given if isinstance(given, Mapping) else {conditions[0].name: given}
        if set(named) != {c.name for c in conditions} or any(v is None for v in named.values()):
            wanted = ", ".join(c.name for c in conditions)
            raise UsageError(f"given: {self.name} is to be told {wanted} of each example")
        beside = [_beside(c.name, named[c.name], len(data)) for c in conditions]
        return replace(data, given=encoded(beside, conditions, _ARRAY))


def load(source: str | os.PathLike[str], *, device: str = "cpu") -> Model:
    """Read a model.

    Arguments:
        source: a checkpoint, a folder that ``arcsm export`` wrote, or ``arcsm:NAME``.
        device: where to compute: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        MissingInputError: there is none.
        DamagedInputError: it is no sound checkpoint.

    Example:
        >>> load("arcsm:8gaussians")
        <ar-csm arcsm:8gaussians of 2>
    """
    checkpoint, network = load_any(source)
    return Model(label(source), checkpoint, network).to(device)


def train(
    data: str | Array,
    *,
    labels: Array | None = None,
    output: str | os.PathLike[str] | None = None,
    vae: bool = False,
    quiet: bool = True,
    **options: Any,
) -> Model:
    """Train a model: ``arcsm train``, or ``arcsm vae-train``, run in this process.

    What the command would refuse is raised. Ctrl-C ends the training; only with ``output`` can it
    then be continued, by ``resume=True``.

    Arguments:
        data: a specification of DATA, as of the command, or examples: images (N, C, H, W) in
            [0, 1] or 8-bit, vectors (N, D) as they are. A tenth of these is held out.
        labels: (N,) of examples, whole numbers, for ``given="labels"``.
        output: also keep the checkpoint here, and what resuming needs beside it.
        vae: train a variational autoencoder.
        quiet: show no progress.
        options: those of the command, with _ for -: ``steps=300``, ``hidden=(64, 64)``,
            ``given="labels"``, ``residual=True``. None and False leave one out.

    Returns:
        The trained model. Its provenance is that of the command.

    Raises:
        ArcsmError: as the command, and for an option that it does not have.

    Example:
        >>> model = train("gaussian:2", steps=3, limit=50, hidden=(4,), score_hidden=(4, 4))
        >>> model.sample(2).shape
        torch.Size([2, 2])
    """
    with (
        TemporaryDirectory(prefix="arcsm-") as folder,
        called(f"{folder}/{_ARRAY}.h5", _ARRAY),
        called(f"{folder}/model.safetensors", "model"),
    ):
        spec = data if isinstance(data, str) else _written(data, labels, f"{folder}/{_ARRAY}.h5")
        if isinstance(data, str) and labels is not None:
            raise UsageError("labels: are of examples in memory; DATA have their own")
        file = os.fspath(output) if output is not None else f"{folder}/model.safetensors"
        arguments = ["vae-train" if vae else "train", spec, "--output", file]
        arguments += ["--quiet"] if quiet else []
        for name, value in options.items():
            if value is None or value is False:
                continue
            arguments.append(flag(name) if value is True else f"{flag(name)}={shown(value)}")
        call(arguments)
        model = load(file, device=options.get("device") or "auto")
    if output is None:
        model.name = "model"
    # Files that are gone tell nobody anything: what was in memory goes by its names.
    chain = [_renamed(step, folder) for step in model.checkpoint.provenance]
    model.checkpoint = replace(model.checkpoint, provenance=chain)
    return model


def _renamed(step: Any, folder: str) -> Any:
    """A provenance entry without the path of a temporary folder."""
    if isinstance(step, str):
        return step.replace(f"{folder}{os.sep}", "")
    if isinstance(step, list):
        return [_renamed(item, folder) for item in step]
    if isinstance(step, dict):
        return {_renamed(key, folder): _renamed(value, folder) for key, value in step.items()}
    return step


def _values(x: Array) -> Tensor:
    """Examples as a data set holds them."""
    values = torch.as_tensor(np.asarray(x) if not isinstance(x, Tensor) else x.detach().cpu())
    if values.dim() not in (2, 4) or not len(values):
        shape = " x ".join(map(str, values.shape))
        raise UsageError(f"{_ARRAY}: is {shape}; expected N x D or N x C x H x W, N at least 1")
    if values.dtype == torch.uint8 and values.dim() == 4:
        return values
    values = values.double()
    require_finite(values, _ARRAY)
    return narrowed(values) if values.dim() == 2 else values.float()


def _beside(name: str, values: Any, count: int) -> Beside:
    """What is known of each example: numbers, or texts that stand for classes."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.shape != (count,):
        raise UsageError(f"given: {name} is {array.shape}, of {count} examples")
    if array.dtype.kind in "iufb":
        return Beside(name, torch.from_numpy(array.astype(np.float64)))
    return classes_of(name, [str(value) for value in array])


def _written(data: Array, labels: Array | None, path: str) -> str:
    """Write examples to a file, which a command reads as it reads any, and return the DATA."""
    examples = Dataset(_ARRAY, _values(data))
    known = None if labels is None else torch.as_tensor(np.asarray(labels))
    if known is not None and (known.shape != (len(examples),) or known.is_floating_point()):
        raise UsageError(f"labels: expected {len(examples)} whole numbers")
    with sample_output(path, examples.shape, []) as append:
        start = 0
        for batch in examples.batches(1024):
            stop = start + batch.size
            append(batch.x, labels=None if known is None else known[start:stop].long())
            start = stop
    return f"{path}:all"  # not by parts, of which one is for the test: whoever calls has chosen
