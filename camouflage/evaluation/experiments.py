"""An experiment as a file: which ways to anonymize are compared, on what, and what is plotted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from ..validation import number, show
from .layouts import LAYOUTS
from .methods import BASELINES

_TEXTS = ("title", "question", "shows", "time", "workflow")
_KEYS = {*_TEXTS, "arms", "vary", "set", "protocol", "baselines", "plots", "planes", "compare", "readings", "datasets",
         "breaking_point", "guess"}
PROTOCOLS = ("pairs", "gallery", "folder")
READINGS = ("attributes",)
MOST_GUESSED = 100
COVERED = "share of each face that is covered"
CALLED = {"rank_1": "found at rank 1", "utility.nme": "keypoint error", "utility.faces.recall": "faces kept",
          "quality.ssim": "SSIM", "quality.ssim_outside_heads": "SSIM outside of heads",
          **{f"utility.attributes.by_group.{group}": f"{words} kept" for group, words in (
              ("all", "attributes"), ("demographics", "demographics"), ("stand-ins", "stand-ins"),
              ("expression", "expression"))}, "distance": "distance",
          "left": "pictures that left"}
"""What people call some results."""


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
class Compare:
    """Ways that differ in one person's wishes alone.

    Attributes:
        to: name of the way in which nobody's wishes are changed.
        changed: name of another way -> number of the person whose wishes it changes, from 0, from left to right.
    """

    to: str
    changed: Mapping[str, int]


@dataclass(frozen=True)
class Experiment:
    """What is done, and why.

    Attributes:
        title, question, shows, time: for people: what is asked, what each outcome would show, how long it takes.
        datasets: layouts that fit, of ``layouts.LAYOUTS``.
        arms: the ways, baselines after them.
        axis: what ``Arm.at`` counts, for plots; "".
        protocol: of ``PROTOCOLS``.
        plots: title -> paths of results, such as "quality.ssim_outside_heads", see :func:`value_at`.
        planes: title -> the paths of what is plotted across and up, one point for each way.
        compare: what is measured by :mod:`.separated`; None: nothing.
        readings: of ``READINGS``: what networks read in addition.
        breaking_point: paths of results; where one of them falls below half of its value at the smallest ``Arm.at``,
            the scene breaks.
        guess: how many published pictures an attacker looks at who knows the method, see
            :mod:`.attacks.guessing`; 0: nobody does.
    """

    title: str
    question: str
    shows: str
    time: str
    datasets: tuple[str, ...]
    arms: tuple[Arm, ...]
    axis: str
    protocol: str
    plots: Mapping[str, Sequence[str]]
    planes: Mapping[str, Sequence[str]]
    compare: Compare | None
    readings: tuple[str, ...]
    breaking_point: tuple[str, ...]
    guess: int


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
    texts = {name: content.get(name, "") for name in _TEXTS}
    if bad := [name for name, value in texts.items() if not isinstance(value, str)]:
        raise CamouflageError(f"{bad[0]} must be a text, but got {show(texts[bad[0]])}.")
    if not texts["title"]:
        raise CamouflageError("title is missing.")
    arms, axis = _arms(content, texts["workflow"])
    arms += [Arm(name) for name in _chosen(content, "baselines", BASELINES)]
    names = [arm.name for arm in arms]
    if not arms or len(set(names)) < len(names):
        raise CamouflageError("it must have arms, vary or baselines, and each way its own name.")
    protocol = content.get("protocol", "pairs")
    if protocol not in PROTOCOLS:
        raise CamouflageError(f"protocol must be {', '.join(PROTOCOLS)}, but got {show(protocol)}.")
    plots, planes = content.get("plots", {}), content.get("planes", {})
    if not isinstance(plots, dict) or not all(map(_are_texts, plots.values())):
        raise CamouflageError("plots must be a mapping from titles to lists of results.")
    if not isinstance(planes, dict) or not all(_are_texts(paths) and len(paths) == 2 for paths in planes.values()):
        raise CamouflageError("planes must be a mapping from titles to two results: what is across, and what is up.")
    breaking = content.get("breaking_point") or []
    if not _are_texts(breaking) or (breaking and all(arm.at is None for arm in arms)):
        raise CamouflageError("breaking_point must be a list of results, and needs vary with numbers.")
    return Experiment(texts["title"], texts["question"], texts["shows"], texts["time"],
                      tuple(_chosen(content, "datasets", LAYOUTS)), tuple(arms), axis, protocol, plots, planes,
                      _compare(content.get("compare"), names), tuple(_chosen(content, "readings", READINGS)),
                      tuple(breaking), int(number(content.get("guess", 0), 0, MOST_GUESSED, "guess")))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _chosen(content: Mapping[str, Any], name: str, known: Iterable[str]) -> list[str]:
    value = content.get(name) or []
    if not _are_texts(value) or not set(value) <= set(known):
        raise CamouflageError(f"{name} must be a list of {', '.join(known)}, but got {show(value)}.")
    return value


def _compare(value: object, names: Sequence[str]) -> Compare | None:
    if value is None:
        return None
    given = value if isinstance(value, dict) and value.keys() == {"to", "changed"} else {}
    to, changed = given.get("to"), given.get("changed")
    if not isinstance(changed, dict) or not {to, *changed} <= set(names) or not all(
            type(person) is int and person >= 0 for person in changed.values()):
        raise CamouflageError("compare must have to, the name of a way, and changed, a mapping from names of ways to "
                              f"numbers of persons from 0; but got {show(value)}.")
    return Compare(str(to), changed)


def _arms(content: Mapping[str, Any], workflow: str) -> tuple[list[Arm], str]:
    """The arms that are written one by one, or those of ``vary``: one widget, or "occlude", over a list of values."""
    common = _settings(content.get("set"), "set")
    arms = [_arm(one, workflow, common) for one in content.get("arms") or []]
    vary = content.get("vary") or {}
    if not isinstance(vary, dict) or len(vary) > 1 or (vary and arms):
        raise CamouflageError("vary must name one widget with its values, and stands instead of arms.")
    for name, values in vary.items():
        if not isinstance(values, list) or not workflow:
            raise CamouflageError("vary needs a workflow, and a list of values.")
        for value in values:
            at = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
            occlude = number(value, 0.0, 1.0, "occlude") if name == "occlude" else 0.0
            settings = {} if name == "occlude" else {str(name): _text(value)}
            arms.append(Arm(f"{_plain(name)} {value}", workflow, tuple((common | settings).items()), occlude, at))
        return arms, COVERED if name == "occlude" else _plain(name)
    return arms, ""


def _plain(name: object) -> str:
    """A widget's name, for people."""
    return str(name).rpartition(".")[2].replace("_", " ")


def _settings(value: object, what: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CamouflageError(f"{what} must be a mapping from node.widget to a value.")
    return {str(name): _text(one) for name, one in value.items()}


def _arm(one: object, workflow: str, common: Mapping[str, str]) -> Arm:
    if not isinstance(one, dict) or not one.keys() <= {"name", "workflow", "set", "occlude"} or "name" not in one:
        raise CamouflageError(f"an arm must have a name, and may have workflow, set and occlude, but got {show(one)}.")
    settings = {**common, **_settings(one.get("set"), f"set of {one['name']}")}
    chosen = str(one.get("workflow") or workflow)
    if not chosen:
        raise CamouflageError(f"{one['name']} has no workflow.")
    return Arm(str(one["name"]), chosen, tuple(settings.items()), number(one.get("occlude", 0.0), 0.0, 1.0, "occlude"))


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


def called(path: str) -> str:
    """What people call a result."""
    return CALLED.get(path, path.rpartition(".")[2].replace("_", " "))


def breaking_point(experiment: Experiment, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Where the scene breaks; None where the experiment does not ask.

    Args:
        experiment: whose.
        found: results by the name of the way.

    Returns:
        ``at``: the smallest ``Arm.at`` at which a value falls below half of that at the smallest one (our choice), None
        where none does; ``by``: the same for each path; ``silent``: paths that have nothing to lose at the smallest
        one; ``axis``; ``from``: the smallest ``Arm.at``.
    """
    if not experiment.breaking_point:
        return None
    arms = sorted((arm for arm in experiment.arms if arm.at is not None), key=lambda arm: arm.at or 0.0)
    by: dict[str, float | None] = {}
    for path in experiment.breaking_point:
        first, *values = (value_at(found[arm.name], path) for arm in arms)
        if first and first["value"] > 0:
            by[path] = next((arm.at for arm, value in zip(arms[1:], values, strict=True)
                             if value and value["value"] < first["value"] / 2), None)
    return {"at": min((at for at in by.values() if at is not None), default=None), "by": by,
            "silent": [path for path in experiment.breaking_point if path not in by], "axis": experiment.axis,
            "from": arms[0].at}


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
