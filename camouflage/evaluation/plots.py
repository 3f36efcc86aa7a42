"""Plots of an evaluation, as PNG; they show numbers and names of methods, and no picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COLOURS = ("#1f5fa8", "#b3401f", "#3a7d44", "#7a4fa3", "#8a6d1f", "#555555")
PARTS = {"reidentified": "#b3401f", "compared, and not recognised": "#1f5fa8", "lost": "#c9a227",
         "undetected": "#9a9a9a"}
"""Of everybody who should be seen in an anonymized picture; the last two are no success."""
TICKS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)
_LEAST, _MOST = 0.0005, 0.995
Mean = Mapping[str, Any]
"""As ``Estimate.to_json`` gives it."""


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _figure(title: str, note: str, height: float = 6.4) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    figure.suptitle(title + (f"\n{note}" if note else ""), fontsize=11)
    axes.grid(color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def det(measured: Sequence[Mapping[str, Any]], note: str = "") -> bytes | None:
    """The curves of detection error trade-off of every recogniser on normal-deviate axes: anonymized solid, originals
    dashed; None where there is none."""
    from scipy.stats import norm

    figure, axes = _figure("Does the anonymized face still count as the person?", note, 7.2)
    drawn = False
    for colour, one in zip(COLOURS, measured, strict=False):
        for kind, style, what in (("verification", "-", "anonymized"), ("originals", "--", "originals")):
            if one[kind] is None:
                continue
            drawn = True
            far, frr = (np.clip(one[kind][name], _LEAST, _MOST) for name in ("far", "frr"))
            axes.plot(norm.ppf(far), norm.ppf(frr), style, color=colour, linewidth=1.8,
                      label=f"{one['recogniser']['name']}, {what}: EER {100 * one[kind]['equal_error_rate']:.1f} %")
    if not drawn:
        return None
    ends = norm.ppf(_LEAST), norm.ppf(_MOST)
    axes.plot(ends, norm.ppf([1 - _LEAST, 1 - _MOST]), ":", color="0.5", label="chance")
    ticks = [tick for tick in TICKS if _LEAST <= tick <= _MOST]
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        set_ticks(norm.ppf(ticks), [f"{100 * tick:g} %" for tick in ticks])
    axes.set(xlim=ends, ylim=ends, xlabel="false-accept rate: strangers taken for the person",
             ylabel="false-reject rate: the person not recognised")
    axes.legend(loc="lower left", fontsize=9)
    return _png(figure)


def bars(values: Mapping[str, Mean | Sequence[Mean | None] | None], title: str, label: str, note: str = "",
         chance: float | None = None, line: tuple[float, str] | None = None, parts: Sequence[str] = ()) -> bytes | None:
    """Means with their intervals; None where there is none.

    Args:
        values: by name, a mean, or a mean for each of ``parts``, which says so where it is None. A name is left out
            where it is None itself.
        label: what is measured.
        chance: where chance stands, if given.
        line: another place and what it is, if given.
        parts: what the bars of one name are, if there are several.
    """
    known = {name: value if isinstance(value, Sequence) else [value] for name, value in values.items()
             if value is not None}
    if not any(one is not None for row in known.values() for one in row):
        return None
    each = max(map(len, known.values()))
    figure, axes = _figure(title, note, max(3.0, (0.2 + 0.12 * each) * len(known) * each ** 0.5 + 1.6))
    most, thick = 1.0, 0.76 / each
    for part in range(each):
        rows = [(place + 0.38 - thick * (part + 0.5), row[part]) for place, row in zip(
            range(len(known) - 1, -1, -1), known.values(), strict=True)]
        axes.barh([place for place, _ in rows], [one["value"] if one is not None else 0.0 for _, one in rows],
                  color=_colour(part), height=0.92 * thick, label=parts[part] if parts else None)
        for place, one in rows:
            if one is None or _ends(one)[1] == 0:
                axes.text(0.0, place, " no value" if one is None else " 0", fontsize=8, color=_colour(part),
                          va="center")
            if one is None:
                continue
            axes.plot(_ends(one), [place, place], color="black", linewidth=1.4)
            most = max(most, _ends(one)[1])
    for at, what in ((chance, "chance"), line or (None, "")):
        if at is not None:
            axes.axvline(at, color="0.35", linestyle=":", label=what)
            most = max(most, at)
    axes.set_yticks(range(len(known) - 1, -1, -1), list(known))
    axes.set(xlim=(0, 1.02 * most), ylim=(-0.5, len(known) - 0.5), xlabel=label)
    if (len(parts) > 1) or line or chance is not None:
        figure.legend(fontsize=9, loc="outside lower center", ncols=3)
    return _png(figure)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def curves(values: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]], title: str, across: str, note: str = ""
           ) -> bytes | None:
    """Means over a setting, with their intervals; None where there is none.

    Args:
        values: by name, pairs of a setting and a mean as ``Estimate.to_json`` gives it, in the order of the setting.
        across: what the setting is.
    """
    known = {name: points for name, points in values.items() if points}
    if not known:
        return None
    figure, axes = _figure(title, note, 5.2)
    for number, (name, points) in enumerate(known.items()):
        places, means = [at for at, _ in points], [one["value"] for _, one in points]
        size = 1.6 + 0.9 * (len(known) - 1 - number)  # a curve that covers another one is thinner
        axes.plot(places, means, "o-", color=_colour(number), linewidth=size, markersize=3 + 1.6 * size,
                  label=name.replace("_", " "))
        ends = [_ends(one) for _, one in points]
        axes.fill_between(places, [low for low, _ in ends], [high for _, high in ends], color=_colour(number),
                          alpha=0.15)
    axes.set(xlabel=across, ylabel="mean, and its 95 % interval")
    figure.legend(fontsize=9, loc="outside lower center", ncols=3)
    return _png(figure)


def stacked(shares: Mapping[str, Mapping[str, float]], title: str, note: str = "") -> bytes | None:
    """What became of everybody, one bar for each name, whose parts add up to 1; None where there is nobody."""
    if not shares:
        return None
    figure, axes = _figure(title, note, max(3.0, 0.42 * len(shares) + 1.8))
    places = np.arange(len(shares))[::-1]
    before = np.zeros(len(shares))
    for part, colour in PARTS.items():
        widths = np.array([values.get(part, 0.0) for values in shares.values()])
        axes.barh(places, widths, left=before, color=colour, height=0.7, label=part)
        before += widths
    axes.set_yticks(places, list(shares))
    axes.set(xlim=(0, 1), xlabel="share of the faces of the originals")
    figure.legend(fontsize=9, ncols=4, loc="outside lower center")
    return _png(figure)


_AROUND = [(x * far, y * far) for far in (0.8, 1.5, 2.5, 4.0, 6.0, 9.0) for x, y in (
    (1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))]
"""Where a name may stand from its point, in heights of a line; what is nearest comes first."""


def plane(points: Mapping[str, tuple[Mean, Mean]], title: str, across: str, up: str, note: str = "") -> bytes | None:
    """Two means of each way against each other, with both intervals; None where there is no way.

    Args:
        points: by name, what is plotted across and up.
        across, up: what that is.
    """
    if not points:
        return None
    figure, axes = _figure(title, note, 6.4)
    crosses = [[(end, y["value"]) for end in _ends(x)] + [(x["value"], end) for end in _ends(y)]
               for x, y in points.values()]
    for number, (cross, (x, y)) in enumerate(zip(crosses, points.values(), strict=True)):
        for ends in (cross[:2], cross[2:]):
            axes.plot(*zip(*ends, strict=True), color=_colour(number), linewidth=1.2, alpha=0.6)
        axes.plot([x["value"]], [y["value"]], "o", color=_colour(number), markersize=8, markeredgecolor="white")
    axes.set(xlabel=f"{across}, and its 95 % interval", ylabel=f"{up}, and its 95 % interval")
    axes.margins(0.1)
    _named(figure, axes, {name: (x["value"], y["value"]) for name, (x, y) in points.items()}, crosses)
    return _png(figure)


def _ends(of: Mean) -> tuple[float, float]:
    """Of its interval; the value itself where it has none."""
    return tuple(of.get("interval_95") or (of["value"], of["value"]))


def _named(figure: Any, axes: Any, points: Mapping[str, tuple[float, float]],
           crosses: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Writes names beside points, none over another, over a point, over the lines of a cross or over the axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    inside, line = axes.get_window_extent(), 14.0 * figure.dpi / 100
    places = axes.transData.transform(list(points.values()))
    lines = [axes.transData.transform(ends) for cross in crosses for ends in (cross[:2], cross[2:])]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in places]
    taken += [Bbox.from_extents(*ends[0] - 1, *ends[1] + 1) for ends in lines]
    for number, (name, (x, y)) in enumerate(zip(points, places, strict=True)):
        text = axes.text(*points[name], name, fontsize=9, color=_colour(number))
        size = text.get_window_extent(canvas.get_renderer())
        best = None
        for right, above in _AROUND:
            left = x + line * right - (0 if right > 0 else size.width if right < 0 else size.width / 2)
            box = Bbox.from_bounds(left, y + line * above - size.height / 2, size.width, size.height)
            fits = inside.x0 + 4 < box.x0 and box.x1 < inside.x1 - 4 and inside.y0 + 4 < box.y0 and (
                box.y1 < inside.y1 - 4)
            if fits and not any(box.padded(2).overlaps(other) for other in taken):
                best = box
                break
        text.remove()
        box = best or size
        taken.append(box)
        at = axes.transData.inverted().transform
        axes.annotate(name, points[name], at((box.x0, (box.y0 + box.y1) / 2)), fontsize=9, color=_colour(number),
                      va="center", ha="left", arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6,
                                                          "shrinkA": 0, "shrinkB": 4})
