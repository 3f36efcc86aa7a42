"""A process of the suite that dies must not keep the others waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xdist")
SUPPORT = Path(__file__).resolve().parents[1] / "support"
CONFTEST = """
import scheduling
def pytest_xdist_make_scheduler(config, log):
    return scheduling.Scheduler(config, log)
"""
CLOSED = """
def pytest_runtest_logreport(report):
    if hasattr(report, "node") and report.nodeid == "test_4.py::test_a":
        report.node.send_runtest_some = closed
def closed(indices):
    raise OSError("cannot send (already closed?)")
"""


@pytest.mark.parametrize("more", ["", CLOSED], ids=["noticed at once", "noticed after work was sent to it"])
def test_a_crash_ends_one_test_and_the_others_run(tmp_path: Path, more: str) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST + more)
    for number in range(8):
        crash = "import os; os._exit(1)" if number == 4 else "pass"
        (tmp_path / f"test_{number}.py").write_text(f"def test_a(): pass\ndef test_b(): {crash}\ndef test_c(): pass\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run([sys.executable, "-m", "pytest", "-p", "xdist", "--numprocesses=2", "--dist=loadscope",
                          "--no-loadscope-reorder", "-p", "no:cacheprovider", "-q"], cwd=tmp_path, text=True,
                         env={**environment, "PYTHONPATH": str(SUPPORT)}, capture_output=True, timeout=120, check=False)
    assert run.returncode == 1 and "1 failed, 23 passed" in run.stdout, run.stdout
    assert "crashed while running 'test_4.py::test_b'" in run.stdout
