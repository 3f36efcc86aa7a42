"""Runs that are killed, and gone on with: the same bytes, nothing twice, nothing half-written, nobody left behind."""

from __future__ import annotations

import io
import random
import signal
import stat
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mixed_photos
from camouflage.batch.photos import RUN
from killing import Run
from sampled import long, sampled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
SHARDS, EACH = 3, 1
ACTOR = ("ray::", "MapWorker")


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[Path]:
    """Tar shards of small photos, no two alike."""
    folder = tmp_path_factory.mktemp("shards")
    for number in range(SHARDS):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for k in range(EACH):
                picture = mixed_photos.portrait(128 + 16 * (number * EACH + k))
                data = mixed_photos.encoded(picture)
                member = tarfile.TarInfo(f"{number}-{k}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return sorted(folder.glob("*.tar"))


def content(output: Path) -> dict[str, bytes]:
    """All that a run leaves: the pictures and the accounts; not the tables, which name the speed."""
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in sorted(output.rglob("*"))
            if path.is_file() and (RUN not in path.parts or "accounts" in path.parts)}


def seconds(run: Run) -> float:
    """How long a run takes that nobody stops."""
    begun = time.monotonic()
    code, told = run.end()
    assert code == 0, told
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """What an uninterrupted run leaves, and how long it takes."""
    output = tmp_path_factory.mktemp("whole") / "out"
    took = seconds(run := Run(["anonymize", *shards, "--output", output]))
    assert not run.orphans()
    found = content(output)
    assert len(found) == 2 * SHARDS, "a shard and its account"
    return found, took


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for temporary files, with a short name: the sockets of Ray lie below it."""
    with tempfile.TemporaryDirectory(prefix="c") as folder:
        yield Path(folder)


def ours(place: Path) -> list[Path]:
    """What we have put into it; torch has a cache there, too."""
    return sorted(place.glob("camouflage-*"))


def pictures(place: Path) -> list[Path]:
    """What looks like a picture in there."""
    return [path for path in place.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg", ".webp")]


@long
def test_two_workers_on_ray_leave_the_same_bytes(shards, whole, tmp_path, place):
    run = Run(["anonymize", *shards, "--output", tmp_path / "out", "--workers", "2"], TMPDIR=str(place))
    while not pictures(place):
        assert run.process.poll() is None, run.end()
        time.sleep(0.1)
    assert run.family(*ACTOR)
    assert {stat.S_IMODE(path.stat().st_mode) for path in ours(place)} == {0o700}, "for this user alone"
    code, told = run.end()
    assert code == 0, told
    assert content(tmp_path / "out") == whole[0]
    assert not ours(place), "neither a photo nor a log"
    assert not run.orphans()


def gone_on_with(shards: list[Path], output: Path, *options: str) -> None:
    """Runs the command again, to its end."""
    code, told = Run(["anonymize", *shards, "--output", output, *options]).end()
    assert code == 0, told


@pytest.mark.parametrize("moment", sampled(range(30), 1))
def test_killed_at_a_random_moment_and_gone_on_with(shards, whole, tmp_path, place, moment):
    expected, took = whole
    draw = random.Random(moment)
    options = ["--workers", "2"] if moment % 3 == 2 else []
    victims = {"driver": (), "host": ("serve.py",), **({"actor": ACTOR} if options else {})}
    victim = draw.choice(sorted(victims))
    output = tmp_path / "out"
    run = Run(["anonymize", *shards, "--output", output, *options], TMPDIR=str(place))
    time.sleep(draw.uniform(0.1, 1.1) * took * (1.5 if options else 1))
    run.kill(*victims[victim])
    if victim == "driver":
        run.process.wait()
        assert not run.orphans(), "after ten seconds nobody is left"
        assert not pictures(place)
        for path in output.glob("*.tar"):
            assert path.read_bytes() == expected[path.name], "whole, or not there"
    else:  # the run goes on by itself
        code, told = run.end()
        assert code == 0, told
        assert not ours(place) and not run.orphans()
    gone_on_with(shards, output, *options)
    assert content(output) == expected
    assert not list(output.rglob(".*-*.tar*")), "nothing half-written"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@long
def test_stopped_politely_it_says_so_and_leaves_nobody(shards, whole, tmp_path, place, number, workers):
    output = tmp_path / "out"
    run = Run(["anonymize", *shards, "--output", output, "--workers", workers], TMPDIR=str(place))
    while not list(output.glob("*.tar")):
        assert run.process.poll() is None
        time.sleep(0.1)
    run.kill(number=number)
    code, told = run.end()
    assert code == (130 if number == signal.SIGINT else 128 + number)
    assert "Traceback" not in told
    assert not ours(place) and not run.orphans()
    assert (output / RUN / "overview.html").is_file() and (output / RUN / "quarantine.csv").is_file()
    gone_on_with(shards, output)
    assert content(output) == whole[0]


@long
def test_array_jobs_share_the_work_and_do_not_meet(shards, whole, tmp_path):
    output = tmp_path / "out"
    runs = [Run(["anonymize", *shards, "--output", output, "--shard", f"{part}/2"]) for part in (1, 2)]
    assert [run.end()[0] for run in runs] == [0, 0]
    assert content(output) == whole[0]


@long
def test_two_runs_do_not_work_on_one_output(shards, tmp_path):
    output = tmp_path / "out"
    first = Run(["anonymize", *shards, "--output", output])
    while not (output / RUN / "run.json").is_file():
        assert first.process.poll() is None
        time.sleep(0.1)
    code, told = Run(["anonymize", *shards, "--output", output]).end()
    assert code == 2 and "Another process works on" in told
    first.kill()
    first.end()


@long
@pytest.mark.parametrize("node_dies", [False, True])
def test_a_cluster_of_two_nodes_leaves_the_same_bytes(shards, whole, tmp_path, node_dies):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        output = tmp_path / "out"
        run = Run(["anonymize", *shards, "--output", output, "--workers", "2", "--address", cluster.address])
        if node_dies:
            while not list(output.glob("*.tar")):
                assert run.process.poll() is None
                time.sleep(0.2)
            cluster.remove_node(node, allow_graceful=False)
        code, told = run.end()
        assert code == 0, told
        assert content(output) == whole[0]
    finally:
        cluster.shutdown()
