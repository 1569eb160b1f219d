"""``arcsm info``: every kind of file, by content, and what it refuses."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunArcsm = Callable[..., "subprocess.CompletedProcess[Any]"]


@pytest.fixture
def info(run_arcsm: RunArcsm) -> Callable[..., dict[str, Any]]:
    """What ``arcsm info --json`` says."""

    def info(*arguments: object, **options: Any) -> dict[str, Any]:
        done = run_arcsm("info", *arguments, "--json", **options)
        assert (done.returncode, done.stderr) == (0, "" if options.get("text", True) else b"")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return info


def test_samples_are_counted_and_measured(
    info: Callable[..., dict[str, Any]], write_samples: Callable[..., Path]
) -> None:
    found = info(write_samples("s.h5", 5, (1, 2, 3)))
    assert found["format"] == "arcsm-samples"
    assert found["metrics"] == {"samples": 5, "dimensions": 6}
    assert found["datasets"] == {"samples": [5, 1, 2, 3], "labels": [5], "statistics/nll": [5]}


def test_a_checkpoint_tells_its_model_settings_and_training(
    info: Callable[..., dict[str, Any]], checkpoint: Path
) -> None:
    found = info(checkpoint)
    assert (found["format"], found["kind"]) == ("arcsm-checkpoint", "ar-csm")
    assert found["metrics"]["parameters"] == 12
    assert found["config"] == {"context": "made", "shape": [2]}
    assert found["training"] == {"step": 7, "epoch": 1}
    assert found["shapes"] == {"net.mask": [3, 4], "net.weight": [3, 4]}


def test_a_resume_file_tells_where_it_stands(
    info: Callable[..., dict[str, Any]], checkpoint: Path
) -> None:
    found = info(f"{checkpoint}.resume")
    assert found["format"] == "arcsm-resume"
    assert found["state"] == {"step": 7}


def test_the_provenance_is_shown_oldest_first(
    info: Callable[..., dict[str, Any]], run_arcsm: RunArcsm, write_samples: Callable[..., Path]
) -> None:
    chain = [{"command": "train", "seed": 1}, {"command": "sample", "seed": 2}]
    run_arcsm("merge", write_samples("a.h5", chain=chain), "-o", "all.h5")
    found = info("all.h5")
    assert [entry["command"] for entry in found["provenance"]] == ["train", "sample", "merge"]


def test_the_table_tells_what_the_json_does(run_arcsm: RunArcsm, checkpoint: Path) -> None:
    words = run_arcsm("info", checkpoint).stdout.split()
    assert {"arcsm-checkpoint", "parameters", "12", "made", "train", "rings"} <= set(words)


def test_a_training_curve_is_summed_up_in_the_table_and_whole_in_the_json(
    info: Callable[..., dict[str, Any]], run_arcsm: RunArcsm, tmp_path: Path
) -> None:
    from arcsm_cli.io.checkpoint import save_resume

    curve = [float(step) for step in range(100)]
    save_resume(tmp_path / "m.resume", {}, {"losses": curve})
    assert info("m.resume")["state"]["losses"] == curve
    assert "100 values, 0 ... 99" in run_arcsm("info", "m.resume").stdout


def test_standard_input_is_taken_by_its_content(
    info: Callable[..., dict[str, Any]], samples: Path, checkpoint: Path
) -> None:
    with samples.open("rb") as one, checkpoint.open("rb") as other:
        formats = [info("-", stdin=stream)["format"] for stream in (one, other)]
    assert formats == ["arcsm-samples", "arcsm-checkpoint"]


def test_the_name_plays_no_part(
    info: Callable[..., dict[str, Any]], samples: Path, tmp_path: Path
) -> None:
    shutil.copy(samples, tmp_path / "model.safetensors")
    assert info("model.safetensors")["format"] == "arcsm-samples"


def broken(kind: str, folder: Path, samples: Path, checkpoint: Path) -> Path:
    """A file that is no checkpoint and no samples, in one of many ways."""
    path = folder / f"{kind}.bin"
    content = {
        "empty": b"",
        "text": b"hello, world\n",
        "pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.",
        "zip": b"PK\x03\x04" + bytes(64),
        "truncated samples": samples.read_bytes()[:-100],
        "truncated checkpoint": checkpoint.read_bytes()[:-1],
        "gigantic header": (1 << 60).to_bytes(8, "little") + b"{",
        "garbage": b"\x89HDF\r\n\x1a\n" + bytes(100),
    }[kind]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "text",
        "pickle",
        "zip",
        "truncated samples",
        "truncated checkpoint",
        "gigantic header",
        "garbage",
    ],
)
def test_what_is_neither_is_refused_in_one_line_that_names_it(
    kind: str, run_arcsm: RunArcsm, tmp_path: Path, samples: Path, checkpoint: Path
) -> None:
    path = broken(kind, tmp_path, samples, checkpoint)
    done = run_arcsm("info", path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (65, "", 1)
    assert str(path) in done.stderr


def test_a_nan_hidden_in_a_file_is_found(run_arcsm: RunArcsm, samples: Path) -> None:
    import h5py

    with h5py.File(samples, "a") as file:
        file["samples"][-1] = float("nan")
    assert run_arcsm("info", samples).returncode == 65


def test_a_missing_file_is_code_66(run_arcsm: RunArcsm) -> None:
    done = run_arcsm("info", "nowhere.h5")
    assert (done.returncode, done.stderr) == (66, "arcsm info: nowhere.h5: no such file\n")


def test_a_folder_is_code_65(run_arcsm: RunArcsm, tmp_path: Path) -> None:
    assert run_arcsm("info", tmp_path).returncode == 65
