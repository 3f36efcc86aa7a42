"""What is done with a picture that may not leave as it is (our choice)."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CamouflageError
from .redaction import MODES

UNSETTLED = ("redact", "block", "report")
NO_FACE = ("block", "pass", "skip")


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done with persons that are not settled, and with originals in which nobody is found.

    Attributes:
        unsettled: with a person who is neither safe nor redacted. "redact" replaces the head and judges again, until
            all are settled; "block" raises; "report" only says it.
        no_face: with a picture in whose original no face is found. "block" raises, for a detector's miss is no proof;
            "pass" lets it go on; "skip" leaves it out of its batch (a single picture raises). Without effect where
            ``unsettled`` is "report".
        redaction: how a head is replaced, of :data:`.redaction.MODES`; a later attempt is always solid, and larger.

    Raises:
        CamouflageError: none of these.
    """

    unsettled: str = UNSETTLED[0]
    no_face: str = NO_FACE[0]
    redaction: str = MODES[0]

    def __post_init__(self) -> None:
        for name, value, allowed in (("unsettled", self.unsettled, UNSETTLED), ("no_face", self.no_face, NO_FACE),
                                     ("redaction", self.redaction, MODES)):
            if value not in allowed:
                raise CamouflageError(f"A policy's {name} must be one of {', '.join(allowed)}, but got {value!r}.")


REDACT = Policy()
"""Nobody leaves unless they are proved to be another person, or hidden: the default."""
