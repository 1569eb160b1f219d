"""``arcsm ood-score``, and ``eval`` and ``plot`` of what it writes, as real programs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from arcsm_cli.io.samples import SampleFile, SampleWriter
from tests.cli.preloaded import VECTORS

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]
Score = Callable[..., dict[str, Any]]
SMALL = ("--reference-limit", 50)


@pytest.fixture
def model(vector_model: Path, tmp_path: Path) -> Path:
    """A model of ``gaussian:2`` in a folder of its own, where nothing is kept yet."""
    return Path(shutil.copy(vector_model, tmp_path / "m.safetensors"))


@pytest.fixture
def score(call: Call) -> Score:
    """What ``arcsm ood-score --json`` says."""

    def score(*arguments: object, **options: Any) -> dict[str, Any]:
        done = call("ood-score", *arguments, "--json", **options)
        assert (done.code, done.err) == (0, "")
        return done.json

    return score


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """Two variables, far from everything."""
    np.save(tmp_path / "far.npy", np.random.default_rng(0).normal(50, 1, (40, 2)))
    return tmp_path / "far.npy"


def test_other_data_are_told_from_the_training_data(score: Score, model: Path, far: Path) -> None:
    found = score(model, "gaussian:2", "--against", far, "--against", "rings", "--limit", 40)
    metrics = found["metrics"]
    assert metrics[f"auroc/multiscale/{far}"] == 1
    assert metrics[f"fpr95/multiscale/{far}"] == 0
    assert 0 < metrics["auroc/multiscale/rings"] < 1
    both = (1 + metrics["auroc/multiscale/rings"]) / 2
    assert metrics["auroc_mean/multiscale"] == pytest.approx(both)
    ends = (metrics[f"auroc_{end}/multiscale/rings"] for end in ("low", "high"))
    low, high = ends
    assert low < metrics["auroc/multiscale/rings"] < high
    assert found["against"] == [{"name": n, "examples": 40} for n in (str(far), "rings")]
    assert found["reference"] == {"data": "gaussian:2:train", "examples": 1000}
    assert found["statistics"][0]["inside"] == "lower"


def test_the_table_has_a_row_for_each_statistic_and_set(call: Call, model: Path, far: Path) -> None:
    done = call(
        "ood-score", model, "gaussian:2", "--against", far, "--against", "rings",
        *("--statistic", "csm,typicality", "--limit", 9, *SMALL),
    )  # fmt: skip
    lines = [line.split() for line in done.out.decode().splitlines()]
    start = lines.index(["separation"])
    assert lines[start + 1] == ["statistic", "against", "auroc", "low", "high", "aupr", "fpr95"]
    assert [line[:2] for line in lines[start + 2 :]] == [
        [s, a] for s in ("csm", "typicality") for a in ("far.npy", "rings")
    ] + [["csm", "(mean)"], ["typicality", "(mean)"]]


def test_the_figures_are_those_of_scikit_learn_on_the_written_scores(
    score: Score, call: Call, model: Path, tmp_path: Path
) -> None:
    from sklearn.metrics import roc_auc_score

    options = ("--limit", 50, "--statistic", "score-sum,score-norm", "--seed", 3)
    for data, name in (("gaussian:2", "in.h5"), ("rings", "out.h5")):
        assert call("ood-score", model, data, *options, "-o", name).code == 0
    found = score(model, "gaussian:2", "--against", "rings", *options)["metrics"]
    with SampleFile(tmp_path / "in.h5") as inside, SampleFile(tmp_path / "out.h5") as outside:
        for name, sign in (("score-sum", 1), ("score-norm", -1)):
            values = [file.read(0, 50, f"statistics/{name}") for file in (inside, outside)]
            area = roc_auc_score(np.repeat([1, 0], 50), sign * np.concatenate(values))
            assert found[f"auroc/{name}/rings"] == pytest.approx(area)


def test_eval_of_written_scores_gives_the_same_figures(
    score: Score, call: Call, model: Path
) -> None:
    options = ("--limit", 50, "--statistic", "multiscale,csm-typicality,nll", *SMALL)
    for data, name in (("gaussian:2", "in.h5"), ("rings", "out.h5")):
        done = call("ood-score", model, data, *options, "-o", name)
        assert (done.code, done.out, done.err) == (0, b"", "")
    direct = score(model, "gaussian:2", "--against", "rings", *options)["metrics"]
    done = call("eval", "in.h5", "--against", "out.h5", "--metric", "auroc", "--json")
    stored = {key.replace("out.h5", "rings"): v for key, v in done.json["metrics"].items()}
    assert stored == pytest.approx(direct, rel=1e-5)
    table = call("eval", "in.h5", "--against", "out.h5", "--metric", "auroc").out.decode()
    assert "nll             out.h5" in table


def test_written_scores_hold_the_examples_as_evaluated_and_their_history(
    call: Call, model: Path, tmp_path: Path
) -> None:
    options = ("--limit", 20, "--seed", 4)
    call("ood-score", model, "gaussian:2", *options, *SMALL, "-o", "scores.h5")
    call("eval", model, "gaussian:2", *options, "--metric", "csm", "-o", "eval.h5")
    with SampleFile(tmp_path / "scores.h5") as ours, SampleFile(tmp_path / "eval.h5") as theirs:
        assert (ours.read(0, 20) == theirs.read(0, 20)).all()
        assert ours.names == ["samples", "statistics/multiscale"]
        assert [step["command"] for step in ours.provenance] == ["train", "ood-score"]
        assert set(ours.provenance[-1]["inputs"]) == {str(model), "gaussian:2:train", "gaussian:2:test"}  # fmt: skip  # noqa: E501
    again = call("ood-score", model, "eval.h5", "--no-perturb", "-o", "again.h5")
    assert again.code == 0
    with SampleFile(tmp_path / "scores.h5") as ours, SampleFile(tmp_path / "again.h5") as again_:
        name = "statistics/multiscale"
        assert ours.read(0, 20, name) == pytest.approx(again_.read(0, 20, name), rel=1e-3, abs=1e-2)


def test_what_training_data_are_like_is_kept_beside_the_model_and_used_again(
    score: Score, call: Call, model: Path, tmp_path: Path
) -> None:
    options = ("gaussian:2", "--limit", 5, "--statistic", "multiscale,csm-typicality")
    kept = tmp_path / "m.safetensors.reference"
    first = score(model, *options, *SMALL)
    written = kept.read_bytes()
    assert score(model, *options) == first
    assert kept.read_bytes() == written
    shutil.copy(call_trained(call, tmp_path), model)  # another model under the same name
    other = score(model, *options)
    assert other["statistics"] != first["statistics"]
    assert kept.read_bytes() != written


def call_trained(call: Call, folder: Path) -> Path:
    done = call("train", *VECTORS, "--hidden", 8, "--steps", 3, "-o", "other.safetensors")
    assert done.code == 0
    return folder / "other.safetensors"


def test_a_damaged_reference_is_refused_in_a_line_that_names_it(
    call: Call, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.safetensors.reference").write_bytes(b"notes of mine")
    done = call("ood-score", model, "gaussian:2", "--limit", 5)
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert "m.safetensors.reference" in done.err
    assert (tmp_path / "m.safetensors.reference").read_bytes() == b"notes of mine"


def test_statistics_of_an_example_alone_need_no_training_data(
    score: Score, model: Path, tmp_path: Path
) -> None:
    found = score(model, "rings", "--limit", 5, "--statistic", "csm")
    assert "reference" not in found
    assert list(tmp_path.iterdir()) == [model]


def test_reference_data_may_be_named(score: Score, model: Path) -> None:
    found = score(model, "gaussian:2", "--limit", 5, "--reference", "rings", *SMALL)
    assert found["reference"] == {"data": "rings:train", "examples": 50}


def test_scores_join_by_a_pipe(pipeline: Callable[..., list["Done"]], model: Path) -> None:
    scoring = ("ood-score", model, "gaussian:2", "--limit", 9, "--reference-limit", 20, "-o", "-")
    dones = pipeline(scoring, ("info", "-", "--json"))
    assert [(done.code, done.err) for done in dones] == [(0, "")] * 2
    assert dones[-1].json["datasets"]["statistics/multiscale"] == [9]


def test_the_seed_is_that_of_noise_and_bootstrap(score: Score, model: Path) -> None:
    options = (model, "gaussian:2", "--against", "rings", "--limit", 15, "--statistic", "csm")
    first, same, other = (score(*options, "--seed", seed)["metrics"] for seed in (1, 1, 2))
    assert first == same
    assert first["mean/csm"] != other["mean/csm"]


def test_models_trained_by_likelihood_have_the_likelihood_alone(
    call: Call, score: Score, far: Path, tmp_path: Path
) -> None:
    arguments = ("--objective", "mle", "--hidden", 8, "--steps", 5, "-o", "mle.safetensors")
    assert call("train", *VECTORS, *arguments).code == 0
    found = score("mle.safetensors", "gaussian:2", "--against", far, "--limit", 20)
    assert found["metrics"][f"auroc/nll-typicality/{far}"] == 1
    done = call("ood-score", "mle.safetensors", "gaussian:2", "--statistic", "csm")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--statistic csm" in done.err


def test_references_take_the_shape_of_the_model(score: Score, digits_model: Path) -> None:
    found = score(
        digits_model, "digits", "--against", "uniform", "--limit", 10, "--statistic", "csm",
        "--bootstrap", 0,
    )  # fmt: skip
    assert found["metrics"]["auroc/csm/uniform"] > 0.9
    assert found["metrics"]["auroc_low/csm/uniform"] is None


REFUSED = {
    "unknown statistic": (2, "MODEL gaussian:2 --statistic energy", "--statistic energy"),
    "reference without need": (2, "MODEL gaussian:2 --statistic csm --reference rings", "--refer"),
    "bootstrap without sets": (2, "MODEL gaussian:2 --bootstrap 5", "--bootstrap"),
    "stdin twice": (2, "- -", "standard input"),
    "stdin twice in sets": (2, "MODEL - --against -", "standard input"),
    "no room on stdout": (2, "MODEL gaussian:2 -o - --against rings", "-o FILE"),
    "no room for json": (2, "MODEL gaussian:2 -o - --json", "-o FILE"),
    "no examples": (2, "MODEL gaussian:2 --limit 0", "--limit"),
    "no such split": (2, "MODEL gaussian:2:none", "none"),
    "other shape": (65, "MODEL digits", "digits"),
    "other shape against": (65, "MODEL gaussian:2 --against digits", "digits"),
    "no model": (65, "samples.h5 gaussian:2", "samples.h5"),
    "missing model": (66, "none.safetensors gaussian:2", "none.safetensors"),
    "missing data": (66, "MODEL none.h5", "none.h5"),
    "missing set": (66, "MODEL gaussian:2 --against none.h5", "none.h5"),
    "existing output": (73, "MODEL gaussian:2 -o samples.h5", "samples.h5"),
}


@pytest.mark.parametrize(("code", "line", "named"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_a_line_that_names_it(
    code: int, line: str, named: str, call: Call, model: Path, samples: Path, tmp_path: Path
) -> None:
    done = call("ood-score", *(str(model) if word == "MODEL" else word for word in line.split()))
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
    assert named in done.err
    assert sorted(tmp_path.iterdir()) == sorted([model, samples])


def test_a_model_without_provenance_asks_for_the_reference(
    call: Call, model: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    from arcsm_cli.io.checkpoint import load_checkpoint, save_checkpoint

    save_checkpoint(tmp_path / "bare.safetensors", replace(load_checkpoint(model), provenance=[]))
    done = call("ood-score", "bare.safetensors", "gaussian:2")
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert "--reference DATA" in done.err


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (2, "eval scores.h5 --metric auroc"),
        (2, "eval scores.h5 --against scores.h5 --metric auroc,moments"),
        (65, "eval scores.h5 --against plain.h5 --metric auroc"),
        (65, "eval plain.h5 --against scores.h5 --metric auroc"),
        (65, "eval scores.h5 --against other.h5 --metric auroc"),
        (66, "eval scores.h5 --against none.h5 --metric auroc"),
        (65, "plot scores.h5 --against plain.h5"),
        (66, "plot scores.h5 --against none.h5"),
        (2, "plot scores.h5 --against other.h5 --columns 3"),
        (2, "plot scores.h5" + " --against scores.h5" * 9),
        (2, "plot m.safetensors --against scores.h5"),
        (2, "plot - --against - -o x.png"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused_in_a_line(
    code: int, line: str, call: Call, model: Path, tmp_path: Path
) -> None:
    for name, statistics in (("scores", {"csm"}), ("other", {"nll", "bpd"}), ("plain", set())):
        with SampleWriter(tmp_path / f"{name}.h5", (2,), []) as writer:
            writer.append(np.ones((5, 2)), statistics={key: np.arange(5.0) for key in statistics})
    done = call(*line.split())
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.slow
def test_scores_are_drawn_against_others(call: Call, model: Path, tmp_path: Path) -> None:
    few = ("--limit", 50, "--statistic", "csm,typicality", *SMALL)
    for data, name in (("gaussian:2", "in.h5"), ("rings", "out.h5")):
        call("ood-score", model, data, *few, "-o", name)
    named = call("plot", "in.h5", "--against", "out.h5", "-o", "-")
    piped = call("plot", "in.h5", "--against", "-", "-o", "-", stdin=tmp_path / "out.h5")
    for done in (named, piped):
        assert (done.code, done.out[:4], done.err) == (0, b"\x89PNG", "")


def test_p_values_are_written_and_their_rates_told(
    score: Score, call: Call, model: Path, far: Path, tmp_path: Path
) -> None:
    given = ("gaussian:2", "--against", far, "--limit", 40, *SMALL, "--statistic", "nearest,csm")
    levels = ("--alpha", 0.05, "--calibration", "gaussian:2:valid")
    found = score(model, *given, *levels, "-o", "flags.h5")
    assert found["calibration"] == {"data": "gaussian:2:valid", "examples": 40, "alpha": 0.05}
    with SampleFile(tmp_path / "flags.h5") as flags:
        p = flags.read(0, 40, "statistics/nearest-p")
    assert p.min() >= 1 / 41 - 1e-6
    assert found["metrics"]["flagged/nearest"] == pytest.approx((p <= 0.05).mean())
    assert found["metrics"][f"flagged/nearest/{far}"] == 1
    for wrong in (levels[:2], levels[2:], ("--alpha", 0.05, "--calibration", "gaussian:2:test")):
        assert call("ood-score", model, *given, *wrong).code == 2
    assert "takes 99 for" in call("ood-score", model, *given, "--alpha", 0.01, *levels[2:]).err
