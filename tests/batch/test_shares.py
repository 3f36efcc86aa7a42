"""Workers keep to cores of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from camouflage.batch.shares import Share, cores, part_of
from camouflage.files import ROOT


@pytest.mark.parametrize("available", [list(range(8)), [0, 2, 5, 6, 9], [3], list(range(7))])
@pytest.mark.parametrize("slots", [1, 2, 3, 5])
def test_shares_are_all_cores_once_where_there_are_enough(available, slots):
    parts = [part_of(available, slot, slots) for slot in range(slots)]
    assert all(parts)
    if len(available) >= slots:
        assert sorted(core for part in parts for core in part) == available
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    else:
        assert {core for part in parts for core in part} <= set(available)


@pytest.mark.skipif(len(cores()) < 2, reason="needs two cores")
def test_two_processes_take_two_shares_and_their_children_keep_to_them(tmp_path):
    code = (f"import sys, subprocess; sys.path.append({str(ROOT)!r}); from pathlib import Path\n"
            "from camouflage.batch.shares import Share\n"
            f"share = Share(2, Path({str(tmp_path)!r}))\n"
            "child = subprocess.run([sys.executable, '-c', 'import os; print(sorted(os.sched_getaffinity(0)))'],\n"
            "                       capture_output=True, text=True).stdout.strip()\n"
            "print(share.cores, child, sep=';', flush=True); sys.stdin.read()")
    runs = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)]
    said = [run.stdout.readline().strip().split(";") for run in runs]
    for run in runs:
        run.communicate()
    assert all(own == child for own, child in said) and said[0] != said[1]


def test_one_worker_has_the_whole_machine(tmp_path):
    before = cores()
    assert Share(1, tmp_path).cores == [] and cores() == before and not list(tmp_path.iterdir())
