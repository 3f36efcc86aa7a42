"""Which pictures a person should look at, and what can be said after they did."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from ..files import write_whole
from ..verification.error_rates import clopper_pearson
from .accounts import SAVED, Outcome
from .decisions import Decision, by_unit, read_decisions
from .photos import RUN

SAMPLE = 300
"""Saved pictures that are drawn at random: with none recognisable among them, the 95 % interval ends at 1.2 %."""
NEAR = 1.15
"""A distance of up to so many thresholds is near (our choice)."""
_RISKS = (
    (8, lambda line: line.state == "blocked", "withheld by the verification"),
    (6, lambda line: line.state == "nobody", "saved although no face was found"),
    (5, lambda line: "recognisable" in line.persons, "somebody was recognisable before they were covered"),
    (4, lambda line: "unverifiable" in line.persons, "somebody could not be judged before they were covered"),
    (3, lambda line: line.distance is not None and line.distance < NEAR and "safe" in line.persons,
     "the nearest face is near the threshold"),
    (2, lambda line: line.new > 0, "a face where none was"),
    (1, lambda line: line.lost > 0 and line.state != "redacted", "a face was lost"),
)


@dataclass(frozen=True)
class Entry:
    """A picture to look at.

    Attributes:
        unit, key, name, state: see :class:`~.accounts.Outcome`.
        reason: why it was withheld; "".
        persons: the verdict of each.
        why: why it should be looked at, the gravest first.
        risk: whole number; the list begins with the highest.
        sample: whether it belongs to the random sample.
    """

    unit: int
    key: str
    name: str
    state: str
    reason: str
    persons: tuple[str, ...]
    why: tuple[str, ...]
    risk: int
    sample: bool


def entries(lines: Iterable[tuple[int, Outcome]], seed: int) -> list[Entry]:
    """The pictures that need a look, and a random sample of those that were saved; the riskiest first.

    Args:
        lines: of the whole run, each with its unit.
        seed: of the sample: the same pictures whenever the list is made.
    """
    known = list(lines)
    saved = [(unit, line.key) for unit, line in known if line.state in SAVED]
    drawn = set(random.Random(seed).sample(saved, min(SAMPLE, len(saved))))
    found = []
    for unit, line in known:
        risks = [(risk, why) for risk, applies, why in _RISKS if applies(line)]
        sample = (unit, line.key) in drawn
        if risks or sample:
            found.append(Entry(unit, line.key, line.name, line.state, line.reason, line.persons,
                               tuple(why for _, why in risks),
                               sum(risk for risk, _ in risks), sample))
    return sorted(found, key=lambda entry: (-entry.risk, entry.unit, entry.key))


def file_of(output: Path) -> Path:
    """Where the list of a run stands."""
    return output / RUN / "review.json"


def write(output: Path, found: Sequence[Entry]) -> None:
    """Writes the list. Raises OSError."""
    content = {"format": "camouflage-review", "version": 1, "entries": [dataclasses.asdict(entry) for entry in found]}
    write_whole(file_of(output), json.dumps(content, ensure_ascii=False, indent=1).encode())


def read(output: Path) -> list[Entry]:
    """The list of a run. Raises CamouflageError where there is none."""
    file = file_of(output)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return [Entry(**{**one, "why": tuple(one["why"]), "persons": tuple(one["persons"])})
                for one in content["entries"]]
    except FileNotFoundError:
        raise CamouflageError(f"There is no list of pictures to look at in {output}. Make it: run the same command of "
                              "anonymize once more, with --review.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CamouflageError(f"{file} cannot be read ({error}). Make it anew: run the same command of anonymize once "
                              "more, with --review.") from error


def residual_risk(found: Sequence[Entry], decisions: Mapping[int, Mapping[str, Decision]]) -> str:
    """What a reviewed random sample says of all saved pictures, with its 95 % interval; else "not measured"."""
    sample = [entry for entry in found if entry.sample]
    answers = [decisions.get(entry.unit, {}).get(entry.key) for entry in sample]
    seen = [one.recognisable for one in answers if one is not None and one.recognisable is not None]
    if not sample or len(seen) < len(sample):
        looked = f": {len(seen)} of the {len(sample)} pictures of the random sample were looked at" if seen else ""
        return f"not measured{looked}"
    wrong = sum(seen)
    low, high = clopper_pearson(wrong, len(seen))
    return (f"{wrong} of {len(seen)} pictures of a random sample show somebody whom the reviewer recognised: "
            f"{100 * wrong / len(seen):.2g} %, 95 % interval {100 * low:.2g} to {100 * high:.2g} % (Clopper-Pearson)")


def risk_of(output: Path) -> str:
    """:func:`residual_risk` of a run, "not measured" where nothing was listed. Raises CamouflageError."""
    if not file_of(output).is_file():
        return "not measured"
    return residual_risk(read(output), by_unit(read_decisions(output)))


def fiftyone(output: Path, found: Sequence[Entry], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The saved pictures of the list in the form of FiftyOne's ``FiftyOneImageDetectionDataset``: data and labels.

    Args:
        output: of the run, a folder of pictures.
        found: the list.
        records: the manifest of each saved picture, by name.
    """
    data, labels = {}, {}
    classes = ["safe", "redacted"]
    for entry in found:
        record = records.get(entry.name)
        if record is None or "checked" not in record:
            continue
        checked, uuid = record["checked"], f"{entry.unit:06d}-{len(data):06d}"
        data[uuid] = str(output / entry.name)
        labels[uuid] = [
            {"label": person["verdict"], "bounding_box": _relative(person["box_ltrb"], checked),
             "attributes": {"distance": person["distance"], "kind": person["kind"], "why": "; ".join(entry.why)}}
            for person in checked["persons"]]
    return {"data": data, "labels": {"classes": classes, "labels": labels}}


def _relative(box: Sequence[float], checked: Mapping[str, Any]) -> list[float]:
    """Left, top, width and height as parts of the picture."""
    left, top, right, bottom = box
    width, height = checked["width"], checked["height"]
    return [left / width, top / height, (right - left) / width, (bottom - top) / height]
