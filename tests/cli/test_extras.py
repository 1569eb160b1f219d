"""A light installation: what it does without the packages of extras, and what it says of them."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from arcsm_cli.extras import EXTRAS

# Each of them would be the first import of its package in the process, as in a user's.
MAIN_JOB = (
    "train gaussian:2 --hidden 4 --score-hidden 4,4 --steps 2 --limit 40 -q -o m.safetensors",
    "train digits --resize 12 --hidden 4 --score-hidden 4,4 --steps 2 --limit 40 -o d.safetensors",
    "sample d.safetensors -n 2 -q -o s.h5 --png s.png",
    "eval m.safetensors gaussian:2 --limit 5 -q",
    "eval s.h5 --against digits --resize 12 --metric moments,energy -q",
    "denoise d.safetensors digits --resize 12 --limit 2 --corrupt gaussian:0.5 -q -o r.h5",
    "eval r.h5 --metric psnr,mse -q",
    "ood-score m.safetensors gaussian:2 --limit 9 --against moons --statistic score-norm -q",
    "distill m.safetensors --steps 1 --examples 4 --contexts 30 -q -o q.safetensors",
    "vae-train digits --hidden 4,4 --latent-dim 2 --steps 2 --limit 40 -q -o v.safetensors",
    "sample v.safetensors -n 2 -q -o v.h5",
    "compare cost --dims 2 --help",
    "info m.safetensors",
    "data digits --limit 3 -o d.h5",
    "merge s.h5 s.h5 -o both.h5",
    "export m.safetensors -o folder",
    "models",
)
LACKING = {
    "plot m.safetensors": "plot",
    "train moons --steps 2 --limit 40 -q --log-dir runs -o t.safetensors": "tensorboard",
    "eval r.h5 --metric ssim": "metrics",
    "eval s.h5 --against digits --resize 12 --metric sliced-wasserstein": "metrics",
}
HIDING = """
import json, sys
for name in {hidden!r}:
    sys.modules[name] = None  # what an import of a package that is not installed comes to
from arcsm_cli.app import main
print(json.dumps([main(line.split()) for line in {lines!r}]), file=sys.stderr)
"""


@pytest.mark.slow
def test_the_main_job_needs_no_extra_and_what_does_names_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    code = HIDING.format(hidden=list(EXTRAS), lines=[*MAIN_JOB, *LACKING])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    *complaints, codes = done.stderr.splitlines()
    assert json.loads(codes) == [0] * len(MAIN_JOB) + [69] * len(LACKING), done.stderr
    said = [line for line in complaints if "not installed" in line]
    for line, extra in zip(said, LACKING.values(), strict=True):
        assert line.endswith(f"pip install 'arcsm[{extra}]'")


@pytest.mark.parametrize("extra", sorted(set(EXTRAS.values())))
def test_an_extra_that_is_named_can_be_installed(extra: str, repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert extra in project["optional-dependencies"]
    assert extra in project["optional-dependencies"]["all"][0]
