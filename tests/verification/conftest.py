"""What the tests with painted persons have in common."""

import pytest

from camouflage.verification import likeness


@pytest.fixture
def only_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the world of ``painted`` all faces are flat and look alike as pictures; the recogniser alone is asked."""
    monkeypatch.setattr(likeness, "LIMITS", dict.fromkeys(likeness.LIMITS, 99.0))
    monkeypatch.setattr(likeness, "faded", lambda before, after: False)
