"""Models whose densities are known in closed form, for the tests of likelihoods and samplers.

torch is imported by the fixtures alone: the tests of the program do without it.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.cli.preloaded"
]  # `call`, `start`: the program, forked off one that is ready

if TYPE_CHECKING:
    from torch import Tensor

    from arcsm_cli.models.arcsm import ARCSM
    from arcsm_cli.models.vae import VAE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        type=int,
        default=0,
        help="Count all but N cases of each test as slow, those kept spread evenly; 0 keeps all.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Undo what a shell does to a suite that it runs in the background or under nohup.

    It has these signals ignored, and every program under test would inherit that. Nor are examples
    of hypothesis to fail for the time they take, on a machine that others keep busy; they are few,
    and five times as many among the slow tests.
    """
    many = 50 if config.option.markexpr == "slow" else 10
    timed = [HealthCheck.too_slow]
    settings.register_profile(
        "untimed", deadline=None, max_examples=many, suppress_health_check=timed
    )
    settings.load_profile("untimed")
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what lies in tests/slow as slow, and properties too where they get many examples.

    So are most cases of tests with many, given ``--cases``.
    """
    many = config.option.markexpr == "slow"
    kept = config.option.cases
    of_test: dict[str, list[pytest.Item]] = {}
    for item in items:
        if "slow" not in item.keywords:
            of_test.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in of_test.values():
        if 0 < kept < len(cases):
            spread = {round(i * (len(cases) - 1) / max(kept - 1, 1)) for i in range(kept)}
            for i in set(range(len(cases))) - spread:
                cases[i].add_marker("slow")
    for item in items:
        property_ = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if "slow" in item.path.parts or (many and property_):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Let nothing look at what is there by now again: forks share its pages."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment without what the user's own settings, or a launcher's, would change."""
    theirs = ("ARCSM", "_ARCSM", "COLUMNS", "SLURM", "SBATCH", "MASTER_", "LOCAL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    for name in ("RANK", "WORLD_SIZE"):
        kept.pop(name, None)
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The installed program, as a user starts it."""
    script = Path(sys.executable).with_name("arcsm")
    return [str(script)] if script.exists() else [sys.executable, "-m", "arcsm_cli"]


@pytest.fixture
def random_model() -> Callable[..., ARCSM]:
    """Makes small models in float64 with random weights, ``scale`` times the usual size.

    AR-CSMs, or with ``likelihood`` models of that kind.
    """
    import torch

    from arcsm_cli.models.config import ModelConfig
    from arcsm_cli.models.restore import make_model

    def make(*, seed: int = 0, scale: float = 1.0, bias: float = 0.5, **config: Any) -> Any:
        sizes = {"hidden": (12, 12), "context_width": 3, "score_hidden": (8, 8)}
        settings: dict[str, Any] = {"shape": (3,), "levels": (3.0, 0.1)} | sizes | config
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = make_model(ModelConfig(**settings)).double()
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    # These start at zero here and there: a mistake about them must show.
                    if name.endswith(("bias", "by_values", "by_sizes", "location")):
                        parameter.add_(bias * torch.randn_like(parameter))
                    parameter.mul_(scale)
        return model.eval()

    return make


@pytest.fixture
def random_vae() -> Callable[..., VAE]:
    """Makes small VAEs in float64 with random weights, ``scale`` times the usual size."""
    import torch

    from arcsm_cli.models.restore import make_model
    from arcsm_cli.models.vae_config import VAEConfig

    def make(*, seed: int = 0, scale: float = 1.0, **config: Any) -> VAE:
        sizes = {"hidden": (8, 7), "context_width": 3, "score_hidden": (6, 6), "particles": 5}
        settings: dict[str, Any] = {"shape": (6,), "latent_dim": 3} | sizes | config
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = make_model(VAEConfig(**settings)).double()
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    # What starts at zero would hide a mistake about it.
                    if name.endswith(("bias", "bend", "log_sd")):
                        parameter.add_(0.5 * torch.randn_like(parameter))
                    parameter.mul_(scale)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def plain_walk() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """What a triangular encoder does, by plain operations that autograd knows.

    Returns codes (B, L), log-scales (B, L), and what the bending network reads of the context.
    """
    import torch

    def walk(encoder: Any, features: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = encoder.hidden(features.tanh())
        codes, log_scales, contexts = [], [], []
        for d in range(eps.shape[1]):
            p = a.tanh() @ encoder.out[d] + encoder.bias[d]
            own = encoder.context(p[:, 2:])
            bent = eps[:, d] + (own + eps[:, d, None] * encoder.noise).tanh() @ encoder.bend
            log_scale = p[:, 1].clamp(min=-7)
            z = p[:, 0] + log_scale.exp() * bent
            a = a + z[:, None] * encoder.codes[d]
            codes.append(z)
            log_scales.append(log_scale)
            contexts.append(own)
        return torch.stack(codes, 1), torch.stack(log_scales, 1), torch.stack(contexts, 1)

    return walk


@pytest.fixture
def gaussian_model(random_model: Callable[..., ARCSM]) -> Callable[..., ARCSM]:
    """Makes models of independent N(mean, sd^2 + sigma^2): the score network's part is nothing."""
    import torch

    def make(mean: tuple[float, ...], sd: tuple[float, ...], **config: Any) -> ARCSM:
        model = random_model(mean=mean, sd=sd, **{"shape": (len(mean),)} | config)
        with torch.no_grad():
            for stage in model.networks:
                stage.score.out.weight.zero_()
                stage.score.out.bias.zero_()
        return model

    return make


class Mixture:
    """A model of two equal Gaussians, x_d = +-offset + noise, and its exact distribution.

    The score of w N(m + a, v) + (1 - w) N(m - a, v) is

        -(x - m) / v + (a / v) tanh(a (x - m) / v + logit(w) / 2),

    exactly what a score network with a single tanh unit can say at one noise level. The context
    moves the unit's bias, so that w of dimension d is a function of x_<d.

    Attributes:
        model: staged or of one level, in float64.
        offset, spread: a, and the standard deviation of each Gaussian before noise.
    """

    def __init__(self, model: ARCSM, offset: float, spread: float) -> None:
        import torch

        self.model, self.offset, self.spread = model, offset, spread
        with torch.no_grad():
            for stage, sigma in zip(model.networks, model.levels, strict=True):
                # Equal contexts: only then are the levels those of one annealed density.
                stage.load_state_dict(model.networks[-1].state_dict())
                v = spread**2 + sigma**2
                net = stage.score
                net.first_x.fill_(offset / math.sqrt(v))
                net.out.weight.fill_(offset / v * math.sqrt(v) * sigma / spread)
                net.out.bias.zero_()

    def weight(self, x: Tensor, level: int = -1) -> Tensor:
        """w of each scalar of examples (B, D)."""
        import torch

        net = self.model.stage(level).score
        c = self.model.contexts(x, level)
        half: Tensor = c @ net.first.weight[0] + net.first.bias[0]
        return torch.sigmoid(2 * half).detach()

    def log_density(self, x: Tensor, level: int = -1) -> Tensor:
        """log p(x_d | x_<d), (B, D)."""
        import torch

        w, v = self.weight(x, level), self._variance(level)
        square = [-((x - self.model.mean - a) ** 2) / (2 * v) for a in self._centres]
        both = torch.stack([w.log() + square[0], (1 - w).log() + square[1]])
        return torch.logsumexp(both, 0) - 0.5 * math.log(2 * math.pi * v)

    def cdf(self, x: Tensor, level: int = -1) -> Tensor:
        """P(X_d <= x_d | x_<d), (B, D): uniform for samples of the model."""
        import torch

        w, scale = self.weight(x, level), math.sqrt(self._variance(level))
        up, down = (torch.special.ndtr((x - self.model.mean - a) / scale) for a in self._centres)
        return w * up + (1 - w) * down

    @property
    def _centres(self) -> tuple[float, float]:
        return self.offset, -self.offset

    def _variance(self, level: int) -> float:
        return self.spread**2 + self.model.levels[level] ** 2


@pytest.fixture
def mixture(random_model: Callable[..., ARCSM]) -> Callable[..., Mixture]:
    """Makes models of two Gaussians with a known distribution (see `Mixture`)."""

    def make(
        *,
        offset: float = 1.0,
        spread: float = 0.25,
        mean: float = 0.5,
        seed: int = 0,
        **config: Any,
    ) -> Mixture:
        model = random_model(
            seed=seed, score_hidden=(1,), mean=(mean,), sd=(spread,), **{"shape": (2,)} | config
        )
        return Mixture(model, offset, spread)

    return make


class ExactScore:
    """What `arcsm_cli.models.conditional.LevelScore` offers, for a known mixture of Gaussians."""

    def __init__(self, rows: ExactRows, sigma: float) -> None:
        import torch

        variance = rows.spread**2 + sigma**2
        self.rows_of, self.sigma = rows, sigma
        self.mean, self.pull = rows.mean, -1.0 / variance
        self.tail = torch.full((len(rows),), math.sqrt(variance), dtype=torch.float64)
        self.reach = torch.full_like(self.tail, max(abs(c - rows.mean) for c in rows.centres))

    def rows(self, rows: Tensor) -> ExactScore:
        return self.rows_of.some(len(rows)).at(self.sigma)

    def __call__(self, x: Tensor) -> Tensor:
        return self.with_derivative(x)[0]

    def with_derivative(self, x: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            log_p = self.rows_of.log_density(leaf, self.sigma).sum()
            (s,) = torch.autograd.grad(log_p, leaf, create_graph=True)
            (ds,) = torch.autograd.grad(s.sum(), leaf)
        return s.detach(), ds

    def walk(self, x: Tensor, scale: float, noise: Tensor) -> Tensor:
        for push in noise:
            x = x + scale * self(x) + push
        return x


class ExactRows:
    """What `arcsm_cli.models.conditional.Conditionals` offers: n times one mixture, at any sigma.

    Attributes:
        weights, centres, scale: of the Gaussians before noise.
    """

    def __init__(
        self,
        n: int,
        levels: tuple[float, ...],
        weights: tuple[float, ...],
        centres: tuple[float, ...],
        scale: float,
    ) -> None:
        self.n, self.levels = n, levels
        self.weights, self.centres, self.scale = weights, centres, scale
        self.mean = sum(w * c for w, c in zip(weights, centres, strict=True))
        second = sum(w * c * c for w, c in zip(weights, centres, strict=True))
        self.spread = math.sqrt(second - self.mean**2 + scale**2)

    def __len__(self) -> int:
        return self.n

    def rows(self, rows: slice) -> ExactRows:
        return self.some(len(range(self.n)[rows]))

    def some(self, n: int) -> ExactRows:
        return ExactRows(n, self.levels, self.weights, self.centres, self.scale)

    def at(self, sigma: float, level: int = -1) -> ExactScore:
        return ExactScore(self, sigma)

    def log_density(self, x: Tensor, sigma: float) -> Tensor:
        import torch

        v = self.scale**2 + sigma**2
        centres, weights = (x.new_tensor(t) for t in (self.centres, self.weights))
        terms = weights.log() - (x[..., None] - centres) ** 2 / (2 * v)
        return torch.logsumexp(terms, -1) - 0.5 * math.log(2 * math.pi * v)

    def cdf(self, x: Tensor, sigma: float) -> Tensor:
        import torch

        centres, weights = (x.new_tensor(t) for t in (self.centres, self.weights))
        parts = torch.special.ndtr((x[..., None] - centres) / math.sqrt(self.scale**2 + sigma**2))
        return (weights * parts).sum(-1)

    def draw(self, sigma: float) -> Tensor:
        """n samples of the mixture plus noise, (n,)."""
        import torch

        generator = torch.Generator().manual_seed(0)
        which = torch.multinomial(
            torch.tensor(self.weights), self.n, replacement=True, generator=generator
        )
        noise = torch.randn(self.n, generator=generator, dtype=torch.float64)
        centres = torch.tensor(self.centres, dtype=torch.float64)
        return centres[which] + math.sqrt(self.scale**2 + sigma**2) * noise


@pytest.fixture
def exact_rows() -> Callable[..., ExactRows]:
    """Makes conditionals of three unequal Gaussians with exact scores at every noise level."""

    def make(n: int, levels: tuple[float, ...] = (3.0, 0.1)) -> ExactRows:
        return ExactRows(n, levels, (0.2, 0.5, 0.3), (-1.0, 0.2, 0.9), 0.15)

    return make


@pytest.fixture
def assert_uniform() -> Callable[[Tensor], None]:
    """Kolmogorov-Smirnov test of values in [0, 1], (n,), at a level of about 1 in 1,000."""
    import torch

    def check(u: Tensor) -> None:
        n = len(u)
        ranks = torch.arange(n + 1, dtype=torch.float64) / n
        ordered = u.double().sort().values
        distance = torch.maximum(ordered - ranks[:-1], ranks[1:] - ordered).max()
        assert distance < 1.95 / math.sqrt(n)

    return check
