"""What pictures are called in the output."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """The names of the source, or names that say nothing of them.

    Attributes:
        secret: key of the hash (HMAC with SHA-256), hex; "" keeps the names. Without it somebody who guesses a name
            could hash it and compare. It stands in the run's private folder.
    """

    secret: str = ""

    def of(self, key: str) -> str:
        """The name in the output, without ending."""
        if not self.secret:
            return key
        return hmac.new(bytes.fromhex(self.secret), key.encode(), hashlib.sha256).hexdigest()[:24]
