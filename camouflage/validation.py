"""What comes from outside is looked at before it is used: values and JSON of untrusted sources, errors in sentences."""

from __future__ import annotations

import json
import reprlib
from numbers import Real
from typing import Any

from .errors import CamouflageError


def show(value: object) -> str:
    """A short repr for error texts: of bounded length and depth, whatever ``value`` is."""
    try:
        return reprlib.repr(value)
    except Exception:  # numbers too long to print, broken __repr__
        return f"<{type(value).__name__}>"


def read_json(text: object, what: str, limit: int) -> Any:
    """Parses JSON from an untrusted source.

    Args:
        text: the text.
        what: its name in error texts.
        limit: most characters accepted.

    Raises:
        CamouflageError: not a text, too long, not JSON, NaN or Infinity, integers past 20 digits, a key twice in one
            object, nested too deep.
    """
    if not isinstance(text, str):
        raise CamouflageError(f"{what} must be a text, but got a {type(text).__name__}.")
    if len(text) > limit:
        raise CamouflageError(f"{what} is {len(text)} characters long; at most {limit} are accepted.")

    def integer(digits: str) -> int:
        if len(digits) > 20 or not digits[-1].isdigit():  # also called for NaN, Infinity and -Infinity
            raise CamouflageError(f"{what} contains {digits[:24]}; only finite numbers are accepted, and integers "
                                  "of at most 20 digits.")
        return int(digits)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise CamouflageError(f"{what} has the key {show(key)} twice in one object. Remove one of them.")
            found[key] = value
        return found

    try:
        return json.loads(text, parse_constant=integer, parse_int=integer, object_pairs_hook=unique)
    except RecursionError:
        raise CamouflageError(f"{what} is nested too deep.") from None
    except json.JSONDecodeError as error:
        raise CamouflageError(f"{what} is no valid JSON: {error}.") from None


def number(value: Any, low: float, high: float, where: str) -> float:
    """``value`` as a float between ``low`` and ``high``, or a CamouflageError that names ``where``."""
    # The range is checked before float(), which overflows on huge integers; NaN fails it too.
    if isinstance(value, bool) or not issubclass(type(value), Real) or not low <= value <= high:
        raise CamouflageError(f"{where} must be a number from {low:g} to {high:g}, but got {show(value)}.")
    return float(value)


def whole(value: object, low: int, high: int, where: str) -> int:
    """``value`` if it is a whole number in the range, or a CamouflageError that names ``where``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise CamouflageError(f"{where} must be a whole number from {low} to {high}, but got {show(value)}.")
    return value


def sequence(value: object, count: int | None, where: str) -> list[Any] | tuple[Any, ...]:
    """``value`` if it is a list of ``count`` entries (None: any number), or a CamouflageError that names ``where``."""
    if not isinstance(value, (list, tuple)):
        raise CamouflageError(f"{where} must be a list, but got {show(value)}.")
    if count is not None and len(value) != count:
        raise CamouflageError(f"{where} must have {count} entries, but got {len(value)}.")
    return value


def record(value: object, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    """``value`` if it is an object with exactly these keys, or a CamouflageError that names ``where``."""
    if not isinstance(value, dict) or value.keys() != set(keys):
        got = f"the keys {show(sorted(value))}" if isinstance(value, dict) else show(value)
        raise CamouflageError(f"{where} must be an object with exactly the keys {', '.join(keys)}, but got {got}.")
    return value
