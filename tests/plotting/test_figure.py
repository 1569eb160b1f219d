"""The look of figures and the bytes of their files."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from arcsm_cli.errors import UsageError
from arcsm_cli.plotting.figure import figure_format, title, write_figure


def draw(figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1])
    title(axes, "a line")


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_equal_figures_give_equal_bytes(kind: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_figure(draw, tmp_path / name, kind)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_no_figure_tells_when_or_by_what_it_was_written(kind: str, tmp_path: Path) -> None:
    write_figure(draw, tmp_path / "figure", kind)
    content = (tmp_path / "figure").read_bytes()
    assert not any(word in content for word in (b"Date", b"<dc:date", b"Creator", b"Software"))


def test_settings_of_the_user_do_not_matter(tmp_path: Path) -> None:
    write_figure(draw, tmp_path / "a", "png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        write_figure(draw, tmp_path / "b", "png")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_settings_of_the_user_are_left_as_they_were(tmp_path: Path) -> None:
    with mpl.rc_context({"font.size": 30}):
        write_figure(draw, tmp_path / "figure", "png")
        assert mpl.rcParams["font.size"] == 30


def test_a_figure_is_900_pixels_wide(tmp_path: Path) -> None:
    write_figure(draw, tmp_path / "figure", "png", height=2)
    with Image.open(tmp_path / "figure") as image:
        assert image.size == (900, 300)


@pytest.mark.slow
def test_the_colours_of_a_large_file_are_reduced(tmp_path: Path) -> None:
    def draw_noise(figure: Figure) -> None:
        figure.add_subplot().imshow(np.random.default_rng(0).random((300, 450)))

    write_figure(draw_noise, tmp_path / "figure", "png")
    with Image.open(tmp_path / "figure") as image:
        assert image.mode == "P"


@pytest.mark.parametrize(
    ("name", "kind"), [("-", "png"), ("a.PNG", "png"), ("b/c.pdf", "pdf"), ("d.x.svg", "svg")]
)
def test_the_ending_decides_the_format(name: str, kind: str) -> None:
    assert figure_format(name) == kind


@pytest.mark.parametrize("name", ["", "png", "a", "a.jpg", "a.png.gz", ".png"])
def test_another_ending_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.pdf or \.svg"):
        figure_format(name)
