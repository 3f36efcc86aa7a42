"""What reviewers decided: lines in a file that is only ever appended to; the last word on a picture counts."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import CamouflageError
from .photos import RUN

WORDS = ("accept", "redact", "reject", "")
"""What a reviewer can say of a picture; "" takes an earlier word back."""


@dataclass(frozen=True)
class Decision:
    """A reviewer's word on a picture.

    Attributes:
        key: of the picture.
        unit: where it is.
        word: of :data:`WORDS`.
        recognisable: what the reviewer saw: somebody of the original, nobody, or not said (None).
    """

    key: str
    unit: int
    word: str = ""
    recognisable: bool | None = None

    def __post_init__(self) -> None:
        if (not isinstance(self.key, str) or type(self.unit) is not int or self.word not in WORDS
                or self.recognisable not in (True, False, None)):
            raise CamouflageError("A decision must have a key, a unit, one of the words accept, redact and reject, and "
                                  "say true, false or nothing of 'recognisable'.")


def file_of(output: Path) -> Path:
    """Where the decisions on a run stand."""
    return output / RUN / "decisions.jsonl"


def read_decisions(output: Path) -> dict[tuple[int, str], Decision]:
    """The last word on every picture, by unit and key.

    Raises:
        CamouflageError: a line that is no decision; a last line that was cut off is passed over.
    """
    file = file_of(output)
    if not file.is_file():
        return {}
    lines = file.read_text(encoding="utf-8").split("\n")
    found: dict[tuple[int, str], Decision] = {}
    for number, line in enumerate(lines[:-1]):  # the last one is empty, or was cut off while it was written
        try:
            decision = Decision(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise CamouflageError(f"{file}, line {number + 1} is no decision: {error}. Mend or delete the "
                                  "line.") from error
        found[decision.unit, decision.key] = decision
    return found


def by_unit(decisions: Mapping[tuple[int, str], Decision]) -> dict[int, dict[str, Decision]]:
    """Decisions by unit, and there by key."""
    found: dict[int, dict[str, Decision]] = {}
    for (unit, key), decision in decisions.items():
        found.setdefault(unit, {})[key] = decision
    return found


def append(output: Path, decision: Decision) -> None:
    """Adds a decision; it is on the disk afterwards. Raises OSError."""
    line = json.dumps(dataclasses.asdict(decision), ensure_ascii=False) + "\n"
    with open(file_of(output), "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a torn line of a writer that was killed stands alone
                line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
