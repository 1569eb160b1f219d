"""Which parts of the program may import which, read from the source."""

import ast
import graphlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = (
    *(
        "errors",
        "extras",
        "notices",
        "parts",
        "registry",
        "plugins",
        "options",
        "randomness",
        "runtime",
    ),
    *("pretrained", "distributed", "processors", "io", "data", "cli", "models"),
    *("objectives", "sampling", "evaluation", "denoising", "training", "comparisons"),
    *("plotting", "reporting", "app", "commands", "interface"),
)
"""Each imports from those before it alone; docs/architecture.md says what they are."""

PROGRAMS = ("arcsm_cli.__main__", "arcsm_cli.cli.reference")  # run as they are; nobody imports them


def modules() -> dict[str, Path]:
    files = [f for folder in ("arcsm_cli", "commands") for f in (ROOT / folder).rglob("*.py")]
    named = {}
    for file in files:
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        named[f"arcsm_cli.{name}" if name.split(".")[0] == "commands" else name] = file
    return named


def imports() -> dict[str, set[str]]:
    """By module, what it imports of ours: at its top, within functions and for types alone."""
    named = modules()
    found: dict[str, set[str]] = {name: set() for name in named}
    for name, file in named.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: relative import"
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {i if i in named else f"{node.module}" for i in inner}
        found[name] = {i for i in found[name] if i in named and i != "arcsm_cli"}
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_its_place() -> None:
    assert {room(name) for name in modules() if "." in name and name not in PROGRAMS} == set(ROOMS)


def test_imports_run_one_way() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in others
        if name != "arcsm_cli"
        and name not in PROGRAMS
        and ROOMS.index(room(other)) > ROOMS.index(room(name))
    ]
    assert not wrong


def test_no_modules_import_each_other() -> None:
    order = list(graphlib.TopologicalSorter(imports()).static_order())  # raises on a circle
    assert set(PROGRAMS) < set(order)
