"""Plots of an evaluation, as PNG; they show numbers and names of methods, and no picture."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COLOURS = ("#1f5fa8", "#b3401f", "#3a7d44", "#7a4fa3", "#8a6d1f", "#555555")
PARTS = {"reidentified": "#b3401f", "compared, and not recognised": "#1f5fa8", "lost": "#c9a227",
         "undetected": "#9a9a9a"}
"""Of everybody who should be seen in an anonymized picture; the last two are no success."""
TICKS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)
_LEAST, _MOST = 0.0005, 0.995


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _figure(title: str, note: str, height: float = 6.4) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title + (f"\n{note}" if note else ""), fontsize=11)
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


def bars(values: Mapping[str, Mapping[str, Any] | None], title: str, label: str, note: str = "",
         chance: float | None = None) -> bytes | None:
    """Means with their intervals, one bar each; None where there is none.

    Args:
        values: by name, as ``Estimate.to_json`` gives them; those that are None are left out.
        chance: a line, if given.
    """
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return None
    figure, axes = _figure(title, note, max(3.0, 0.32 * len(known) + 1.6))
    places = np.arange(len(known))[::-1]
    means = np.array([value["value"] for value in known.values()])
    axes.barh(places, means, color=COLOURS[0], height=0.7)
    for place, value in zip(places, known.values(), strict=True):
        if value.get("interval_95"):
            low, high = value["interval_95"]
            axes.plot([low, high], [place, place], color="black", linewidth=1.4)
    if chance is not None:
        axes.axvline(chance, color="0.4", linestyle=":", label="chance")
        axes.legend(fontsize=9)
    axes.set_yticks(places, list(known))
    axes.set(xlim=(0, max(1.0, float(means.max()))), xlabel=label)
    return _png(figure)


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
    for colour, (name, points) in zip(itertools.cycle(COLOURS), known.items()):
        places, means = [at for at, _ in points], [one["value"] for _, one in points]
        axes.plot(places, means, "o-", color=colour, linewidth=1.8, markersize=5, label=name.replace("_", " "))
        ends = [one.get("interval_95") or (one["value"], one["value"]) for _, one in points]
        axes.fill_between(places, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.15)
    axes.set(xlabel=across, ylabel="mean, and its 95 % interval")
    axes.legend(fontsize=9)
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
    axes.legend(fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16 - 0.6 / len(shares)))
    return _png(figure)
