"""The parts of the program that are chosen by name, and where each of them is.

A registry knows a part by its name, a line of help and its place, ``module:attribute``, which is
imported when the part is first asked for: listing names imports nothing heavy. A new part of the
program is its own file and a line here, a new context network only a file, which is found where it
lies; a plugin adds one with a decorator,

    from arcsm_cli.registry import OBJECTIVES

    @OBJECTIVES.register("my-objective", "what it minimises", tags=("scores",))
    def my_objective(model, batch, random): ...

What a part must be, each registry says below; docs/extending.md has whole examples.
"""

from arcsm_cli.parts import Part, Registry

CONTEXTS = Registry(
    "context network",
    "--context",
    package="arcsm_cli.models.contexts",
    options="arcsm_cli.models.networks:NetworkOptions",
)
"""Subclasses of `arcsm_cli.models.context.ContextNetwork`.

Tags: ``sites``, one context can serve all channels of a pixel; ``given``, contexts can depend on
conditions (see `ContextNetwork`). The options are a dataclass derived
from `arcsm_cli.models.networks.NetworkOptions`.
"""

OBJECTIVES = Registry(
    "objective",
    "--objective",
    {
        "csm": Part(
            "arcsm_cli.objectives.csm:csm", "composite score matching", ("scores", "variate")
        ),
        "dsm": Part(
            "arcsm_cli.objectives.dsm:dsm",
            "univariate denoising score matching",
            ("scores", "noise"),
        ),
        "ssm": Part("arcsm_cli.objectives.ssm:ssm", "sliced score matching", ("scores", "twice")),
        "mle": Part(
            "arcsm_cli.objectives.mle:mle",
            "maximum likelihood of a model with normalised conditionals",
            ("densities",),
        ),
    },
)
"""Functions (model, batch, random) to the mean loss of an example, all scalars together.

The batch is an `arcsm_cli.objectives.noisy_batch.NoisyBatch`, what else is drawn at random comes
from an `arcsm_cli.randomness.Draws`.

Tags: ``scores`` or ``densities``, which kind of model it trains; ``noise``, it needs a positive
noise level; ``variate``, under noise it has a control variate; ``twice``, it takes second
derivatives (see `arcsm_cli.models.once`).
"""

LIKELIHOODS = Registry(
    "likelihood",
    "--likelihood",
    {
        "gaussian": Part("arcsm_cli.models.heads:Gaussian", "normal"),
        "logistic-mixture": Part(
            "arcsm_cli.models.heads:LogisticMixture", "mixtures of logistics", ("mixture",)
        ),
        "discretized-logistic-mixture": Part(
            "arcsm_cli.models.heads:DiscretizedLogisticMixture",
            "the same over 8-bit values of images",
            ("mixture",),
        ),
    },
)
"""Subclasses of `arcsm_cli.models.heads.Head`: conditionals that are normalised.

Tags: ``mixture``, it has a number of components.
"""

SAMPLERS = Registry(
    "sampler",
    "--sampler",
    {
        "quantile": Part(
            "arcsm_cli.sampling.quantile:Quantile",
            "one evaluation a scalar, of distilled models",
            ("scores", "distilled"),
        ),
        "ode": Part(
            "arcsm_cli.sampling.ode:ProbabilityFlow",
            "probability-flow ODE",
            ("scores", "joint"),
            options="arcsm_cli.sampling.options:FlowOptions",
        ),
        "langevin": Part(
            "arcsm_cli.sampling.langevin:Langevin",
            "annealed Langevin dynamics",
            ("scores",),
            options="arcsm_cli.sampling.options:LangevinOptions",
        ),
        "grid": Part(
            "arcsm_cli.sampling.grid:Grid",
            "inverting the distribution function on a grid",
            ("scores",),
            options="arcsm_cli.sampling.options:GridOptions",
        ),
        "ancestral": Part(
            "arcsm_cli.sampling.ancestral:Ancestral",
            "ancestral, of models trained with --objective mle",
            ("densities",),
        ),
    },
)
"""Classes that draw one scalar given its conditional, see `arcsm_cli.sampling.draw.Sampler`.

``for_model(model, **options)`` makes one. The first that fits is a model's default.

Tags: ``scores`` or ``densities``, which kind of model it draws from; ``joint``, only one of joint
annealing; ``distilled``, only one with quantile functions.
"""

_TRIANGULAR = "arcsm_cli.models.vae_triangular:TriangularEncoder"
_IMPLICIT = "arcsm_cli.models.vae_networks:ImplicitEncoder"

METHODS = Registry(
    "method",
    "--method",
    {
        "elbo": Part("arcsm_cli.models.vae_networks:GaussianEncoder"),
        "csm": Part(_TRIANGULAR, tags=("triangular", "estimator")),
        "ssm": Part(_IMPLICIT, tags=("estimator",)),
        "ssm-ar": Part(_TRIANGULAR, tags=("triangular", "estimator")),
        "stein": Part(_IMPLICIT, tags=("particles",)),
        "spectral": Part(_IMPLICIT, tags=("particles",)),
    },
)
"""The encoders of VAEs by how the gradient of the entropy is had.

Tags: ``triangular``, the gradient needs an encoder triangular in the noise; ``estimator``, a
network that estimates scores is trained beside; ``particles``, kernels estimate them from several
draws.
"""

_VISION = "arcsm_cli.data.vision:load_vision"
_REFERENCE = "arcsm_cli.data.reference:read_reference"

SOURCES = Registry(
    "data set",
    "DATA",
    {
        "digits": Part(
            "arcsm_cli.data.embedded:read_digits",
            "scikit-learn's 1,797 digits, 8 x 8, fixed 80/20 split",
        ),
        **{
            name: Part("arcsm_cli.data.twod:read_points", help, ("valid", "plane"))
            for name, help in {
                "rings": "four concentric circles",
                "moons": "two interleaved half circles",
                "spirals": "a spiral with two arms",
                "checkerboard": "alternating squares of a 4 x 4 board",
                "pinwheel": "five bent arms",
                "8gaussians": "eight Gaussians on a circle",
                "swissroll": "a rolled-up line",
            }.items()
        },
        "gaussian": Part(
            "arcsm_cli.data.twod:read_gaussian",
            "D correlated Gaussian variables, as gaussian:D",
            ("valid", "sized"),
        ),
        "mnist": Part(_VISION, "handwritten digits, 1 x 28 x 28"),
        "fashion-mnist": Part(_VISION, "articles of clothing, 1 x 28 x 28"),
        "cifar10": Part(_VISION, "photographs of ten classes, 3 x 32 x 32"),
        "svhn": Part(_VISION, "house numbers, 3 x 32 x 32"),
        "celeba": Part(
            "arcsm_cli.data.celeba:read_celeba",
            "aligned faces, 3 x 218 x 178 before cropping",
            ("valid",),
        ),
        "uniform": Part(_REFERENCE, "every pixel uniform, in the shape of the model", ("shaped",)),
        "constant-uniform": Part(
            _REFERENCE, "one uniform value per image, in the shape of the model", ("shaped",)
        ),
    },
)
"""Functions (name, split, options) to an `arcsm_cli.data.dataset.Dataset`.

The name is the data set's, the split ``train``, ``valid`` or ``test``, the options are
`arcsm_cli.data.options.DataOptions`, whose limit, crop and size are applied afterwards too.

Tags: ``valid``, it has this split beside the others; ``plane``, it is of two dimensions; ``sized``,
its name ends in ``:D``; ``shaped``, it has no splits and takes the shape of a model, an example's,
in place of the split.
"""

STATISTICS = Registry(
    "statistic",
    "--statistic",
    {
        "score-sum": Part("arcsm_cli.evaluation.readings:score_sum", tags=("scores", "higher")),
        "score-norm": Part("arcsm_cli.evaluation.readings:score_norm", tags=("scores",)),
        "ratio": Part("arcsm_cli.evaluation.readings:ratio", tags=("scores",)),
        "csm": Part("arcsm_cli.evaluation.readings:csm", tags=("scores",)),
        "nll": Part("arcsm_cli.evaluation.readings:nll", tags=("scores", "densities")),
        "multiscale": Part("arcsm_cli.evaluation.readings:multiscale", tags=("scores", "levels")),
    },
)
"""Functions of an `arcsm_cli.evaluation.readings.Reading` to a figure of each example, (B,).

Each also comes two-sided, as a distance from its median over training data.

Tags: ``scores``, ``densities``, of which models it is; ``higher``, more of it is like the training
data, else less; ``levels``, it is read at all noise levels: a vector, whose distance counts.
"""

_VAE_METRICS = "arcsm_cli.evaluation.vae_metrics:evaluate_vae"
_FEATURES = "arcsm_cli.evaluation.image_features:feature_distances"

METRICS = Registry(
    "metric",
    "--metric",
    {
        "nll": Part("arcsm_cli.evaluation.readings:nll", tags=("model",)),
        "bpd": Part("arcsm_cli.evaluation.model_metrics:bits_per_dimension", tags=("model",)),
        "csm": Part("arcsm_cli.evaluation.readings:csm", tags=("model", "scores")),
        "accuracy": Part(
            "arcsm_cli.evaluation.classifying:figures_of_labels", tags=("model", "labels")
        ),
        "elbo": Part(_VAE_METRICS, tags=("vae", "default")),
        "iwae": Part(_VAE_METRICS, tags=("vae", "default")),
        "ais": Part(_VAE_METRICS, tags=("vae",)),
        "moments": Part("arcsm_cli.evaluation.sample_metrics:moments", tags=("samples", "default")),
        "energy": Part(
            "arcsm_cli.evaluation.sample_metrics:energy",
            tags=("samples", "distance", "default"),
        ),
        "sliced-wasserstein": Part(
            "arcsm_cli.evaluation.sample_metrics:sliced",
            tags=("samples", "distance", "default"),
        ),
        "fid": Part(_FEATURES, tags=("samples", "vae", "features")),
        "kid": Part(_FEATURES, tags=("samples", "vae", "features")),
        "psnr": Part("arcsm_cli.evaluation.restoration:psnr", tags=("samples", "restored")),
        "ssim": Part("arcsm_cli.evaluation.restoration:ssim", tags=("samples", "restored")),
        "mse": Part(
            "arcsm_cli.evaluation.restoration:mse", tags=("samples", "restored", "vectors")
        ),
        "auroc": Part("arcsm_cli.evaluation.ood_report:report", tags=("samples", "scored")),
    },
)
"""What ``eval`` measures. Tags say of what, and with it what a part is:

``model``: figures of examples, of models of ``scores`` alone or of all; with ``labels``, of those
given labels, and only if it is named; ``vae``: the same of VAEs.
``samples``, of a sample file: with ``distance`` functions (samples, examples, seed) to figures by
name; with ``restored`` functions of restored and clean examples to a figure of each, of images or
of ``vectors`` too; with ``features``, of images by Inception v3; with ``scored``, of statistics.
``default``: measured if no metric is named and what it needs is there.
"""

RULES = Registry(
    "denoising method",
    "--method",
    {
        "single-step": Part("arcsm_cli.denoising.restorers:single_step"),
        "sequential": Part("arcsm_cli.denoising.restorers:sequential", tags=("default",)),
        "langevin": Part(
            "arcsm_cli.denoising.restorers:langevin",
            options="arcsm_cli.denoising.options:LangevinOptions",
        ),
        "ode": Part(
            "arcsm_cli.denoising.restorers:ode",
            tags=("default", "joint"),
            options="arcsm_cli.denoising.options:FlowOptions",
        ),
        "particles": Part(
            "arcsm_cli.denoising.restorers:particles",
            tags=("joint", "salt-pepper", "masks"),
            options="arcsm_cli.denoising.options:ParticleOptions",
        ),
        "known-first": Part(
            "arcsm_cli.denoising.restorers:known_first",
            tags=("any-order", "masks"),
            options="arcsm_cli.denoising.options:KnownFirstOptions",
        ),
    },
)
"""Functions (task, **options) to a denoiser, see `arcsm_cli.denoising.restorers`.

Tags: ``joint``, noise is taken off by models of joint annealing alone; ``default``, it is taken
for models of this kind; ``salt-pepper``, ``masks``, it takes this corruption for what it is;
``any-order``, it is of models of any order, whose masks it takes by default.
"""
