"""``arcsm merge``: shards in, one file out, in order and in bounded memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcsm_cli.io.samples import SampleFile, SampleWriter

RunArcsm = Callable[..., "subprocess.CompletedProcess[Any]"]
WriteSamples = Callable[..., Path]


def rows(path: Path, name: str = "samples") -> list[float]:
    """The first number of every example."""
    with SampleFile(path) as file:
        block = file.read(0, len(file), name)
    return [float(value) for value in block.reshape(len(block), -1)[:, 0]]


@pytest.mark.parametrize("name", ["samples", "labels", "statistics/nll"])
def test_every_dataset_is_joined_in_the_order_given(
    name: str, run_arcsm: RunArcsm, write_samples: WriteSamples, tmp_path: Path
) -> None:
    parts = [write_samples(f"{i}.h5", count=i, first=10 * i) for i in (3, 1, 2)]
    run_arcsm("merge", *parts, "-o", "all.h5")
    assert rows(tmp_path / "all.h5", name) == [
        value for part in parts for value in rows(part, name)
    ]


def test_the_shards_of_one_file_merge_into_the_same_content(
    run_arcsm: RunArcsm, write_samples: WriteSamples, tmp_path: Path
) -> None:
    whole = write_samples("whole.h5", count=6)
    run_arcsm("merge", write_samples("a.h5", 4), write_samples("b.h5", 2, first=4), "-o", "all.h5")
    assert rows(tmp_path / "all.h5") == rows(whole)


def test_an_empty_shard_changes_nothing(
    run_arcsm: RunArcsm, write_samples: WriteSamples, tmp_path: Path
) -> None:
    parts = [write_samples("a.h5", 0), write_samples("b.h5", 2), write_samples("c.h5", 0)]
    assert run_arcsm("merge", *parts, "-o", "all.h5").returncode == 0
    assert rows(tmp_path / "all.h5", "labels") == [0, 1]


def test_only_empty_shards_keep_their_datasets(
    run_arcsm: RunArcsm, write_samples: WriteSamples, tmp_path: Path
) -> None:
    run_arcsm("merge", write_samples("a.h5", 0), write_samples("b.h5", 0), "-o", "all.h5")
    with SampleFile(tmp_path / "all.h5") as file:
        assert file.names == ["samples", "labels", "statistics/nll"]


@pytest.mark.slow
def test_more_shards_than_files_may_be_open(
    run_arcsm: RunArcsm, write_samples: WriteSamples, program: list[str], tmp_path: Path
) -> None:
    part = write_samples("a.h5", 1)
    line = f"ulimit -n 64; {' '.join(program)} merge {f'{part} ' * 100} -o all.h5"
    assert subprocess.run(line, shell=True, cwd=tmp_path).returncode == 0
    assert len(rows(tmp_path / "all.h5")) == 100


def test_one_shard_may_come_from_standard_input(
    run_arcsm: RunArcsm, write_samples: WriteSamples, tmp_path: Path
) -> None:
    with write_samples("a.h5", 2).open("rb") as stream:
        other = write_samples("b.h5", 2, first=5)
        run_arcsm("merge", other, "-", "-o", "all.h5", stdin=stream)
    assert rows(tmp_path / "all.h5") == [5, 6, 0, 1]


def test_standard_input_cannot_be_two_shards(run_arcsm: RunArcsm) -> None:
    done = run_arcsm("merge", "-", "-", "-o", "all.h5")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "other",
    [{"shape": (3,)}, {"shape": (1, 1, 2)}, {"extra": False}],
    ids=["width", "rank", "datasets"],
)
def test_shards_that_do_not_fit_are_refused_by_name(
    other: dict[str, Any], run_arcsm: RunArcsm, write_samples: WriteSamples, tmp_path: Path
) -> None:
    bad = write_samples("bad.h5", **other)
    done = run_arcsm("merge", write_samples("a.h5"), bad, "-o", "all.h5")
    assert (done.returncode, done.stderr.count("\n")) == (65, 1)
    assert str(bad) in done.stderr
    assert not (tmp_path / "all.h5").exists()


def test_statistics_of_different_shapes_are_refused(run_arcsm: RunArcsm, tmp_path: Path) -> None:
    for name, width in (("a.h5", 2), ("b.h5", 3)):
        with SampleWriter(tmp_path / name, (2,), []) as writer:
            writer.append(np.zeros((4, 2)), statistics={"s": np.zeros((4, width))})
    assert run_arcsm("merge", "a.h5", "b.h5", "-o", "all.h5").returncode == 65


def test_a_damaged_last_shard_leaves_no_output(
    run_arcsm: RunArcsm, samples: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.h5"
    bad.write_bytes(samples.read_bytes()[:-100])
    before = sorted(tmp_path.iterdir())
    assert run_arcsm("merge", samples, bad, "-o", "all.h5").returncode == 65
    assert sorted(tmp_path.iterdir()) == before


def test_a_missing_shard_is_code_66(run_arcsm: RunArcsm, samples: Path) -> None:
    assert run_arcsm("merge", samples, "nowhere.h5", "-o", "all.h5").returncode == 66


def test_an_existing_output_is_refused_before_any_input_is_read(
    run_arcsm: RunArcsm, tmp_path: Path
) -> None:
    (tmp_path / "all.h5").write_text("precious")
    done = run_arcsm("merge", "nowhere.h5", "-o", "all.h5")
    assert (done.returncode, done.stderr.count("\n")) == (73, 1)
    assert (tmp_path / "all.h5").read_text() == "precious"


def test_force_replaces_an_input_that_is_also_the_output(
    run_arcsm: RunArcsm, samples: Path
) -> None:
    assert run_arcsm("merge", samples, samples, "-o", samples, "--force").returncode == 0
    assert rows(samples) == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_missing_folder_is_code_73(run_arcsm: RunArcsm, samples: Path) -> None:
    done = run_arcsm("merge", samples, "-o", "nowhere/all.h5")
    assert (done.returncode, done.stderr.count("\n")) == (73, 1)


def test_the_chains_of_all_shards_are_kept_once(
    run_arcsm: RunArcsm, write_samples: WriteSamples
) -> None:
    train = {"command": "train"}
    parts = [write_samples(f"{i}.h5", chain=[train, {"command": f"sample{i}"}]) for i in (1, 2)]
    run_arcsm("merge", *parts, "-o", "all.h5")
    chain = json.loads(run_arcsm("info", "all.h5", "--json").stdout)["provenance"]
    assert [entry["command"] for entry in chain] == ["train", "sample1", "sample2", "merge"]
    assert list(chain[-1]["inputs"]) == [str(part) for part in parts]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_shards(
    environment: dict[str, str], program: list[str], tmp_path: Path
) -> None:
    with SampleWriter(tmp_path / "a.h5", (1024,), []) as writer:
        for _ in range(12):
            writer.append(np.zeros((2048, 1024), np.float32))  # 8 MiB each

    def peak(shards: int) -> int:
        """Peak resident memory in MiB of a merge of so many shards."""
        code = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
        )
        command = [*program, "merge", *["a.h5"] * shards, "-o", "all.h5", "--force"]
        done = subprocess.run(
            [sys.executable, "-c", code, *command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            check=True,
        )
        return int(done.stdout)

    assert peak(3) - peak(1) < 32
