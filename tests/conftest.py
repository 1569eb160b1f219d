"""Models whose densities are known in closed form, for the tests of likelihoods and samplers.

torch is imported by the fixtures alone: the tests of the program do without it.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.disk import disk

pytest_plugins = [
    "tests.cli.preloaded"
]  # `call`, `start`: the program, forked off one that is ready

if TYPE_CHECKING:
    from torch import Tensor

    from arcsm_cli.models.arcsm import ARCSM
    from arcsm_cli.models.vae import VAE
    from tests.closed_forms import ExactRows, Mixture


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with contextlib.ExitStack() as mounted:
        try:
            yield mounted.enter_context(disk(tmp_path / "disk", 1 << 18))
        except (FileNotFoundError, PermissionError) as error:
            pytest.skip(str(error))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        type=int,
        default=0,
        help="Count all but N cases of each test as slow, other ones of each; 0 keeps all.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Undo what a shell does to a suite that it runs in the background or under nohup.

    It has these signals ignored, and every program under test would inherit that. Nor are examples
    of hypothesis to fail for the time they take, on a machine that others keep busy; they are few,
    and ten times as many among the slow tests.
    """
    many = 50 if config.option.markexpr == "slow" else 5
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
    for name, cases in of_test.items():
        if 0 < kept < len(cases):
            # Spread evenly, from elsewhere in each test: together they try all that cases have.
            first = zlib.crc32(name.encode())
            spread = {(first + i * len(cases) // kept) % len(cases) for i in range(kept)}
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


@pytest.fixture
def mixture(random_model: Callable[..., ARCSM]) -> Callable[..., Mixture]:
    """Makes models of two Gaussians with a known distribution (see `Mixture`)."""
    from tests.closed_forms import Mixture

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


@pytest.fixture
def exact_rows() -> Callable[..., ExactRows]:
    """Makes conditionals of three unequal Gaussians with exact scores at every noise level."""
    from tests.closed_forms import ExactRows

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
