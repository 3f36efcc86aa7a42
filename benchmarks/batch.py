"""What a dataset costs: pictures a second of one worker and of two, memory over 2,000 pictures, what the engine adds.

    python -m benchmarks.batch --workers [--pictures 400]
    python -m benchmarks.batch --memory [--pictures 2000]
    python -m benchmarks.batch --overhead [--pictures 12]
    python -m benchmarks.batch --throughput

"workers" runs Redact over small photos, no two alike, with one worker kept to one core (taskset), then with two workers
on two cores, each kept to its own; the start of ComfyUI and of Ray is not counted, from the first account on. "memory"
runs one worker over 40 photos again and again, under other keys, and reads the resident memory of all its processes at
picture 200 and at the last. "overhead" anonymizes
photos of 1024 px by a worker, from file to file, and by the library in this process, decoding and saving included,
in turns. "throughput" is Redact at several sizes with all cores. Run it with the environment of run.py, after
``python run.py test`` has fetched the photos, and with CAMOUFLAGE_COMFYUI set.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
SHARD = 20  # pictures
DIFFERENT = 40  # pictures of the long run: what was seen once is remembered, so that the others take little time


def photos_of(count: int, size: int) -> Iterator[bytes]:
    """Portraits, no two with the same pixels, as PNG files."""
    from PIL import Image

    import photos

    people = [Image.fromarray(photos.load(name)) for name in ("astronaut", "hopper", "obama", "biden")]
    draw = np.random.default_rng(0)
    for number in range(count):
        person = people[number % len(people)]
        side = min(person.size)
        image = person.crop((0, 0, side, side)).resize((size, size), Image.Resampling.LANCZOS)
        pixels = np.asarray(image).astype(np.int16) + draw.integers(-2, 3, (size, size, 1), np.int16)
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG", compress_level=1)
        yield file.getvalue()


def shards(folder: Path, count: int, size: int, different: int | None = None) -> list[Path]:
    """The photos as tar shards; where only some are different, they come again and again under other keys."""
    pictures = itertools.cycle(photos_of(different or count, size))
    found = []
    for first in range(0, count, SHARD):
        path = folder / f"{first // SHARD:05d}.tar"
        with tarfile.open(path, "w") as tar:
            for k in range(min(SHARD, count - first)):
                data = next(pictures)
                member = tarfile.TarInfo(f"{first + k:06d}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        found.append(path)
    return found


@contextlib.contextmanager
def running(paths: list[Path], output: Path, *options: str, cores: str = "") -> Iterator[object]:
    """A run of anonymize."""
    from killing import Run

    run = Run(["anonymize", *paths, "--output", output, *options])
    if cores:
        subprocess.run(["taskset", "-a", "-p", "-c", cores, str(run.process.pid)], check=True, capture_output=True)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()


def accounts(output: Path) -> dict[int, float]:
    """When each unit was done."""
    return {int(path.stem): path.stat().st_mtime for path in (output / "_camouflage" / "accounts").glob("*.jsonl")}


def rate(paths: list[Path], output: Path, *options: str, cores: str, workers: int) -> float:
    """Pictures a second between the first accounts of all workers and the last."""
    with running(paths, output, *options, cores=cores) as run:
        code, told = run.end(timeout=7200)
        assert code == 0, told
    times = sorted(accounts(output).values())
    return SHARD * (len(times) - workers) / (times[-1] - times[workers - 1])


def print_workers(count: int) -> None:
    """One worker on a core, two on two."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        paths = shards(folder / "in", count, 160)
        one = rate(paths, folder / "one", cores="0", workers=1)
        two = rate(paths, folder / "two", "--workers", "2", cores="0,1", workers=2)
        same = all((folder / "one" / path.name).read_bytes() == (folder / "two" / path.name).read_bytes()
                   for path in paths)
    print(f"{count} photos of 160 px, Redact: one worker {one:.2f} a second, two {two:.2f}: {two / one:.2f} times; "
          f"{'the same bytes' if same else 'OTHER BYTES'}")


def resident(pids: list[int]) -> dict[str, float]:
    """MB of each process, by a word of its command line."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            name = "ComfyUI" if "serve.py" in words else "anonymize"
            found[name] = max(found.get(name, 0.0), pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return found


def print_memory(count: int) -> None:
    """Resident memory of every process at picture 200 and at the last."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        paths = shards(folder / "in", count, 96, DIFFERENT)
        with running(paths, folder / "out") as run:
            seen: dict[int, dict[str, float]] = {}
            while run.process.poll() is None:
                done = SHARD * len(accounts(folder / "out"))
                if done and done not in seen:
                    seen[done] = resident(run.family())
                    print(done, {who: f"{size:.0f} MB" for who, size in seen[done].items()}, flush=True)
                time.sleep(0.1)
    first = seen[min(done for done in seen if done >= 200)]
    last = seen[max(done for done in seen if len(seen[done]) > 1)]
    for who in first:
        print(f"{who}: {first[who]:.0f} MB at picture 200, {last[who]:.0f} MB at the last: "
              f"{100 * (last[who] / first[who] - 1):+.1f} %")


def print_overhead(count: int) -> None:
    """A worker and the library in turns, from file to file."""
    from camouflage.batch.graphs import make_graph, read_workflow
    from camouflage.batch.host import Host, ServerOptions
    from camouflage.batch.names import Names
    from camouflage.batch.plan import Plan
    from camouflage.batch.sources import Wanted, open_source
    from camouflage.batch.worker import Worker
    from camouflage.comfy.installed import default_comfyui

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for number, data in enumerate(photos_of(count + 2, 1024)):
            (folder / "in" / f"{number:03d}.png").write_bytes(data)
        with Host(ServerOptions(default_comfyui())) as host:
            graph = make_graph(read_workflow(ROOT / "workflows" / "camouflage_redact.json"), host.object_info())
            worker_times, library_times = [], []
            for number in range(count + 2):
                source, _ = open_source(Wanted((folder / "in" / f"{number:03d}.png",), Names()))
                plan = Plan(source, folder / f"out{number}", "redact", graph, graph, 0, 1, host.options)
                plan.output.mkdir()
                worker, (unit,) = Worker(plan, host), source.units()
                begun = time.perf_counter()
                (outcome,) = worker.work(unit, {})
                worker_times.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                data = directly(folder / "in" / f"{number:03d}.png", folder / f"{number:03d}.png")
                library_times.append(time.perf_counter() - begun)
                same = data == (plan.output / outcome.name).read_bytes()
                print(f"{number}: worker {worker_times[-1]:.2f} s, library {library_times[-1]:.2f} s, "
                      f"{'same bytes' if same else 'OTHER BYTES'}", flush=True)
    worker_time, library_time = (statistics.median(times[2:]) for times in (worker_times, library_times))
    print(f"{count} photos of 1024 px, Redact, median: worker {worker_time:.2f} s, library {library_time:.2f} s: "
          f"{100 * (worker_time / library_time - 1):+.1f} %")


def directly(photo: Path, target: Path) -> bytes:
    """The shipped Redact by the library alone: decode, find, cover, verify, encode, write."""
    from benchmarks.verify import make_verifier
    from camouflage.files import write_whole
    from camouflage.output.encoding import encode
    from camouflage.photos import decode
    from camouflage.verification.detection import find_faces
    from camouflage.verification.hidden import Hidden
    from camouflage.verification.redaction import Region, redact

    if not VERIFIER:
        VERIFIER.append(make_verifier())
    verifier = VERIFIER[0]
    pixels = np.asarray(decode(photo, profile=True))
    faces = find_faces(verifier.detectors, pixels)
    hidden = Hidden()
    for number, face in enumerate(faces):
        hidden = hidden.with_person(number, "solid", [Region(face.box_ltrb, turn=face.turn)])
    originals = verifier.originals(pixels, faces=faces)
    result, _ = verifier.settle(originals, redact(pixels, hidden.regions), redacted=hidden)
    data = encode(result, "PNG")
    write_whole(target, data)
    return data


VERIFIER: list = []


def print_throughput() -> None:
    """Redact with all cores, at several sizes."""
    for size in (256, 512, 1024):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "in").mkdir()
            paths = shards(folder / "in", 60, size)
            found = rate(paths, folder / "out", cores="", workers=1)
        print(f"Redact, {size} px: {found:.2f} a second, {1e6 / found / 3600 * len(os.sched_getaffinity(0)):.0f} "
              "CPU-hours a million", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    kinds = parser.add_mutually_exclusive_group(required=True)
    for name, run in (("workers", print_workers), ("memory", print_memory), ("overhead", print_overhead)):
        kinds.add_argument(f"--{name}", dest="run", action="store_const", const=run)
    kinds.add_argument("--throughput", action="store_true")
    parser.add_argument("--pictures", type=int)
    options = parser.parse_args()
    if options.throughput:
        print_throughput()
        return
    counts = {print_workers: 400, print_memory: 2000, print_overhead: 12}
    options.run(options.pictures or counts[options.run])


if __name__ == "__main__":
    sys.path.append(str(ROOT))
    main()
