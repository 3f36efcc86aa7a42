"""A privacy card: one page that a data-protection officer files, with what was measured and what was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .page import document, share, table, text

NEVER = (
    "Bodies, gait, hair beyond the heads, clothes, tattoos, name tags, number plates, lettering, mirrors and places.",
    "Whether somebody who knows the scene can tell who it is.",
    "Persons whom no detector found in the original.",
    "Recognisers that are not named here, and people who look.",
)
"""What no evaluation of ours measures."""
_SHORT = 12  # digits of a digest


def card(results: Mapping[str, Any], run: Mapping[str, Any] | None, residual: str, made: str) -> str:
    """The page.

    Args:
        results: of the evaluation.
        run: the run that made the pictures: "pipeline", "workflow" and "weights" (digests), "software"; None where it
            is not known. Its seed has no place on a card: whoever has it can repeat the run.
        residual: of a review by people, see :func:`..batch.reviewing.residual_risk`.
        made: the date.
    """
    pictures, faces = results["pictures"], results["faces"]
    about = {"Originals": pictures["originals"], "Anonymized pictures that were compared": pictures.get("there", 0),
             "Not there, or may not leave": pictures["originals"] - pictures.get("there", 0),
             "Persons": results["persons"], "Protocol": results["protocol"], "Made on": made,
             "Residual risk by people who looked": residual}
    return document("Privacy card", [
        "<h1>Privacy card</h1>", table([], list(about.items())),
        "<h2>How the pictures were made</h2>", table([], _run(run)),
        "<h2>Who looked</h2>", table(["Recogniser", "Version", "SHA-256 of its weights"], [
            (one["recogniser"]["name"], one["recogniser"]["version"], _digests(one["recogniser"]["sha256"]))
            for one in results["recognisers"]]),
        f"<p>{text(', '.join(f'{name} {version}' for name, version in results['software'].items()))}</p>",
        "<h2>What was measured</h2>", table(["What", "Share of the persons [95 %]", "By"], _measured(results)),
        f"<p>Faces that were compared: {faces['judged']}; lost: {faces['lost']}; undetected: {faces['undetected']}; "
        f"new: {faces['new']}. Lost and undetected faces count as not protected.</p>",
        "<h2>What was not measured</h2>",
        "<ul>" + "".join(f"<li>{text(line)}</li>" for line in (*results["notes"], *NEVER)) + "</ul>",
        table([], [("Filed by", ""), ("Date and signature", "")])])


def _run(run: Mapping[str, Any] | None) -> Sequence[tuple[str, str]]:
    if run is None:
        return [("Method", "not known: the pictures are not the output of anonymize")]
    return [("Pipeline", run["pipeline"]), ("Workflow, SHA-256", _digests([run.get("workflow") or ""])),
            ("Weights, SHA-256", _digests([run.get("weights") or ""])),
            ("Software", ", ".join(f"{name} {version}" for name, version in run["software"].items()))]


def _measured(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for one in results["recognisers"]:
        name = one["recogniser"]["name"]
        for point in one["operating_points"]:
            at = f"at a false-accept rate of {point['false_accept_rate']:g}"
            rows += [(f"reidentified {at}", share(point["reidentified"]), name),
                     (f"protected {at}", share(point["protected"]), name)]
        if found := one["identification"]:
            rows.append((f"found first among {found['gallery']} originals (chance {found['rank_1']['chance']:.3g})",
                         share(found["rank_1"]), name))
        if linked := one["linkage"]:
            rows.append((f"linked with another photo of theirs (chance {linked['rank_1']['chance']:.3g})",
                         share(linked["rank_1"]), name))
    return rows


def _digests(values: Sequence[str]) -> str:
    return ", ".join(f"{value[:_SHORT]}…" for value in values if value) or "-"
