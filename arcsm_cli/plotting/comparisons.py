"""The figures of the experiments between objectives, with error bars over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from arcsm_cli.comparisons import convergence, cost, orders, two_d, variance
from arcsm_cli.comparisons.tables import Columns, Record, distinct, where
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.plotting.figure import INK, PALETTE, WIDTH, add_grid
from arcsm_cli.plotting.heatmap import PALE
from arcsm_cli.plotting.spread import draw_spread

Tables = Mapping[str, Columns]

_COLORS = (*PALETTE, "#7F7F7F", "#8C564B", "#17BECF")
_MARKS = "osD^vP*XH"


def draw_comparison(figure: Figure, experiment: str, tables: Tables) -> None:
    """Draw the results of an experiment.

    Error bars and bands reach from the least to the greatest over seeds; cost's over iterations
    and seeds from the first quartile to the third.

    Raises:
        DamagedInputError: the experiment is unknown, or the tables are not its own.
    """
    if experiment not in _FIGURES:
        raise DamagedInputError(f"holds the experiment {experiment!r}, which arcsm does not know")
    try:
        _FIGURES[experiment][0](figure, tables)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DamagedInputError(f"its tables are not those of {experiment}: {error!r}") from error


def height_of(experiment: str, tables: Tables) -> float:
    """Return the height of an experiment's figure in inches."""
    if experiment == "two-d" and "figures" in tables and "set" in tables["figures"]:
        panel = WIDTH / (2 * len(distinct(tables["figures"].get("method", np.zeros(1)))))
        return 0.3 + (panel + 0.2) * len(distinct(tables["figures"]["set"]))
    return _FIGURES[experiment][1] if experiment in _FIGURES else 4.0


def _draw_cost(figure: Figure, tables: Tables) -> None:
    table = tables["iterations"]
    left, right = figure.subplots(1, 2)
    for i, method in enumerate(distinct(table["method"])):
        alone = method.endswith("network")
        style = {
            "color": INK if alone else _COLORS[i % len(_COLORS)],
            "linestyle": (":" if method.startswith("csm") else "--") if alone else "-",
            "marker": None if alone else _MARKS[i % len(_MARKS)],
            "linewidth": 1.0 if alone else 1.6,
        }
        slope = cost.exponent(cost.medians(table, method))
        label = f"{method}: $D^{{{slope:.2f}}}$" if np.isfinite(slope) else method
        for axes, key in ((left, "seconds"), (right, "memory")):
            rows = where(table, method=method, stopped="")
            draw_spread(axes, rows, "dims", key, label, style, quartiles=True)
            stopped = [r for r in cost.stops(table) if r["method"] == method]
            found = cost.medians(table, method, key)
            for row in stopped if found else []:
                axes.annotate(
                    f"{method}: {row['limit']} limit\nat D = {float(row['dims']):g}",
                    (max(found), found[max(found)]),
                    xytext=(-7, 0),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    fontsize="x-small",
                )
    for axes in (left, right):
        _scale_by_dims(axes, table, rotation=45)
        axes.margins(y=0.08)
        axes.set_xlabel("D")
    left.set_title("seconds an iteration")
    right.set_title("MiB an iteration needs")
    _share_legend(figure, left, columns=3)


def _draw_variance(figure: Figure, tables: Tables) -> None:
    table = tables["draws"]
    panels = figure.subplots(2, 2, sharex=True)
    texts = {"loss": "variance of loss a dimension", "gradient": "relative variance of gradient"}
    for row, figure_name in zip(panels, texts, strict=True):
        for axes, over in zip(row, ("draws", "batches"), strict=True):
            zero = []
            for i, method in enumerate(distinct(table["method"])):
                found = variance.variances(table, method, over, figure_name)
                if not any(v > 0 for values in found.values() for v in values):
                    zero.append(method)
                    continue
                points: list[Record] = [{"x": d, "y": v} for d, vs in found.items() for v in vs]
                x, y = (np.array([float(p[k]) for p in points]) for k in ("x", "y"))
                look = {"color": _COLORS[i % len(_COLORS)], "marker": _MARKS[i % len(_MARKS)]}
                # csm, which others come close to, is drawn over them.
                style = look | {"zorder": 3 - 0.1 * i}
                draw_spread(axes, {"x": x, "y": y}, "x", "y", method, style)
            name = {"draws": "repeated draws", "batches": "fresh batches"}[over]
            if figure_name == "loss":  # a logarithmic axis has no place for 0
                axes.set_title(f"{name} ({', '.join(zero)}: exactly 0)" if zero else name)
            _scale_by_dims(axes, table, rotation=0)
        row[0].set_ylabel(texts[figure_name])
    for axes in panels[1]:
        axes.set_xlabel("D")
    # csm shows in the right panels alone.
    _share_legend(figure, panels[0, 1])


def _draw_convergence(figure: Figure, tables: Tables) -> None:
    table = tables["curves"]
    sizes = distinct(table["dims"])
    for axes, dims in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        _draw_curves(axes, where(table, dims=dims), "error")
        axes.set_yscale("log")
        for of_axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            of_axis(LogFormatter(minor_thresholds=(2.0, 0.5)))
        axes.set_title(f"gaussian:{dims:g}")
    figure.supylabel("relative squared error of the score", fontsize=10)
    _share_legend(figure, figure.axes[0])


def _draw_likelihood(figure: Figure, tables: Tables) -> None:
    table = tables["curves"]
    axes = figure.add_subplot()
    _draw_curves(axes, table, "nll")
    ends = where(table, step=float(table["step"].max()))["nll"]
    best = float(ends[np.isfinite(ends)].min())
    first = where(table, step=0.0)["nll"]
    worst = float(np.nanmedian(first))
    axes.set_ylim(best - 0.08 * abs(worst - best), worst + 0.1 * abs(worst - best))
    axes.set_ylabel("held-out nats an example")
    _share_legend(figure, axes)


def _draw_orders(figure: Figure, tables: Tables) -> None:
    table = tables["figures"]
    axes = figure.add_subplot()
    rows = orders.shown(dict(tables))["orders"]
    for i, row in enumerate(rows):
        beyond = where(table, order=str(row["order"]))["beyond"]
        axes.plot(beyond, np.full(len(beyond), i), "o", color=PALETTE[0], alpha=0.5)
        place, error = float(row["beyond"]), float(row["error"])
        axes.errorbar(place, i, xerr=error, fmt="|", color=INK, capsize=4, markersize=14)
    axes.set_yticks(range(len(rows)), [f"{r['order']}\n{float(r['nll']):.2f} nats" for r in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.1)
    first = rows[0]["order"]
    axes.set_xlabel(
        f"held-out nats an example above {first}'s, example by example\n"
        "(dots: seeds; bars: standard error of their mean)"
    )
    add_grid(axes)


def _draw_two_d(figure: Figure, tables: Tables) -> None:
    table = tables["figures"]
    sets, methods = distinct(table["set"]), distinct(table["method"])
    panels = figure.subplots(len(sets), 2 * len(methods), squeeze=False)
    rows = {(r["set"], r["method"]): r for r in two_d.shown(tables)["figures"]}  # type: ignore[arg-type]
    for line, name in zip(panels, sets, strict=True):
        for i, method in enumerate(methods):
            density, points = line[2 * i], line[2 * i + 1]
            grid = where(tables["densities"], set=name, method=method)
            side = round(len(grid["x"]) ** 0.5)
            reach = float(np.abs(grid["x"]).max())
            density.imshow(
                np.exp(grid["log p"].clip(max=50.0)).reshape(side, side).T,
                origin="lower",
                extent=(-reach, reach, -reach, reach),
                cmap=PALE,
            )
            drawn = where(tables["samples"], set=name, method=method)
            points.plot(drawn["x"], drawn["y"], ",", color=PALETTE[0], alpha=0.5)
            points.set_xlim(-reach, reach)
            points.set_ylim(-reach, reach)
            points.set_aspect("equal")
            density.set_title(f"{float(rows[name, method]['nll']):.3f} nats", fontsize=7)
            energy = float(rows[name, method]["energy"])
            points.set_title(f"energy {1000 * energy:.2f}e-3", fontsize=7)
            for axes in (density, points):
                axes.set_xticks([])
                axes.set_yticks([])
        line[0].set_ylabel(name, fontsize=8)
    for i, method in enumerate(methods):
        weights = float(rows[sets[0], method]["weights"])
        panels[-1, 2 * i].set_xlabel(f"{method}, {weights:,.0f} weights", fontsize=8, loc="left")


def _draw_curves(axes: Axes, table: Columns, key: str) -> None:
    for i, method in enumerate(distinct(table["method"])):
        objective = method.removesuffix(convergence.ON_AR_CSM)
        same = distinct(table["method"]).index(objective) if objective != method else i
        style = {"color": _COLORS[same % len(_COLORS)]}
        if method.startswith("dsm"):
            style["linestyle"] = "--"
        if objective != method:
            style["linestyle"] = ":"
        draw_spread(axes, where(table, method=method), "step", key, method, style, band=True)
    axes.set_xlabel("step")
    add_grid(axes)


def _scale_by_dims(axes: Axes, table: Columns, *, rotation: float) -> None:
    """Make both axes logarithmic, with a tick at each number of dimensions, and add a grid."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    dims = sorted(set(table["dims"].tolist()))
    axes.set_xticks(dims, [f"{d:g}" for d in dims], rotation=rotation)
    axes.set_xticks([], minor=True)
    add_grid(axes)


def _share_legend(figure: Figure, axes: Axes, *, columns: int = 4) -> None:
    """Put the legend of one of its panels below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small")


_FIGURES: dict[str, tuple[Callable[[Figure, Tables], None], float]] = {
    "cost": (_draw_cost, 3.8),
    "variance": (_draw_variance, 5.6),
    "convergence": (_draw_convergence, 4.2),
    "likelihood": (_draw_likelihood, 4.2),
    "two-d": (_draw_two_d, 7.0),
    "orders": (_draw_orders, 3.0),
}
