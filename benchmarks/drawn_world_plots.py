"""Plots of benchmarks.drawn_world, each of which says what it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

SHOWN = 8  # persons in the pictures


def plot(results: Mapping[str, Any], folder: Path, pictures: Mapping[str, torch.Tensor],
         pairs: Mapping[str, torch.Tensor], says: str) -> None:
    """Writes plots (scale, variants, attributes, separation) and pictures (pictures, pairs), each as NAME.png.

    Args:
        results: as in results.json.
        pictures, pairs: cells B x 3 x h x w by what they show, one row of pictures each.
        says: stands below everything.
    """
    plt = _pyplot()
    for name, figure in (("scale", _scale(plt, results)), ("variants", _variants(plt, results)),
                         ("attributes", _attributes(plt, results)), ("separation", _separation(plt, results)),
                         ("pictures", _rows(plt, pictures)), ("pairs", _rows(plt, pairs))):
        _save(plt, figure, folder / f"{name}.png", says)


def plot_losses(losses: Mapping[str, Sequence[float]], steps: int, file: Path, says: str) -> None:
    """Writes how the training of every part went.

    Args:
        losses: by part, means over so many ``steps`` each.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for part, values in losses.items():
        axes.plot([steps * (number + 1) for number in range(len(values))], values, lw=1, label=part)
    axes.set(xlabel="step", ylabel="mean squared error of v", yscale="log", title="Training of the family")
    axes.legend(fontsize=8)
    _save(plt, figure, file, says)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(plt: Any, figure: Any, file: Path, says: str) -> None:
    figure.text(0.5, 0.01, says, ha="center", va="bottom", fontsize=9, style="italic")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(figure)


def _errors(entries: list[Mapping[str, Any]]) -> tuple[list[float], list[list[float]]]:
    values = [entry["value"] for entry in entries]
    ends = [entry["interval_95"] or [entry["value"]] * 2 for entry in entries]
    return values, [[max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)],
                    [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)]]


def _scale(plt: Any, results: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(7, 4.5))
    base = [row for row in results["rows"] if row["method"] == "base"]
    scales = [row["scale"] for row in base]
    for key, name in (("rank_1", "rank-1 of the person"), ("attributes_as_original", "attributes as in the original"),
                      ("faces_there", "faces still there")):
        values, errors = _errors([row[key] for row in base])
        axes.errorbar(scales, values, errors, marker="o", capsize=3, label=f"Base: {name}")
    light = next(row for row in results["rows"] if row["method"] == "light")
    axes.axhline(light["rank_1"]["value"], color="tab:blue", ls="--", lw=1, label="Light: rank-1 of the person")
    axes.axhline(light["attributes_as_original"]["value"], color="tab:orange", ls="--", lw=1,
                 label="Light: attributes as in the original")
    axes.axhline(base[0]["chance_rank_1"], color="grey", ls=":", label=f"chance of rank-1 ({results['people']} people)")
    axes.set(xlabel="anonymization scale a_s", ylabel="share, with 95 % interval", ylim=(0, 1.02),
             title="Re-identification and attributes over a_s")
    axes.legend(fontsize=7)
    return figure


def _variants(plt: Any, results: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(7, 4.5))
    rows = results["variants"]
    shown = (("rank_1", "rank-1 of the person"), ("faces_there", "faces still there"),
             ("outlines_kept", "outlines outside of the heads (correlation)"))
    for number, (key, name) in enumerate(shown):
        values, errors = _errors([row[key] for row in rows])
        axes.barh([place + 0.27 * (1 - number) for place in range(len(rows))], values, 0.27, xerr=errors, capsize=2,
                  label=name)
    axes.axvline(rows[0]["chance_rank_1"], color="grey", ls=":", label="chance of rank-1")
    axes.axvline(results["outlines_of_other_persons"], color="tab:green", ls=":",
                 label="outlines of drawings of other persons in the same scenes")
    axes.set(yticks=range(len(rows)), yticklabels=[row["variant"] for row in rows], xlim=(0, 1.02),
             xlabel="share or correlation, with 95 % interval",
             title="Base at a_s = 1.25: without scene controls, and fast")
    axes.invert_yaxis()
    axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.4, -0.14))
    return figure


def _attributes(plt: Any, results: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(7, 4.5))
    light, drawings = results["light"]["balanced_accuracy"], results["judges"]["balanced_accuracy"]
    names = [name for name, value in light.items() if value is not None]
    place = range(len(names))
    axes.barh([i + 0.2 for i in place], [drawings.get(name, 0) for name in names], 0.4, label="reader on drawings",
              color="lightgrey")
    axes.barh([i - 0.2 for i in place], [light[name] for name in names], 0.4, label="reader on Light's pictures")
    axes.axvline(0.5, color="grey", ls=":", label="chance")
    axes.set(yticks=list(place), yticklabels=names, xlim=(0, 1), xlabel="balanced accuracy",
             title="Attributes of the map, read from Light's pictures")
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.4, -0.14))
    return figure


def _separation(plt: Any, results: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(6, 4))
    found = results["separation"]
    for offset, side in ((-0.2, "left"), (0.2, "right")):
        values, errors = _errors([found[edited][side] for edited in ("left_edited", "right_edited")])
        axes.bar([0 + offset, 1 + offset], values, 0.4, yerr=errors, capsize=3, label=f"read from the {side} face")
    axes.set(xticks=[0, 1], xticklabels=["left person edited", "right person edited"],
             ylabel="mean change of the edited attributes' readings", title="Separation of two persons")
    axes.legend(fontsize=8)
    return figure


def _rows(plt: Any, rows: Mapping[str, torch.Tensor]) -> Any:
    figure, axes = plt.subplots(len(rows), 1, figsize=(9, 1.25 * len(rows)))
    for axis, (name, cells) in zip(axes, rows.items(), strict=True):
        count = SHOWN * 16 // cells.shape[-1]
        axis.imshow(torch.cat(list(cells[:count].clamp(0, 1)), -1).movedim(0, -1).numpy(), interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure
