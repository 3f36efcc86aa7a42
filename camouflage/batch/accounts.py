"""What became of every picture: one line each, in a file for every unit of work, and the tables made of them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from ..files import remove_leftovers, write_whole
from .photos import RUN

SAVED = ("safe", "redacted", "exempt", "nobody", "accepted")
"""The picture is in the output. ``exempt``: somebody in it stays as they are by consent; ``nobody``: no face was found,
and somebody chose to let such a picture pass; ``accepted``: by a reviewer."""
WITHHELD = ("blocked", "rejected")
"""It may not leave: by the verification; by a reviewer."""
FAULTY = ("unreadable", "failed")
"""It could not be read; it could not be processed."""
ACCEPTED = "camouflage-accepted"
"""The format of the record of a picture that nothing but a reviewer vouches for."""
STATES = (*SAVED, *WITHHELD, *FAULTY)


@dataclass(frozen=True)
class Outcome:
    """What became of a picture.

    Attributes:
        key: of the picture in the source.
        name: in the output, with ending; a name of the source's kind also where nothing was written.
        state: of :data:`STATES`.
        reason: why it is not in the output; "" where it is.
        sha256: of the picture's file, hex; "" where there is none.
        distance: the smallest of its persons' who are not exempt, in units of the threshold, so that below 1 is
            recognisable; None where nothing could be compared.
        persons: the verdict of each: "safe" or "redacted"; of painted pictures as they were before the policy.
        lost, new, elsewhere: faces, see the manifest.
        decision: of a reviewer that is in this line; "".
    """

    key: str
    name: str
    state: str
    reason: str = ""
    sha256: str = ""
    distance: float | None = None
    persons: tuple[str, ...] = ()
    lost: int = 0
    new: int = 0
    elsewhere: int = 0
    decision: str = ""


def to_text(lines: Iterable[Outcome]) -> str:
    """One JSON document a line."""
    return "".join(json.dumps(dataclasses.asdict(line), ensure_ascii=False) + "\n" for line in lines)


def from_text(text: str) -> list[Outcome]:
    """What :func:`to_text` gave. Raises ValueError, TypeError, KeyError or AttributeError for anything else."""
    known = {field.name for field in dataclasses.fields(Outcome)}
    rows = [json.loads(row) for row in text.splitlines()]
    lines = [Outcome(**{**row, "persons": tuple(row["persons"])}) for row in rows if row.keys() <= known]
    if len(lines) != len(rows) or any(line.state not in STATES for line in lines):
        raise ValueError("unknown fields")
    return lines


def outcome_of(key: str, name: str, sha256: str, record: Mapping[str, Any], decision: str = "") -> Outcome:
    """The line of a picture that was written, from the record of its verdict."""
    if record["format"] == ACCEPTED:
        return Outcome(key, name, "accepted", sha256=sha256, decision=decision)
    checked = record["checked"]
    persons, tries = checked["persons"], [one for one in checked["tries"] if one["kept"]]
    distances = [person["distance"] for person in persons
                 if person["distance"] is not None and person["verdict"] != "exempt"]
    verdicts = tries[0]["verdicts"] if tries else [person["verdict"] for person in persons]
    faces = checked["faces"]
    state = checked["verdict"]
    if decision == "accept" and state == "nobody":
        state = "accepted"
    return Outcome(key, name, state, "", sha256,
                   min(distances) / record["threshold"]["distance"] if distances else None, tuple(verdicts),
                   faces["lost"], faces["new"], faces["elsewhere"], decision)


class Accounts:
    """The accounts of a run, below its output folder."""

    def __init__(self, output: Path) -> None:
        self.folder = output / RUN / "accounts"

    def file(self, unit: int) -> Path:
        """Of a unit."""
        return self.folder / f"{unit:06d}.jsonl"

    def write(self, unit: int, lines: Sequence[Outcome]) -> None:
        """Writes a unit's account, whole. From then on the unit is done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.file(unit))
        write_whole(self.file(unit), to_text(lines).encode())

    def done(self, unit: int) -> bool:
        """Whether the unit is in the output."""
        return self.file(unit).is_file()

    def read(self, unit: int) -> list[Outcome]:
        """A unit's account. Raises CamouflageError for a file that is none."""
        try:
            return from_text(self.file(unit).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CamouflageError(f"{self.file(unit)} is no account of a run ({error}). If it was changed, delete it: "
                                  "the next run does this part again.") from error

    def lines(self, units: Iterable[int]) -> Iterator[tuple[int, Outcome]]:
        """All lines of the units that are done, each with its unit's number."""
        for unit in units:
            if self.done(unit):
                for line in self.read(unit):
                    yield unit, line


def counts(lines: Iterable[Outcome]) -> Counter[str]:
    """How many pictures are in which state."""
    return Counter(line.state for line in lines)


def quarantine(lines: Iterable[Outcome]) -> str:
    """The table (CSV) of what is not in the output, with the reason; it names the originals."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["key", "state", "reason"])
    for line in lines:
        if line.state not in SAVED:
            table.writerow([line.key, line.state, line.reason])
    return text.getvalue()
