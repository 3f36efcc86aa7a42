"""Reading manifests: what lies beside a saved picture, of every version that was ever written (our choice).

Manifests come from a folder that anybody may have written to, so everything is checked by hand, field by field: what
their JSON Schemas say, and that the verdict is the one of the persons. The schemas lie beside this file, for others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from ..validation import read_json, record, sequence, show, whole
from ..verification.report import KINDS, MANIFEST_FORMAT, MANIFEST_VERSION, Verdict

MAX_JSON = 16 * 2**20  # characters
SCHEMAS = {1: Path(__file__).with_name("manifest-1.schema.json"),
           MANIFEST_VERSION: Path(__file__).with_name("manifest.schema.json")}
"""The JSON Schema of every version that is read."""
_WHAT = "The manifest"
_WHOLE = 2**64 - 1  # the largest seed
_SETTLED = tuple(verdict.value for verdict in Verdict if verdict.settled)

Check = Callable[[Any, str], object]
"""Takes a value and its name in error texts; raises a CamouflageError where the value is not what is wanted."""


def read(text: str) -> dict[str, Any]:
    """A manifest, in the form of version 2 whatever version it was written in.

    What version 1 does not say is filled in: no notes, no second recogniser, a threshold that is not known to be laxer
    than advised, faces of the original only, no likeness, not moved.

    Args:
        text: content of a manifest's file.

    Returns:
        Plain data that fits the schema of version 2; what other tools wrote under "more" is left as it is.

    Raises:
        CamouflageError: no JSON or hostile JSON, no manifest, one of a version that is not known, missing or unknown
            keys, values of another type or range, or a verdict that is not the worst of its persons.
    """
    data = read_json(text, _WHAT, MAX_JSON)
    if not isinstance(data, dict) or data.get("format") != MANIFEST_FORMAT:
        got = f"the format {show(data.get('format'))}" if isinstance(data, dict) else show(data)
        raise CamouflageError(f"{_WHAT} must be an object of the format '{MANIFEST_FORMAT}', but got {got}. Choose a "
                              "JSON file that 'Save Anonymized' wrote beside a picture.")
    version = data.get("version")
    if type(version) is not int or version not in SCHEMAS:
        newer = type(version) is int and version > MANIFEST_VERSION
        raise CamouflageError(f"{_WHAT} must have version {' or '.join(map(str, SCHEMAS))}, but got {show(version)}. "
                              + ("It was made by a newer version of this pack: update the pack, then read it again."
                                 if newer else "It was changed after it was written: save the picture again."))
    if version == 1:
        data = _upgraded(data)
    _manifest({key: value for key, value in data.items() if key != "more"}, _WHAT)
    _object(data.get("more", {}), f"{_WHAT}.more")
    _demand_agreement(data)
    return data


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A manifest of version 1 in the form of version 2; what it must not have yet is refused."""
    checked = _added(data.get("checked"), f"{_WHAT}.checked", moved=None)
    persons = sequence(checked.get("persons"), None, f"{_WHAT}.checked.persons")
    checked["persons"] = [_added(person, f"{_WHAT}.checked.persons[{i}]", kind="original", likeness=None)
                          for i, person in enumerate(persons)]
    _demand_without("more", data, _WHAT)
    for i, attempt in enumerate(sequence(checked.get("tries"), None, f"{_WHAT}.checked.tries")):
        _demand_without("batch", _object(attempt, f"{_WHAT}.checked.tries[{i}]"), f"{_WHAT}.checked.tries[{i}]")
    complete = _added(data, _WHAT, notes=[], second_recognisers=[])
    return {**complete, "version": MANIFEST_VERSION, "checked": checked,
            "threshold": _added(data.get("threshold"), f"{_WHAT}.threshold", laxer_than_advised=False)}


def _demand_without(key: str, found: dict[str, Any], where: str) -> None:
    """Raises a CamouflageError where an object of version 1 has a key that came later."""
    if key in found:
        raise CamouflageError(f"{where} is of version 1, which has no '{key}'. Save the picture again.")


def _added(value: object, where: str, **fields: Any) -> dict[str, Any]:
    """A copy of an object with fields that version 1 does not have."""
    found = _object(value, where)
    if there := fields.keys() & found:
        raise CamouflageError(f"{where} is of version 1, which has no {', '.join(sorted(there))}. Save the picture "
                              "again.")
    return {**found, **fields}


def _demand_agreement(data: dict[str, Any]) -> None:
    """Raises a CamouflageError where two fields contradict each other."""
    checked = data["checked"]
    worst = max((person["verdict"] for person in checked["persons"]), key=_SETTLED.index, default="nobody")
    if checked["verdict"] != worst:
        raise CamouflageError(f"{_WHAT}.checked.verdict is '{checked['verdict']}', but the worst of its persons is "
                              f"'{worst}'. It was changed after it was written: save the picture again.")
    if all(person["kind"] == "new" for person in checked["persons"]) and not checked["nobody_passed"]:
        raise CamouflageError(f"{_WHAT} names nobody of the original, and nobody chose to let such a picture pass. It "
                              "was changed after it was written: save the picture again.")
    if checked["pixels_sha256"] != data["file"]["pixels_sha256"]:
        raise CamouflageError(f"{_WHAT} was checked on other pixels than those of its file. It was changed after it "
                              "was written: save the picture again.")


# --- checks of values ---------------------------------------------------------------------------------------------


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CamouflageError(f"{where} must be an object, but got {show(value)}.")
    return value


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise CamouflageError(f"{where} must be a text, but got {show(value)}.")


def _truth(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        raise CamouflageError(f"{where} must be true or false, but got {show(value)}.")


def _nothing(value: Any, where: str) -> None:
    if value is not None:
        raise CamouflageError(f"{where} must be null, but got {show(value)}.")


def _one_of(*values: Any) -> Check:
    def check(value: Any, where: str) -> None:
        if type(value) not in map(type, values) or value not in values:
            raise CamouflageError(f"{where} must be one of {', '.join(map(str, values))}, but got {show(value)}.")
    return check


def _like(pattern: str, what: str) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise CamouflageError(f"{where} must be {what}, but got {show(value)}.")
    return check


def _number(what: str = "a finite number", allowed: Callable[[float], bool] = math.isfinite) -> Check:
    def check(value: Any, where: str) -> None:
        if type(value) not in (int, float) or not math.isfinite(value) or not allowed(value):
            raise CamouflageError(f"{where} must be {what}, but got {show(value)}.")
    return check


def _whole(low: int, high: int) -> Check:
    return lambda value, where: whole(value, low, high, where)


def _or_null(check: Check) -> Check:
    return lambda value, where: None if value is None else check(value, where)


def _list(check: Check, count: int | None = None, least: int = 0) -> Check:
    def checks(value: Any, where: str) -> None:
        entries = sequence(value, count, where)
        if len(entries) < least:
            raise CamouflageError(f"{where} must have at least {least} entries, but got {len(entries)}.")
        for i, entry in enumerate(entries):
            check(entry, f"{where}[{i}]")
    return checks


def _fields(**checks: Check) -> Check:
    """An object with exactly these keys, each with its check."""
    def check(value: Any, where: str) -> None:
        found = record(value, tuple(checks), where)
        for key, one in checks.items():
            one(found[key], f"{where}.{key}")
    return check


def _and_perhaps(check: Check, **optional: Check) -> Check:
    """What ``check`` takes, and keys that need not be there."""
    def checks(value: Any, where: str) -> None:
        check({key: one for key, one in _object(value, where).items() if key not in optional}, where)
        for key in optional.keys() & value.keys():
            optional[key](value[key], f"{where}.{key}")
    return checks


# --- what a manifest holds, as its schema says ----------------------------------------------------------------------


_SHA256 = _like("[0-9a-f]{64}", "a SHA-256, 64 digits of 0-9 and a-f")
_DISTANCE = _or_null(_number("a number from 0 on", lambda value: value >= 0))
_COUNT = _whole(0, _WHOLE)
_SEED, _SCALE = _or_null(_whole(-_WHOLE, _WHOLE)), _or_null(_number())
_INFO = _fields(name=_text, version=_text, licence=_text, sha256=_list(_SHA256))
_RATE = _number("a number between 0 and 1", lambda value: 0 < value < 1)
_THRESHOLD = _fields(distance=_number("a number above 0", lambda value: value > 0), recogniser=_text,
                     false_accept_rate=_or_null(_RATE), source=_text, laxer_than_advised=_truth)
_PERSON = _fields(number=_COUNT, box_ltrb=_list(_number(), 4), verdict=_one_of(*_SETTLED),
                  distance=_DISTANCE, nearest=_or_null(_COUNT), reason=_text, detectors=_list(_text),
                  redaction=_or_null(_text), kind=_one_of(*KINDS), likeness=_DISTANCE)
_ATTEMPT = _and_perhaps(_fields(seed=_SEED, anonymization_scale=_SCALE, distance=_DISTANCE, kept=_truth,
                                verdicts=_list(_one_of(*(verdict.value for verdict in Verdict)))),
                        batch=_fields(place=_COUNT, together=_list(_COUNT, least=1)))
_CHECKED = _fields(width=_whole(1, _WHOLE), height=_whole(1, _WHOLE), pixels_sha256=_SHA256,
                   verdict=_one_of(*_SETTLED, "nobody"), persons=_list(_PERSON),
                   faces=_fields(lost=_COUNT, new=_COUNT, elsewhere=_COUNT), nobody_passed=_truth,
                   policy=_one_of("redact", "block", "report"), tries=_list(_ATTEMPT), moved=_nothing)
_FILE = _fields(name=_like(r"[^/\\]+\.(png|jpg|webp)", "a picture's name without a folder"),
                format=_one_of("PNG", "JPEG", "WebP"), quality=_or_null(_whole(1, 100)), pixels_sha256=_SHA256,
                file_sha256=_SHA256)
_MODEL = _fields(file=_like(r"[^/\\]+", "the name of a file without its folder"), sha256=_SHA256)
_manifest = _fields(format=_one_of(MANIFEST_FORMAT), version=_one_of(MANIFEST_VERSION), software=_text,
                    checked=_CHECKED, threshold=_THRESHOLD, recogniser=_INFO, second_recognisers=_list(_INFO),
                    notes=_list(_text), detectors=_list(_INFO, least=1),
                    sampling=_fields(seed=_SEED, anonymization_scale=_SCALE), file=_FILE, models=_list(_MODEL))
