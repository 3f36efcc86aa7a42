"""Seconds a photo and peak memory of verification and redaction, and the distances that the verdicts rest on.

    python -m benchmarks.verify [--runs 3] [--threads 2] [--distances] [--crowd]

Each size runs in a process of its own, whose peak memory is its own, libraries and networks included. "verify" finds
and embeds everybody in the original and judges a result (the original as JPEG 30); "redact" judges the original,
redacts everybody and judges again, with the original's faces known. ``--distances`` prints for every test photo the
largest distance to itself after each change, and the smallest after each attack on a redaction. Run it with the
environment of run.py, after ``python run.py test`` has fetched the photos. ``--crowd`` times a picture of 10 megapixels
with 72 faces instead: redacted and verified as the shipped workflow does it, and the untouched photo verified.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

SIZES, FACES = (512, 1024, 2048), {1: "astronaut", 6: "six"}


def make_verifier() -> Any:
    """The default detectors and recogniser."""
    from camouflage.verification.centerface import CenterFace
    from camouflage.verification.detection import DlibHog
    from camouflage.verification.recognition import DlibRecogniser
    from camouflage.verification.verify import Verifier

    recogniser = DlibRecogniser()
    return Verifier((CenterFace(), DlibHog()), recogniser, recogniser.threshold)


def measure(size: int, name: str, runs: int) -> dict[str, float]:
    """Seconds of the first and median seconds of the later runs, in this process."""
    import cv2

    import photos
    from attacks import jpeg

    pixels = photos.load(name)
    factor = size / max(pixels.shape)
    pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    result, verifier = jpeg(pixels, 30), make_verifier()
    verify, redact = [], []
    for _ in range(runs + 1):
        started = time.perf_counter()
        originals = verifier.originals(pixels)
        verifier.verify(originals, result)
        verify.append(time.perf_counter() - started)
        started = time.perf_counter()
        verifier.settle(originals, pixels)
        redact.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"faces": len(originals.faces), "first": verify[0], "verify": statistics.median(verify[1:]),
            "redact": statistics.median(redact[1:]), "peak_mb": peak}


def print_times(runs: int, threads: int) -> None:
    """One row a size and number of faces."""
    print(f"{threads} threads, median of {runs} runs; 'first' also pays for what is set up once for a size\n")
    print("| longer side | faces | verify, s | first, s | redact, s | peak memory, MB |\n|---|---|---|---|---|---|")
    for size in SIZES:
        for faces, name in FACES.items():
            command = [sys.executable, "-m", "benchmarks.verify", "--one", str(size), name, "--runs", str(runs),
                       "--threads", str(threads)]
            row = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
            print(f"| {size} px | {row['faces']:.0f} of {faces} | {row['verify']:.1f} | {row['first']:.1f} | "
                  f"{row['redact']:.1f} | {row['peak_mb']:.0f} |", flush=True)


def print_crowd() -> None:
    """72 pasted heads of 110 px on 3872 x 2592 px."""
    import pasted
    from camouflage.verification.detection import find_faces
    from camouflage.verification.hidden import Hidden
    from camouflage.verification.redaction import Region, redact

    width, height = 3872, 2592
    photo, people, verifier = pasted.background((width, height)), list(pasted.PEOPLE.values()), make_verifier()
    for i in range(72):
        place = round((i % 9 + 0.5) * width / 9), round((i // 9 + 0.5) * height / 8)
        pasted.paste(photo, people[i % len(people)], place, 110)
    started = time.perf_counter()
    faces = find_faces(verifier.detectors, photo)
    hidden = Hidden()
    for number, face in enumerate(faces):
        hidden = hidden.with_person(number, "solid", [Region(face.box_ltrb, turn=face.turn)])
    originals = verifier.originals(photo, faces=faces)
    verifier.settle(originals, redact(photo, hidden.regions), redacted=hidden)
    print(f"{len(faces)} of 72 faces; Redact, then Verify: {time.perf_counter() - started:.0f} s")
    started = time.perf_counter()
    verifier.settle(verifier.originals(photo), photo)
    print(f"Verify alone, everybody redacted by its policy: {time.perf_counter() - started:.0f} s")


def heading(columns: Iterable[str]) -> str:
    """The first two lines of a table."""
    names = ["photo", *columns]
    return "| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|"


def print_distances() -> None:
    """Two tables, one row a photo."""
    import photos
    from attacks import ATTACKS, CHANGES
    from camouflage.verification.policy import Policy
    from camouflage.verification.redaction import MODES

    verifier = make_verifier()
    originals = {name: verifier.originals(photos.load(name)) for name in photos.NAMES}
    columns = [f"{mode}: {attack}" for mode in MODES[1:] for attack in ATTACKS]
    rows = []
    print(f"\nlargest distance of a person after each change\n\n{heading(CHANGES)}")
    for name in photos.NAMES:
        pixels = photos.load(name)
        checked = [verifier.verify(originals[name], change(pixels)) for change in CHANGES.values()]
        print(f"| {name} | " + " | ".join(f"{max(p.distance for p in one.persons):.2f}" for one in checked) + " |",
              flush=True)
        hidden = {mode: verifier.settle(originals[name], pixels, Policy(redaction=mode)) for mode in MODES}
        smallest = [min(person.distance for person in hidden[mode][1].persons) for mode in MODES]
        for mode in MODES[1:]:
            for attack in ATTACKS.values():
                attacked = hidden[mode][0]
                for face in originals[name].faces:
                    attacked = attack(attacked, face.box_ltrb)
                one = verifier.verify(originals[name], attacked)
                smallest.append(min(person.distance for person in one.persons))
        rows.append(f"| {name} | " + " | ".join(f"{distance:.2f}" for distance in smallest) + " |")
    print("\nsmallest distance to anybody of the original after redaction and after each attack\n\n"
          + heading([*MODES, *columns]))
    print("\n".join(rows))


def main() -> None:
    """Reads the arguments and prints."""
    parser = argparse.ArgumentParser(description="Time, memory and distances of the verification.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--distances", action="store_true")
    parser.add_argument("--crowd", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # before any library reads them
    import cv2

    cv2.setNumThreads(options.threads)
    if options.one:
        print(json.dumps(measure(int(options.one[0]), options.one[1], options.runs)))
        return
    if options.crowd:
        print_crowd()
        return
    print_times(options.runs, options.threads)
    if options.distances:
        print_distances()


if __name__ == "__main__":
    main()
