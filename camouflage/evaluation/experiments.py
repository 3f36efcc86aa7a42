"""An experiment as a file: which ways to anonymize are compared, on what, and what is plotted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from ..validation import number, show
from .methods import BASELINES

_KEYS = {"title", "question", "shows", "time", "workflow", "arms", "vary", "protocol", "baselines", "plots"}
PROTOCOLS = ("pairs", "gallery", "folder")


@dataclass(frozen=True)
class Arm:
    """One way to anonymize.

    Attributes:
        name: for people.
        workflow: a shipped one by its name, a file, or "" for a baseline of ``BASELINES``.
        settings: "node.widget" -> value.
        occlude: share of each face's height that is covered before the method sees it, 0..1.
        at: its place on the axis of a plot; None where it has none.
    """

    name: str
    workflow: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    occlude: float = 0.0
    at: float | None = None


@dataclass(frozen=True)
class Experiment:
    """What is done, and why.

    Attributes:
        title, question, shows, time: for people: what is asked, what each outcome would show, how long it takes.
        arms: the ways, baselines after them.
        axis: what ``Arm.at`` counts, for plots; "".
        protocol: of ``PROTOCOLS``.
        plots: title -> paths of results, such as "quality.ssim_outside_heads", see :func:`value_at`.
    """

    title: str
    question: str
    shows: str
    time: str
    arms: tuple[Arm, ...]
    axis: str
    protocol: str
    plots: Mapping[str, Sequence[str]]


def read(file: Path) -> Experiment:
    """An experiment's file.

    Raises:
        CamouflageError: no such file, no YAML, or something in it that is missing, unknown or of another kind.
    """
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CamouflageError(f"The experiment {file} cannot be read as YAML ({error}).") from error
    try:
        return _experiment(content)
    except CamouflageError as error:
        raise CamouflageError(f"The experiment {file.name}: {error}") from error


def _experiment(content: object) -> Experiment:
    if not isinstance(content, dict) or not content.keys() <= _KEYS:
        known = ", ".join(sorted(_KEYS))
        odd = sorted(map(str, content.keys() - _KEYS)) if isinstance(content, dict) else []
        raise CamouflageError(f"it must be a mapping with {known}; {', '.join(odd) or 'it is none'}.")
    texts = {name: content.get(name, "") for name in ("title", "question", "shows", "time", "workflow")}
    if bad := [name for name, value in texts.items() if not isinstance(value, str)]:
        raise CamouflageError(f"{bad[0]} must be a text, but got {show(texts[bad[0]])}.")
    if not texts["title"]:
        raise CamouflageError("title is missing.")
    arms, axis = _arms(content, texts["workflow"])
    baselines = content.get("baselines", [])
    if not isinstance(baselines, list) or not set(baselines) <= BASELINES.keys():
        raise CamouflageError(f"baselines must be a list of {', '.join(BASELINES)}, but got {show(baselines)}.")
    arms += [Arm(name) for name in baselines]
    names = [arm.name for arm in arms]
    if not arms or len(set(names)) < len(names):
        raise CamouflageError("it must have arms, vary or baselines, and each way its own name.")
    protocol = content.get("protocol", "pairs")
    if protocol not in PROTOCOLS:
        raise CamouflageError(f"protocol must be {', '.join(PROTOCOLS)}, but got {show(protocol)}.")
    plots = content.get("plots", {})
    if not isinstance(plots, dict) or not all(isinstance(paths, list) for paths in plots.values()):
        raise CamouflageError("plots must be a mapping from titles to lists of results.")
    return Experiment(texts["title"], texts["question"], texts["shows"], texts["time"], tuple(arms), axis, protocol,
                      plots)


def _arms(content: Mapping[str, Any], workflow: str) -> tuple[list[Arm], str]:
    """The arms that are written one by one, or those of ``vary``: one widget, or "occlude", over a list of values."""
    arms = [_arm(one, workflow) for one in content.get("arms") or []]
    vary = content.get("vary") or {}
    if not isinstance(vary, dict) or len(vary) > 1 or (vary and arms):
        raise CamouflageError("vary must name one widget with its values, and stands instead of arms.")
    for name, values in vary.items():
        if not isinstance(values, list) or not workflow:
            raise CamouflageError("vary needs a workflow, and a list of values.")
        for value in values:
            at = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
            occlude = number(value, 0.0, 1.0, "occlude") if name == "occlude" else 0.0
            settings = () if name == "occlude" else ((str(name), _text(value)),)
            arms.append(Arm(f"{str(name).rpartition('.')[2]} {value}", workflow, settings, occlude, at))
        return arms, str(name).rpartition(".")[2].replace("_", " ")
    return arms, ""


def _arm(one: object, workflow: str) -> Arm:
    if not isinstance(one, dict) or not one.keys() <= {"name", "workflow", "set", "occlude"} or "name" not in one:
        raise CamouflageError(f"an arm must have a name, and may have workflow, set and occlude, but got {show(one)}.")
    settings = one.get("set") or {}
    if not isinstance(settings, dict):
        raise CamouflageError(f"set of {one['name']} must be a mapping from node.widget to a value.")
    chosen = str(one.get("workflow") or workflow)
    if not chosen:
        raise CamouflageError(f"{one['name']} has no workflow.")
    return Arm(str(one["name"]), chosen, tuple((str(name), _text(value)) for name, value in settings.items()),
               number(one.get("occlude", 0.0), 0.0, 1.0, "occlude"))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def value_at(results: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    """A mean with its interval from the results of an evaluation; None where there is none.

    Args:
        path: keys with points between them, such as "quality.psnr". "rank_1", "rank_5", "map", "reidentified" and
            "protected" (at the highest false-accept rate) are those of the first recogniser.
    """
    first = results["recognisers"][0]
    if path in ("rank_1", "rank_5", "rank_10", "map"):
        found: Any = (first["identification"] or {}).get(path)
    elif path in ("reidentified", "protected"):
        found = next((point[path] for point in first["operating_points"]), None)
    elif path in ("judged", "lost", "undetected", "new"):
        total = sum(results["faces"][state] for state in ("judged", "lost", "undetected"))
        found = {"value": results["faces"][path] / total, "interval_95": None} if total else None
    else:
        found = results
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) and found.get("value") is not None else None


def fates(results: Mapping[str, Any]) -> dict[str, float]:
    """The shares of ``plots.PARTS``, by the first recogniser at its highest false-accept rate; empty where there are
    none."""
    point = next(iter(results["recognisers"][0]["operating_points"]), None)
    total = sum(results["faces"][state] for state in ("judged", "lost", "undetected"))
    if not total or point is None or point["reidentified"] is None:
        return {}
    return {"reidentified": point["reidentified"]["value"],
            "compared, and not recognised": point["protected"]["value"],
            **{state: results["faces"][state] / total for state in ("lost", "undetected")}}
