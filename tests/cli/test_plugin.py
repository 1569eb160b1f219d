"""Plugins: a user's own parts in every command that reads data or models."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import pytest
import torch

from arcsm_cli import registry
from arcsm_cli.data.batch import Batch
from arcsm_cli.data.conditions import Condition, Conditions
from arcsm_cli.models.architecture import parameter_width
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.context import ContextNetwork
from arcsm_cli.models.heads import Head
from arcsm_cli.models.restore import make_model, parameter_count
from arcsm_cli.plugins import load_plugin

if TYPE_CHECKING:
    from tests.cli.preloaded import Call

DOCS = Path(__file__).parents[2] / "docs"
PAGE, MACHINE = DOCS / "extending.md", DOCS / "examples" / "energy_machine.py"
SHORT = {"--steps": "3", "-n": "4"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The example of docs/extending.md, as a reader would save it."""
    path = tmp_path / "extras.py"
    path.write_text(blocks("python")[0])
    return path


@pytest.fixture
def loaded(plugin: Path) -> Iterator[type[ContextNetwork]]:
    """The example's context network, in this process, for one test."""
    kinds = (registry.CONTEXTS, registry.OBJECTIVES, registry.SOURCES)
    before = [dict(kind._parts) for kind in kinds]
    load_plugin(str(plugin))
    yield registry.CONTEXTS["decay"]
    for kind, parts in zip(kinds, before, strict=True):
        kind._parts = parts


@pytest.fixture
def machine() -> Iterator[type[Head]]:
    """The likelihood of the example of an energy machine, in this process, for one test."""
    before = dict(registry.LIKELIHOODS._parts)
    load_plugin(str(MACHINE))
    yield registry.LIKELIHOODS["energy"]
    registry.LIKELIHOODS._parts.clear()
    registry.LIKELIHOODS._parts.update(before)


def machine_settings(components: int = 3) -> ModelConfig:
    return ModelConfig(
        shape=(2,),
        levels=(0.1,),
        annealing="none",
        hidden=(8,),
        likelihood="energy",
        components=components,
        context_width=parameter_width("energy", components, 1),
    )


def commands() -> list[list[str]]:
    """The command lines of the page, shortened."""
    found = []
    for line in blocks("sh")[0].splitlines():
        words = shlex.split(line)[1:]
        words = [SHORT.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        found.append(words if words[0] in ("train", "sample") else [*words, "--limit", "20"])
    return found


@pytest.mark.slow
def test_the_whole_example_of_the_page_works(plugin: Path, tmp_path: Path, apart: "Call") -> None:
    for words in commands():
        done = apart(*words)
        assert done.code == 0, done.err
    for file in ("samples.h5", "restored.h5"):
        with h5py.File(tmp_path / file) as written:
            assert written["samples"].shape[1:] == (3,)


def test_a_run_with_a_plugin_goes_on_and_knows_its_options(plugin: Path, apart: "Call") -> None:
    train, *_ = commands()
    assert apart(*train).code == 0
    longer = [word if word != "3" else "5" for word in train]
    assert apart(*longer, "--resume").code == 0
    other = apart(*longer, "--resume", "--memories", "9")
    assert other.code == 2
    assert "--memories is 9, but the run to resume has 16" in other.err


def test_a_checkpoint_of_a_plugin_is_refused_without_it(
    plugin: Path, tmp_path: Path, apart: "Call"
) -> None:
    assert apart(*commands()[0]).code == 0
    plugin.rename(tmp_path / "moved.py")
    done = apart("sample", "helix.safetensors", "-o", "s.h5")
    assert (done.code, done.err.count("\n")) == (69, 1)
    assert "helix.safetensors" in done.err
    assert "--plugin extras.py" in done.err
    assert not (tmp_path / "s.h5").exists()
    assert apart("sample", "helix.safetensors", "--plugin", "moved.py", "-o", "s.h5").code == 0


def test_a_configuration_file_may_name_plugins(plugin: Path, tmp_path: Path, apart: "Call") -> None:
    (tmp_path / "run.toml").write_text('plugin = ["extras.py"]\ncontext = "decay"\nmemories = 5\n')
    done = apart("train", "helix", "--config", "run.toml", "--steps", 2, "-o", "m.safetensors")
    assert done.code == 0, done.err


def test_help_shows_the_options_of_a_plugin(plugin: Path, apart: "Call") -> None:
    text = apart("train", "--plugin", "extras.py", "--help").out.decode()
    assert "--memories N" in text
    assert "decay" in text
    assert "half-half" in text


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, 66, "no such file"),
        ("x = 1", 2, "registers nothing"),
        ("import nothing_of_this_name", 65, "nothing_of_this_name"),
        ("def broken(:", 65, "SyntaxError"),
        (
            "from arcsm_cli.registry import CONTEXTS\n@CONTEXTS.register('made')\nclass M: ...",
            *(2, "'made' already"),
        ),
    ],
    ids=["missing", "empty", "import", "syntax", "taken"],
)
def test_a_plugin_that_cannot_be_used_is_named_in_one_line(
    content: str | None, code: int, words: str, tmp_path: Path, apart: "Call"
) -> None:
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    done = apart("data", "digits", "--plugin", "mine.py", "-o", "x.h5")
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
    assert words in done.err
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize("told", [(), (Condition("age"), Condition("labels", ("a",), (1,)))])
def test_the_examples_network_is_causal_and_its_walk_is_its_pass(
    told: Conditions, loaded: type[ContextNetwork]
) -> None:
    levels = (1.0, 0.1)
    config = ModelConfig(shape=(5,), levels=levels, context="decay", memories=4, given=told)
    model = make_model(config)
    assert sum(p.numel() for p in model.parameters()) == parameter_count(config)
    net = model.networks[0].context
    assert isinstance(net, loaded)
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    given = x[:, : len(told)]
    whole = net(Batch(x, given))
    jacobian = torch.autograd.functional.jacobian(
        lambda x: net(Batch(x, given)).sum((0, 2)), x
    ).sum(1)
    assert torch.equal(jacobian.triu(), torch.zeros(5, 5))
    walk = net.incremental(given)
    for d in range(5):
        if d == 3:
            walk.select(torch.tensor([2, 0, 2]))
            x, whole = x[[2, 0, 2]], whole[[2, 0, 2]]
        assert torch.allclose(walk.contexts(), whole[:, d], atol=1e-6)
        walk.append(x[:, d])


def test_an_energy_machine_is_trained_measured_and_sampled(apart: "Call") -> None:
    plugin = ("--plugin", MACHINE)
    given = ("--objective", "mle", "--likelihood", "energy", "--components", 2, "--steps", 3)
    assert apart("train", "moons", *plugin, *given, "-o", "m.safetensors").code == 0
    found = apart("eval", "m.safetensors", "moons", *plugin, "--limit", 20, "--json")
    assert found.json["method"] == "direct"
    assert apart("sample", "m.safetensors", *plugin, "-n", 4, "-o", "s.h5").code == 0
    without = apart("eval", "m.safetensors", "moons")
    assert without.code == 69
    assert "'energy' is of a plugin: give --plugin energy_machine.py" in without.err


@torch.no_grad()
def test_conditionals_of_an_energy_machine_are_densities_that_it_draws_from(
    machine: type[Head],
) -> None:
    generator = torch.Generator().manual_seed(0)
    model = make_model(machine_settings()).eval().double()
    assert parameter_count(machine_settings()) == sum(p.numel() for p in model.parameters())
    head = model.stages[0].head
    head.energy.out.weight.normal_(generator=generator)
    grid = torch.linspace(-30, 30, 1201, dtype=torch.float64)
    parameters = 0.5 * torch.randn(3, head.width(3, 1), generator=generator, dtype=torch.float64)
    density = head.log_prob(
        parameters[:, None].expand(-1, len(grid), -1), grid[:, None].expand(3, -1, -1)
    ).exp()
    mass = torch.cumulative_trapezoid(density[..., 0], grid, dim=1)
    assert torch.allclose(mass[:, -1], torch.ones(3, dtype=torch.float64), atol=0.01)
    z = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    for row, cumulative in zip(parameters, mass, strict=True):
        x = head.draw(row.expand(len(z), -1), row.new_empty(len(z), 0), z)
        shares = torch.stack([(x <= at).double().mean() for at in grid[40::40]])
        assert (shares - cumulative[39::40]).abs().max() < 1.95 / len(z) ** 0.5 + 0.01
