"""What every kind of model promises in every command, as a real program.

A new kind of model is a line of `KINDS`; a new objective, context network or method then has to
keep all of these promises. What is particular to a command or a kind is tested where that lives.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from arcsm_cli.io.samples import SampleFile
from tests.cli.files import contents, read

if TYPE_CHECKING:
    from tests.cli.preloaded import Done, Running

Call = Callable[..., "Done"]
Start = Callable[..., "Running"]


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        command: what trains it.
        data: what on, or what its teacher is trained on.
        options: that make it, and keep it small.
        samplers: of `arcsm sample`.
        refuses: commands that have no use for it.
        teacher: the kind that it is made from instead of data.
    """

    command: str
    data: str
    options: str
    samplers: tuple[str, ...] = ("ode", "langevin", "grid")
    refuses: tuple[str, ...] = ()
    teacher: str = ""

    @property
    def chain(self) -> list[str]:
        """The commands that make it, oldest first."""
        return [*(KINDS[self.teacher].chain if self.teacher else []), self.command]


def making(name: str, model: Callable[[str], Path]) -> list[object]:
    """The command line that makes a kind, but for its output."""
    kind = KINDS[name]
    source = model(kind.teacher) if kind.teacher else kind.data
    return [kind.command, source, *kind.options.split()]


_MADE = "--hidden 12,12 --score-hidden 6,6 --batch-size 16 --limit 120"
_PIXELCNN = "--context pixelcnn --filters 4 --resnet-blocks 1 --dropout 0.2 --limit 60"
_PIXELCNN += " --batch-size 24 --resize 4"
_TRANSFORMER = "--context transformer --layers 1 --heads 2 --width 8 --batch-size 16 --limit 120"
_MLE = "--objective mle --hidden 12,12 --batch-size 16 --limit 120"
_VAE = "--hidden 10,10 --latent-dim 2 --batch-size 16 --limit 120"
_OF_NORMALISED = (("ancestral",), ("denoise", "csm"))
_OF_VAES = (("",), ("denoise", "ood-score", "csm"))
KINDS = {
    "csm": Kind("train", "digits", f"{_MADE} --resize 4"),
    "csm-vectors": Kind("train", "gaussian:3", f"{_MADE} --draws 2 --order random"),
    "csm-staged": Kind(
        "train",
        "gaussian:2",
        f"{_MADE} --annealing staged --levels 2",
        ("langevin", "grid"),
    ),
    "csm-one-level": Kind(
        "train", "gaussian:2", f"{_MADE} --annealing none --sigma-min 0.2", ("langevin", "grid")
    ),
    "csm-pixelcnn": Kind(
        "train", "digits", f"{_PIXELCNN} --score-hidden 6,6", ("ode", "langevin", "grid")
    ),
    "csm-any-order": Kind("train", "gaussian:3", f"{_TRANSFORMER} --order any"),
    "mle-transformer": Kind(
        "train", "digits", f"{_TRANSFORMER} --objective mle --resize 4", *_OF_NORMALISED
    ),
    "dsm": Kind("train", "gaussian:3", f"{_MADE} --objective dsm --residual"),
    "csm-given-labels": Kind("train", "digits", f"{_MADE} --resize 4 --given labels"),
    "distilled": Kind(
        "distill",
        "gaussian:3",
        "--examples 8 --contexts 60 --quantile-bins 4 --quantile-hidden 6 --batch-size 16",
        ("quantile", "ode", "langevin", "grid"),
        teacher="csm-vectors",
    ),
    "mle-gaussian": Kind("train", "gaussian:3", f"{_MLE} --likelihood gaussian", *_OF_NORMALISED),
    "mle-mixture": Kind("train", "gaussian:3", f"{_MLE} --sigma-min 0.1", *_OF_NORMALISED),
    "mle-8-bit": Kind("train", "digits", f"{_PIXELCNN} --objective mle", *_OF_NORMALISED),
    "vae-elbo": Kind("vae-train", "digits", f"{_VAE} --method elbo", *_OF_VAES),
    "vae-csm": Kind("vae-train", "digits", f"{_VAE} --method csm --context-width 4", *_OF_VAES),
    "vae-ssm": Kind("vae-train", "gaussian:3", f"{_VAE} --method ssm", *_OF_VAES),
    "vae-ssm-ar": Kind("vae-train", "digits", f"{_VAE} --method ssm-ar", *_OF_VAES),
    "vae-stein": Kind("vae-train", "digits", f"{_VAE} --method stein --particles 4", *_OF_VAES),
    "vae-spectral": Kind(
        "vae-train", "gaussian:3", f"{_VAE} --method spectral --particles 4", *_OF_VAES
    ),
}
each = pytest.mark.parametrize("name", KINDS)
_STOPS = ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGTERM", "SIGINT")  # a kind each, in turn
_FEW = ("--steps", 8, "--checkpoint-every", 3)


def same_size(kind: Kind) -> tuple[str, ...]:
    """The options that bring data to the shape of a kind."""
    return ("--resize", "4") if "--resize 4" in kind.options else ()


@pytest.fixture(scope="session")
def model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The model of a kind, hardly trained; trained once."""
    found: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in found:
            path = tmp_path_factory.mktemp(name) / "model.safetensors"
            done = call_in(path.parent, *making(name, get), *_FEW, "-q", "-o", path)
            assert (done.code, done.out, done.err) == (0, b"", "")
            found[name] = path
        return found[name]

    return get


def commands(path: Path) -> list[str]:
    """The commands that made a sample file, oldest first."""
    with SampleFile(path) as file:
        return [step["command"] for step in file.provenance]


@each
def test_a_stopped_run_goes_on_to_the_weights_of_one_that_was_not(
    name: str, model: Any, start: Start, call: Call, tmp_path: Path
) -> None:
    common = (*making(name, model), *_FEW, "-q", "-o", "parts.safetensors")
    running = start(*common)
    running.catch((tmp_path / "parts.safetensors").exists)
    stopped = running.end(signal.Signals[_STOPS[list(KINDS).index(name) % len(_STOPS)]])
    if stopped.code == 75:  # else the last step was over already
        assert (stopped.err.count("\n"), "--resume" in stopped.err) == (1, True)
        assert call(*common, "--resume").code == 0
    # The same seed gives the same weights, too: this is another run than the model's.
    assert contents(tmp_path / "parts.safetensors") == contents(model(name))


@each
def test_another_seed_gives_other_weights_and_resumes_no_run(
    name: str, model: Any, call: Call, tmp_path: Path
) -> None:
    before = model(name).read_bytes()
    common = (*making(name, model), *_FEW, "-q", "--seed", 1)
    refused = call(*common, "--resume", "-o", model(name))
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, b"", 1)
    assert "--seed" in refused.err
    assert model(name).read_bytes() == before
    assert call(*common, "-o", "other.safetensors").code == 0
    assert contents(tmp_path / "other.safetensors")[0] != contents(model(name))[0]


@each
def test_a_rate_beyond_sense_ends_in_one_line_and_no_file(
    name: str, model: Any, call: Call, tmp_path: Path
) -> None:
    rate = ("--lr", "1e38", "--warmup", 0, "--steps", 30, "-o", "m.safetensors")
    done = call(*making(name, model), *rate, "-q")
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
    assert "diverged" in done.err
    assert list(tmp_path.iterdir()) == []


@each
def test_samples_depend_on_seed_and_number_alone_and_remember_their_chain(
    name: str, model: Any, call: Call, tmp_path: Path
) -> None:
    for sampler in KINDS[name].samplers:
        common = ("sample", model(name), "-n", 5, "-q", "--force")
        # Models of a few steps may draw values that clipping would make alike.
        common += ("--no-clip", "--sampler", sampler) if sampler else ()
        common += ("--steps", 4) if sampler in ("ode", "langevin") else ()
        assert call(*common, "-o", "whole.h5").code == 0
        for i, size in enumerate((1, 5)):
            shard = ("--shard", f"{i}/2", "--batch-size", size)
            assert call(*common, *shard, "-o", f"{i}.h5").code == 0
        whole = read(tmp_path / "whole.h5")
        assert np.isfinite(whole).all()
        parts = [read(tmp_path / f"{i}.h5") for i in (0, 1)]
        assert np.allclose(np.concatenate(parts), whole, atol=1e-4)
    assert call(*common, "-o", "other.h5", "--seed", 1).code == 0
    assert not np.array_equal(read(tmp_path / "other.h5"), whole)
    assert call("merge", "0.h5", "1.h5", "-o", "joined.h5", "-q").code == 0
    assert np.array_equal(read(tmp_path / "joined.h5"), np.concatenate(parts))
    made = KINDS[name].chain
    assert commands(tmp_path / "whole.h5") == [*made, "sample"]
    assert commands(tmp_path / "joined.h5") == [*made, "sample", "sample", "merge"]


@each
def test_figures_do_not_depend_on_the_batches_and_are_written_beside_the_examples(
    name: str, model: Any, call: Call, tmp_path: Path
) -> None:
    kind = KINDS[name]
    quick = ("--importance-samples", 4) if kind.command == "vae-train" else ()
    common = (
        "eval",
        model(name),
        f"{kind.data}:test",
        "--limit",
        6,
        *same_size(kind),
        *quick,
        "-q",
    )
    one, other = (call(*common, "--json", "--batch-size", n) for n in (6, 4))
    assert (one.code, one.err) == (0, "")
    assert one.json["metrics"] == pytest.approx(other.json["metrics"], rel=1e-4, abs=1e-4)
    assert all(np.isfinite(value) for value in one.json["metrics"].values())
    assert call(*common, "-o", "scored.h5").code == 0
    assert commands(tmp_path / "scored.h5") == [*kind.chain, "eval"]
    with SampleFile(tmp_path / "scored.h5") as file:
        for figure in [n for n in file.names if n.startswith("statistics/")]:
            mean = float(file.read(0, 6, figure).mean())
            assert mean == pytest.approx(one.json["metrics"][figure.split("/")[1]], rel=1e-4)


@each
def test_what_a_command_cannot_do_with_a_kind_it_refuses_in_one_line(
    name: str, model: Any, call: Call, tmp_path: Path
) -> None:
    kind = KINDS[name]
    data = (f"{kind.data}:test", "--limit", 4, *same_size(kind), "-q")
    jobs = {
        "denoise": (*("denoise", model(name), *data), "--corrupt", "gaussian:0.3", "-o", "d.h5"),
        "ood-score": ("ood-score", model(name), *data, "--reference-limit", 40, "-o", "o.h5"),
        "csm": ("eval", model(name), *data, "--metric", "csm", "-o", "c.h5"),
    }
    for job, arguments in jobs.items():
        done = call(*arguments)
        if job in kind.refuses:
            assert (done.code in (2, 65), done.out, done.err.count("\n")) == (True, b"", 1)
            assert not (tmp_path / str(arguments[-1])).exists()
        else:
            assert (done.code, done.err) == (0, "")
            assert commands(tmp_path / str(arguments[-1]))[-1] == str(arguments[0])


@each
def test_info_knows_it(name: str, model: Any, call: Call) -> None:
    found = call("info", model(name), "--json").json
    assert found["config"] == contents(model(name))[1]
    assert [step["command"] for step in found["provenance"]] == KINDS[name].chain


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csm-staged", "mle-8-bit", "vae-csm", "distilled"])
def test_curves_are_drawn(name: str, model: Any, call: Call, tmp_path: Path) -> None:
    done = call("plot", model(name), "-o", "curves.png", "-q")
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["csm", "mle-8-bit", "vae-csm"])
def test_training_sampling_and_measuring_join_by_pipes(
    name: str, model: Any, pipeline: Callable[..., list["Done"]], tmp_path: Path
) -> None:
    kind = KINDS[name]
    dones = pipeline(
        (*making(name, model), "--steps", 2, "-q", "-o", "-"),
        ("sample", "-", "-n", 3, "-q", "-o", "-"),
        ("info", "-", "--json"),
    )
    assert [(done.code, done.err) for done in dones] == [(0, "")] * 3
    chain = [step["command"] for step in dones[-1].json["provenance"]]
    assert chain == [kind.command, "sample"]
    assert list(tmp_path.iterdir()) == []
