"""The shipped workflows as the demo sees them: where their results stand, and what the verdicts say."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..files import ROOT


@dataclass(frozen=True)
class Pipeline:
    """A shipped workflow and where its results stand: file name -> (node class, title in the workflow).

    Attributes:
        name: of the workflow's file, after ``camouflage_``.
        title: for people.
        before, after: what the verdicts before and after the policy are about.
        result: the anonymized picture's title on the contact sheet.
        pictures, texts: further results.
        samples: whether it paints with a diffusion model, and so has a seed, a size and steps.
    """

    name: str
    title: str
    before: str
    after: str
    result: str
    pictures: dict[str, tuple[str, str]]
    texts: dict[str, tuple[str, str]]
    samples: bool = True

    @property
    def workflow(self) -> Path:
        return ROOT / "workflows" / f"camouflage_{self.name}.json"


SAVED = ("CamouflageSaveImage", "Anonymized")
VERIFIERS = ("CamouflageVerify", "CamouflageSafeSampler")
BEFORE = ("PreviewAny", "Verdict before the policy")  # this node is the demo's
CAPTION = {"caption": ("PreviewAny", "Caption")}
REPORT = {"report": ("PreviewImage", "Verification report")}
VERDICT = {"verdict": ("PreviewAny", "Verdict")}
PAINTED = ("As painted", "As saved", "Anonymized")
_BASE = Pipeline("base", "CAMOUFLaGE-Base", *PAINTED, {
    "depth": ("PreviewImage", "Depth map"),
    "normal": ("PreviewImage", "Normal map"),
    "segmentation": ("PreviewImage", "Segmentation map"),
    "pose": ("PreviewImage", "Pose map"),
    "lineart": ("PreviewImage", "Lineart map"),
    **REPORT}, {**CAPTION, **VERDICT})
_LIGHT = Pipeline("light", "CAMOUFLaGE-Light", *PAINTED, {
    "faces": ("PreviewImage", "Face preview"),
    "map": ("PreviewImage", "Map preview"),
    **REPORT}, {"attributes": ("PreviewAny", "Faces"), **VERDICT})
PIPELINES = {
    "redact": Pipeline("redact", "Redaction", "The photo as it is", "As saved", "The photo, redacted",
                       REPORT, {**VERDICT, "verdict_before": BEFORE}, samples=False),
    "base": _BASE,
    "base_few_steps": replace(_BASE, name="base_few_steps", title="CAMOUFLaGE-Base in few steps"),
    "base_commercial": replace(_BASE, name="base_commercial", title="CAMOUFLaGE-Base for commercial use"),
    "light": _LIGHT,
    "light_public": replace(_LIGHT, name="light_public", title="CAMOUFLaGE-Light, public weights"),
}
"""In the order in which they run: first what takes seconds and tells whether a face is found at all."""
CHOICES = {**{name: (name,) for name in PIPELINES}, "both": ("base", "light"), "all": ("base", "light", "redact")}
MEANING = {
    "safe": "a face is there, and the recogniser takes it for nobody of the photo",
    "redacted": "the head was covered, and nothing of the photo's face is found any more",
    "exempt": "by consent this person stays as they are; never counted as safe",
    "unverifiable": "nothing can be said, for instance because no face is left; never counted as a success",
    "recognisable": "this person is still found, or the place still looks like the photo; may not leave",
    "nobody": "no face was found in the photo; that proves nothing",
}


@dataclass(frozen=True)
class Results:
    """What a pipeline gave.

    Attributes:
        pictures, texts: by file name, without ending.
        saved: name and bytes of what it saved, first the picture, then its manifest.
    """

    pictures: dict[str, Image.Image]
    texts: dict[str, str]
    saved: dict[str, bytes]

    @property
    def anonymized(self) -> Image.Image:
        """The saved picture."""
        return Image.open(io.BytesIO(next(iter(self.saved.values()))))


def persons(verdict: str) -> list[str]:
    """The lines of a verdict that speak of persons, without the picture's number: there is but one."""
    lines = [line.strip(" -*").removeprefix("picture 0: ") for line in verdict.splitlines()]
    return [line for line in lines if line.startswith(("person ", "new face ", "no face"))]


def before_the_policy(manifest: Mapping[str, Any]) -> str:
    """The verdicts on the picture as it was painted, from the manifest of what was saved; lines for :func:`persons`.

    They stand in its tries, so that nobody must see, or paint again, a picture that was not verified.
    """
    known = {person["number"]: person for person in manifest["checked"]["persons"]}
    (kept,) = [one for one in manifest["checked"]["tries"] if one["kept"]]
    distance = kept["distance"]
    compared = "nothing to compare" if distance is None else f"smallest distance in the picture {distance:.3f}"
    lines = []
    for number, verdict in enumerate(kept["verdicts"]):
        place = ""
        if number in known and known[number]["kind"] == "original":  # the others may be numbered anew afterwards
            left, top, right, bottom = known[number]["box_ltrb"]
            place = f" ({right - left:.0f} x {bottom - top:.0f} px at {left:.0f}, {top:.0f})"
        counts = "no distance that counts" if verdict == "unverifiable" else compared
        lines.append(f"{'person' if place else 'new face'} {number}{place}: {verdict}, {counts}")
    return "\n".join(lines) or "no face found in the original"


def verdict_of(line: str) -> str:
    """The verdict in a line of :func:`persons`."""
    return next((word for word in MEANING if f": {word}," in line), "nobody")


def verdicts(pipeline: Pipeline, results: Results) -> list[tuple[str, str]]:
    """What is said of every person, before and after: (line for people, verdict)."""
    told = ((pipeline.before, "verdict_before"), (pipeline.after, "verdict"))
    return [(f"{when}: {line}", verdict_of(line)) for when, text in told for line in persons(results.texts[text])]
