"""Checkpoints are there whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from camouflage.errors import CamouflageError
from camouflage.training import checkpoints
from camouflage.training.checkpoints import EMA, OPTIMIZER, WEIGHTS

ROOT = Path(__file__).resolve().parents[2]


def write(folder, step):
    tensors = {name: {"a": torch.full((3,), float(step)), "b": torch.arange(4.0)} for name in (WEIGHTS, EMA)}
    return checkpoints.save(folder, step, tensors, {"optimizer": {"state": {0: {"step": torch.tensor(step)}}}},
                            {"kind": "light"})


def test_what_is_saved_comes_back(tmp_path):
    path = write(tmp_path, 7)
    found = checkpoints.latest(tmp_path)
    assert (found.path, found.step, found.state["kind"]) == (path, 7, "light")
    assert found.tensors(EMA)["a"].tolist() == [7.0] * 3
    assert found.optimizer()["optimizer"]["state"][0]["step"] == 7
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-00000007"]


@pytest.mark.parametrize("name", [WEIGHTS, EMA, OPTIMIZER, "state.json"])
@pytest.mark.parametrize("damage", ["shorter", "gone", "empty", "one bit"])
def test_a_damaged_one_is_passed_over(tmp_path, name, damage):
    write(tmp_path, 1)
    file = write(tmp_path, 2) / name
    content = file.read_bytes()
    file.unlink()
    if damage != "gone":
        changed = bytes([content[len(content) // 2] ^ 1])
        file.write_bytes({"shorter": content[:-1], "empty": b"",
                          "one bit": content[:len(content) // 2] + changed + content[len(content) // 2 + 1:]}[damage])
    if (name, damage) == ("state.json", "one bit"):
        return  # what a bit of the description does is anyone's guess; the sums of the weights stand beside it
    told = []
    assert checkpoints.latest(tmp_path, told.append).step == 1
    assert len(told) == 1 and "step-00000002" in told[0]


def test_what_is_still_being_written_is_no_checkpoint(tmp_path):
    write(tmp_path, 1)
    os.rename(write(tmp_path, 2), tmp_path / ".step-00000002.partial")
    assert checkpoints.latest(tmp_path).step == 1
    checkpoints.prune(tmp_path, 3, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoints.latest(tmp_path / "nowhere") is None


def test_pruning_keeps_the_newest_and_chosen_ones(tmp_path):
    for step in (1, 2, 3, 4, 5, 6, 7):
        write(tmp_path, step)
    checkpoints.prune(tmp_path, 2, 3)
    assert checkpoints.steps(tmp_path) == [3, 6, 7]
    checkpoints.prune(tmp_path, 1, 0)
    assert checkpoints.steps(tmp_path) == [7]


def test_a_full_disk_keeps_the_one_before(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(CamouflageError, match=r"step 2 could not be written.*No space left.*Make room"):
        write(tmp_path, 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000001"]


WRITER = """
import sys; sys.path.append({root!r}); sys.path.insert(0, {here!r})
from pathlib import Path
from test_checkpoints import write
for step in range(1, 10**6):
    write(Path({folder!r}), step)
    if step == 1: print("one", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_at_any_moment_a_whole_one_is_there(tmp_path):
    code = WRITER.format(root=str(ROOT), here=str(Path(__file__).parent), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        for pause in (0.05, 0.013, 0.031, 0.007, 0.002):
            time.sleep(pause)
            process.send_signal(signal.SIGSTOP)  # the disk as a kill at this moment would leave it
            newest = checkpoints.steps(tmp_path)[-1]
            assert checkpoints.latest(tmp_path, pytest.fail).step == newest
            process.send_signal(signal.SIGCONT)
        process.kill()
    found = checkpoints.latest(tmp_path, pytest.fail)
    assert found.tensors(WEIGHTS)["a"].tolist() == [float(found.step)] * 3


def test_a_disk_that_says_only_on_syncing_that_it_is_full_is_believed(tmp_path, monkeypatch):
    """As network file systems do."""
    write(tmp_path, 1)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CamouflageError, match=r"step 2 could not be written.*No space left"):
        write(tmp_path, 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000001"]
