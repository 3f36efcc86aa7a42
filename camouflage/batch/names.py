"""What pictures are called in the output."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from .photos import RUN


@dataclass(frozen=True)
class Names:
    """The names of the source, or names that say nothing of them.

    Attributes:
        secret: key of the hash (HMAC with SHA-256), hex; "" keeps the names. Without it somebody who guesses a name
            could hash it and compare.
    """

    secret: str = ""

    def of(self, key: str) -> str:
        """The name in the output, without ending."""
        if not self.secret:
            return key
        return hmac.new(bytes.fromhex(self.secret), key.encode(), hashlib.sha256).hexdigest()[:24]


def secret_of(output: Path) -> str:
    """The key of a run's names, made if there is none yet; the same for all processes that begin at once.

    It stands in the run's private folder. Raises OSError.
    """
    file = output / RUN / "names.key"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        mine = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
        mine.write_text(secrets.token_hex(16), encoding="ascii")
        os.chmod(mine, 0o600)
        with contextlib.suppress(FileExistsError):
            os.link(mine, file)  # fails where another process was faster
        mine.unlink()
    return file.read_text(encoding="ascii")
