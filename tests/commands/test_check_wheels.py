"""The check of wheels, with an index of its own in the place of pip's."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from scripts import check_wheels
from scripts.check_wheels import KNOWN, PYTHONS, TARGETS

NEEDS = {"deface": ["opencv-python", "tqdm", "only-windows; sys_platform == 'win32'", "spare; extra == 'gpu'"],
         "opencv-python": ["numpy>=2", "below>=1"], "transformers": ["tokenizers", "nowhere"]}


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str, str]]:
    """What has no wheel: (package, system, Python); the known gaps to begin with. Asked names are checked."""
    lacking = set(KNOWN)

    def pip(requirements, target, python):
        names = [Requirement(text).name for text in requirements]
        assert not {"tqdm", "numpy", "spare", "nowhere"} & {*names}, "ComfyUI's, or nobody's"
        assert "only-windows" not in names or target.sys_platform == "win32"
        if any((name, target.name, python) in lacking for name in names):
            return None
        return [{"metadata": {"name": name, "requires_dist": NEEDS.get(name)}} for name in names]

    monkeypatch.setattr(check_wheels, "pip", pip)
    return lacking


def test_known_gaps_are_shown_and_pass(index, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_wheels.main() == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if "`face-recognition-models" in line)
    assert row.count("no wheel") == len(TARGETS) and "Known: face-recognition-models: a source package" in shown
    assert shown.count("`deface") == 1 and "below" not in shown


def test_a_gap_below_a_package_is_named_with_its_way(index, capsys: pytest.CaptureFixture[str]) -> None:
    index.add(("below", "Linux arm64", "3.12"))
    index.add(("only-windows", "Windows x86-64", "3.10"))
    assert check_wheels.main() == 1
    shown = capsys.readouterr().out
    assert "| `below (through deface > opencv-python)` | yes | 3.10, 3.11, 3.13 | yes |" in shown
    assert "NO WHEEL: below on Linux arm64, Python 3.12" in shown
    assert "NO WHEEL: only-windows on Windows x86-64, Python 3.10" in shown


def test_a_gap_that_is_gone_is_told(index, capsys: pytest.CaptureFixture[str]) -> None:
    index.remove(("face-recognition-models", "Windows x86-64", PYTHONS[0]))
    assert check_wheels.main() == 1
    assert "NO GAP ANY MORE: face-recognition-models on Windows x86-64, Python 3.10" in capsys.readouterr().out
