"""Tests of the frontend that run on the newest one, and with ``--all`` on every one.

On its own, for it must not be imported before pytest knows of ``--all``: not by a conftest.py.
"""

from __future__ import annotations

import pytest

from frontends import VERSIONS
from sampled import everything

NEWEST = pytest.mark.parametrize("version", VERSIONS if everything else VERSIONS[-1:], indirect=True, scope="session")
