"""The ways of an experiment side by side: results, report and plots as files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..verification.recognition import ADVICE
from . import page, plots
from .experiments import Experiment, breaking_point, called, fates, value_at

FORMAT, VERSION = "camouflage-experiment", 1
BEFORE = ("rank_1", "reidentified", "protected", "distance", "lost", "undetected", "quality.ssim_outside_heads")
AFTER = ("rank_1", "reidentified", "undetected", "left", "quality.ssim_outside_heads")
"""Columns of the table: before any policy, and after it."""
MINIATURE = "Untrained miniature networks: it shows that everything runs, and nothing else."
_WIDE = """.wide{overflow-x:auto;font-size:.72rem;line-height:1.3}
.wide td,.wide th{overflow-wrap:normal;padding:.35rem .3rem}"""
MEAN = "mean, and its 95 % interval"
FATES, MOVED = "What became of everybody", "How far the others moved"

Values = Mapping[str, Any]
"""A mean as ``Estimate.to_json`` gives it."""


@dataclass(frozen=True)
class Way:
    """What was measured of one way.

    Attributes:
        before: results before any policy.
        after: after it, with ``left``: the share of the painted pictures that may leave.
        fates: how many pictures have which fate of ``treated.FATES``.
        separation: of :func:`.separated.separated`; empty where it was not measured.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    fates: Mapping[str, int]
    separation: Mapping[str, Values] = field(default_factory=dict)


def files_of(experiment: Experiment, protocol: str, found: Mapping[str, Way], miniature: bool) -> dict[str, bytes]:
    """Results, report and plots by name.

    Args:
        experiment: that was run.
        protocol: by which it was evaluated.
        found: what was measured, by the name of the way.
        miniature: whether untrained networks painted.
    """
    plotted = dict(plots_of(experiment, found, MINIATURE if miniature else ""))
    drawn = {title: data for title, data in plotted.items() if data is not None}
    without = [title for title in plotted if title not in drawn]
    breaks = breaking_point(experiment, {name: way.before for name, way in found.items()})
    parts = [f"<h1>{page.text(experiment.title)}</h1>", *(f"<p>{page.text(line)}</p>" for line in (
        experiment.question, experiment.shows, MINIATURE if miniature else "", breaks and _broken(breaks)) if line),
        _table(found), "<p>Before any policy nothing was verified. No picture is in the output. Intervals hold 95 %, "
        "and take at least 6 persons.</p>", *_separations(found), *_guessed(found),
        *(page.figure(title, data) for title, data in drawn.items()),
        page.text(f"Not plotted, since nothing of it has a value: {', '.join(without)}.") if without else ""]
    content = {"format": FORMAT, "version": VERSION, "title": experiment.title, "miniature": miniature,
               "axis": experiment.axis, "protocol": protocol, "breaking_point": breaks,
               "arms": [{"name": arm.name, "workflow": arm.workflow, "settings": dict(arm.settings),
                         "occlude": arm.occlude, "at": arm.at, "results": found[arm.name].before,
                         "after_policy": {"results": found[arm.name].after, **found[arm.name].fates},
                         "separation": found[arm.name].separation} for arm in experiment.arms]}
    return {"results.json": (json.dumps(content, indent=1, allow_nan=False) + "\n").encode(),
            "report.html": page.document(experiment.title, parts).encode(),
            **{f"{slug(title)}.png": data for title, data in drawn.items()}}


def plots_of(experiment: Experiment, found: Mapping[str, Way], note: str) -> Iterator[tuple[str, bytes | None]]:
    """Plots by their titles; None for one that has nothing to show."""
    yield FATES, plots.stacked({name: became for name, way in found.items() if (became := fates(way.before))}, FATES,
                               note)
    if any(way.separation for way in found.values()):
        moved = {name: way.separation for name, way in found.items() if way.separation}
        yield MOVED, plots.bars({name: [value if value["value"] is not None else None for value in readings.values()]
                                 for name, readings in moved.items()}, MOVED,
                                "the others' movement / the changed person's", note,
                                line=(1.0, "as far as the one"), parts=list(next(iter(moved.values()))))
    for title, paths in experiment.plots.items():
        yield title, _plot(experiment, title, paths, found, note)
    for title, paths in experiment.planes.items():
        yield title, _plane(experiment, title, paths, found, note)


def _plot(experiment: Experiment, title: str, paths: Sequence[str], found: Mapping[str, Way], note: str
          ) -> bytes | None:
    if experiment.axis:
        lines = {called(path): [(arm.at, value) for arm in experiment.arms if arm.at is not None
                                and (value := value_at(found[arm.name].before, path))] for path in paths}
        return plots.curves(lines, title, experiment.axis, note)
    if list(paths) == ["distance"]:
        name = next(iter(found.values())).before["recognisers"][0]["recogniser"]["name"]
        line = (ADVICE[name].distance, "advised threshold: nearer is the same person") if name in ADVICE else None
        return plots.bars({name: [value_at(way.before, "distance")] for name, way in found.items()}, title,
                          f"distance by {name}, and its 95 % interval", note, line=line)
    return plots.bars({name: [value_at(way.before, path) for path in paths] for name, way in found.items()}, title,
                      MEAN, note, parts=[called(path) for path in paths])


def _plane(experiment: Experiment, title: str, paths: Sequence[str], found: Mapping[str, Way], note: str
           ) -> bytes | None:
    """One point for each way; of settings along an axis the number alone is written."""
    across, up = paths
    points = {}
    for arm in experiment.arms:
        x, y = (value_at(found[arm.name].before, path) for path in paths)
        if x and y:
            points[arm.name if arm.at is None else f"{arm.at:g}"] = x, y
    return plots.plane(points, f"{title}, by {experiment.axis}" if experiment.axis else title, called(across),
                       called(up), note)


def _table(found: Mapping[str, Way]) -> str:
    """One row for each way; two blocks of columns."""
    rows = [[name, *(_cell(value_at(way.before, path)) for path in BEFORE),
             *(_cell(value_at(way.after, path)) for path in AFTER),
             ", ".join(f"{count} {fate}" for fate, count in way.fates.items() if count)] for name, way in found.items()]
    head = ["Way", *map(called, (*BEFORE, *AFTER)), "which were"]
    over = (f"<tr><th></th><th colspan={len(BEFORE)}>Before any policy</th>"
            f"<th colspan={len(AFTER) + 1}>After the policy</th></tr>")
    table = page.table(head, rows).replace("<table>", f"<table>{over}", 1)
    return f'<style>{_WIDE}</style><div class="wide">{table}</div>'


def _cell(value: Values | None) -> str:
    """Without words: the table is wide."""
    if value is None:
        return "-"
    ends = value.get("interval_95")
    return f"{value['value']:.2g}" + (f" [{ends[0]:.2g}, {ends[1]:.2g}]" if ends else "")


def _separations(found: Mapping[str, Way]) -> Iterator[str]:
    rows = [[name, reading, _cell(value) if value["value"] is not None else value["why"], value["cases"],
             value["left_out"], value["fewer_persons"]]
            for name, way in found.items() for reading, value in way.separation.items()]
    if rows:
        yield f"<h2>{MOVED}</h2><p>0: not at all; 1: as far as the person whose wishes were changed.</p>"
        yield page.table(["Way", "Read by", "Others / the one [95 %]", "Photos", "Not read", "Fewer persons"], rows)


def _guessed(found: Mapping[str, Way]) -> Iterator[str]:
    attacks = [(name, tried, attack) for name, way in found.items()
               for tried, attack in way.before.get("guessing", {}).items()]
    if attacks:
        yield ("<h2>Guessing</h2><p>An attacker who has the photos runs the very method on each, and takes the one "
               "whose face comes out nearest to the published one.</p>")
        yield page.table(["Way", "Attacker", "Comes out again to the last bit", "Found at rank 1", "Chance", "Photos"],
                         [[name, tried, _cell(attack["exact"]), _cell(attack["rank_1"]),
                           f"{attack['rank_1']['chance']:.2g}", attack["gallery"]] for name, tried, attack in attacks])


def _broken(breaks: Values) -> str:
    """The breaking point in words."""
    first = f"{breaks['axis']} {breaks['from']:g}"
    broken = ", ".join(f"{called(path)} from {at:g} on" for path, at in breaks["by"].items() if at is not None)
    whole = " and ".join(called(path) for path, at in breaks["by"].items() if at is None)
    silent = " and ".join(map(called, breaks["silent"]))
    return " ".join(filter(None, [
        f"The scene breaks at {breaks['axis']} {breaks['at']:g}." if broken else "No breaking point was found.",
        broken and f"Below half of its value at {first}: {broken}.",
        whole and f"Not below half of its value at {first}: {whole}.",
        silent and f"Nothing to lose at {first}, and so no answer: {silent}."]))


def slug(name: str) -> str:
    """A name as the name of a file."""
    return re.sub("[^a-z0-9.]+", "_", name.lower()).strip("_") or "way"
