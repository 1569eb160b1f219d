"""The options of an autoregressive model: what its networks are, and what they are trained to give.

Nothing here imports PyTorch; `arcsm_cli.models.config` adds what follows from the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arcsm_cli.models.networks import NetworkOptions
from arcsm_cli.options import MOST_UNITS, option, options_of_part
from arcsm_cli.registry import CONTEXTS, LIKELIHOODS, OBJECTIVES

ANY = "any"
"""All orders: the model gives the conditionals of each of them."""
ORDERS = (*NetworkOptions.orders, ANY)
ANNEALINGS = ("joint", "staged", "none")
FRAMES = ("linear", "contexts")
FRAME_WIDTH = 2
"""Numbers that a frame adds to a context: location and log-scale."""
MIXTURE, DISCRETIZED = "logistic-mixture", "discretized-logistic-mixture"

_MOST_PREDICTED = 1024  # variables that frames predict: 2 D^2 numbers, D^3 operations
_SCORES, _DENSITIES = (OBJECTIVES, "scores"), (OBJECTIVES, "densities")


def _small(known: Any) -> bool:
    return bool(known.dimensions <= 16)


def _frames(known: Any) -> str:
    # Of images many pixels hardly vary in training data, and do elsewhere. Without noise nothing
    # keeps a scale from vanishing.
    few = not known.image and known.dimensions <= _MOST_PREDICTED
    if not few or known.likelihood or known.sigma_min == 0:
        return "none"
    return "contexts" if known.order == ANY else "linear"  # predictions follow one order


def _score_layers(known: Any) -> tuple[int, ...]:
    if known.image:
        return 64, 64
    return (48, 48) if _small(known) else (24, 24)


def _score_input(known: Any) -> str:
    return "noise" if known.image and known.annealing == "joint" else "spread"


@dataclass(frozen=True)
class Architecture:
    """The networks of a model, and the order in which it visits the variables.

    Attributes:
        context: the context network, of `arcsm_cli.registry.CONTEXTS`.
        network: its own options.
        context_width: C, the size of a context vector; with a likelihood, its parameters a site.
        frames: where the frames that contexts end with start, see `arcsm_cli.models.frames`.
        score_hidden: hidden layers of the score network.
        score_input: in which unit it reads values, see `arcsm_cli.models.arcsm`.
        order, order_seed: see `arcsm_cli.models.order.variable_order`.
    """

    context: str = option("made", "The context network: {parts}.", names=CONTEXTS)
    network: Any = options_of_part(CONTEXTS)
    context_width: int = option(
        16,
        "Size of a context vector of score models.",
        metavar="N",
        least=1,
        most=MOST_UNITS,
        needs=_SCORES,
        follows=lambda known: 16 if known.image or _small(known) else 8,
        shown="16; 8 for vectors of more than 16 values",
    )
    frames: str = option(
        "none",
        "Contexts give each conditional a location and a scale, moved from a linear prediction by "
        "the values before, or (contexts) from the data's mean and sd; none takes these.",
        choices=("none", *FRAMES),
        needs=_SCORES,
        follows=_frames,
        shown="linear for noisy vectors up to 1,024 values (contexts for any order), else none",
    )
    score_hidden: tuple[int, ...] = option(
        (64, 64),
        "Hidden layers of the conditional score network.",
        metavar="N,N,...",
        fewest=1,
        needs=_SCORES,
        follows=_score_layers,
        shown="64,64 for images; for vectors 48,48, or 24,24 beyond 16 values",
    )
    score_input: str = option(
        "spread",
        "Unit in which the score network reads a value: the conditional's whole spread, or the "
        "noise (joint annealing).",
        choices=("spread", "noise"),
        needs=_SCORES,
        follows=_score_input,
        shown="noise for images under joint annealing, else spread",
    )
    order: str = option(
        "raster",
        "Order of the variables; any trains over random ones, for what is known in part.",
        choices=ORDERS,
    )
    order_seed: int = option(0, "Which random order.", metavar="N", least=0, most=2**63 - 1)


def _likelihood(known: Any) -> str:
    if not OBJECTIVES.has(known.objective, "densities"):
        return ""
    clean = CONTEXTS.has(known.context, "sites") and not known.given.get("sigma_min")
    # Before the data are known, those that most networks of whole pixels are for.
    return DISCRETIZED if clean and getattr(known, "image", True) else MIXTURE


@dataclass(frozen=True)
class Conditionals:
    """What a model says of a variable given those before it.

    Attributes:
        likelihood: the conditional density of a likelihood-trained model; empty for scores.
        components: K, of its mixtures.
        annealing: ``joint`` (one network of all levels), ``staged`` (one a level) or ``none``.
    """

    likelihood: str = option(
        "",
        "The conditionals of --objective mle: {parts}.",
        names=LIKELIHOODS,
        needs=_DENSITIES,
        follows=_likelihood,
        shown="discretized-logistic-mixture for images without noise by pixelcnn or transformer, "
        "else logistic-mixture",
    )
    components: int = option(
        10, "Logistic components of a mixture.", metavar="N", least=1, most=4096, needs=_DENSITIES
    )
    annealing: str = option(
        "joint",
        "One network of all noise levels; one a level (the paper's); or one level.",
        choices=ANNEALINGS,
        follows=lambda known: "none" if known.likelihood else "joint",
        shown="joint; none for mle",
    )


def _lowest(known: Any) -> float:
    if known.likelihood == DISCRETIZED:
        return 0.0
    return 0.04 if known.image else 0.05


def _highest(known: Any) -> float:
    sd: float = known.sd
    if known.annealing == "joint":  # where the noise dwarfs the data
        return 3.0 * max(1.0, sd)
    return 0.2 if known.image and known.shape[0] == 3 else 1.0


@dataclass(frozen=True)
class Noise:
    """The noise levels of a model, and the scale that they are in.

    The defaults are the paper's (section 5) for staged annealing; joint annealing starts where the
    noise dwarfs the data.
    """

    sigma_max: float = option(
        1.0,
        "First and largest noise level.",
        metavar="S",
        above=0,
        needs=_SCORES,
        follows=_highest,
        shown="joint: 3, or 3 sd; staged: 1, or 0.2 for colour",
    )
    sigma_min: float = option(
        0.05,
        "Last noise level, that of the density modelled.",
        metavar="S",
        follows=_lowest,
        shown="0.04 for images, else 0.05; 0 if discretized",
    )
    levels: int = option(
        10,
        "Number of noise levels, a geometric sequence.",
        metavar="N",
        least=1,
        most=1000,
        needs=_SCORES,
        follows=lambda known: 10 if known.annealing == "joint" else 3,
        shown="joint: 10 for Langevin; staged: 3",
    )
    standardize: bool = option(
        False, "Give each column of vectors mean 0 and variance 1; sigmas are in that scale."
    )


@dataclass(frozen=True)
class Quantiles:
    """The spline that a distilled model draws with, see `arcsm_cli.models.quantile`."""

    quantile_bins: int = option(
        16, "Stretches of the spline between its knots.", metavar="N", least=1, most=256
    )
    quantile_hidden: tuple[int, ...] = option(
        (64,), "Hidden layers between context and knots.", metavar="N,N,...", fewest=1
    )


def parameter_width(likelihood: str, components: int, site: int) -> int:
    """Return how many parameters a likelihood has for a site of ``site`` values.

    Example:
        >>> parameter_width("discretized-logistic-mixture", components=10, site=3)
        100
    """
    count: int = LIKELIHOODS[likelihood].width(components, site)
    return count


def site_of(context: str, likelihood: str, shape: tuple[int, ...]) -> int:
    """Return S, how many values a context serves: all channels of a pixel, or 1."""
    together = likelihood == DISCRETIZED and context in CONTEXTS and CONTEXTS.has(context, "sites")
    return shape[0] if together and len(shape) == 3 else 1
