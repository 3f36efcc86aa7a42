"""The overview of a run: one HTML page without scripts, without pictures, without anything from elsewhere."""

from __future__ import annotations

import html
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from .accounts import FAULTY, SAVED, STATES, WITHHELD, Outcome
from .plan import Manifest

WORST = 50
MEANING = {
    "safe": "saved: a face is there, and it is nobody's of the original",
    "redacted": "saved: somebody was covered, and nothing of them is found any more",
    "exempt": "saved: somebody in it is not anonymized, by consent; everybody else is",
    "nobody": "saved: no face was found, and such pictures were allowed to pass",
    "accepted": "saved: a reviewer vouches for it, the verification does not",
    "blocked": "not saved: the verification did not let it pass",
    "rejected": "not saved: a reviewer rejected it",
    "unreadable": "not saved: it could not be read",
    "failed": "not saved: it could not be processed",
}
_BINS = [*(step / 10 for step in range(10, 25)), float("inf")]
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
table{border-collapse:collapse;width:100%;margin:1rem 0}td,th{padding:.35rem .6rem;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top;overflow-wrap:anywhere}th,td.n,td.bad{white-space:nowrap}td.n{text-align:right;font-variant-numeric:tabular-nums}
.bar{background:#2a6f97;height:1em;display:inline-block}.bad{color:#a4161a}
@media (prefers-color-scheme:dark){body{color:#eee;background:#181818}td,th{border-color:#444}.bar{background:#7cc0e8}
.bad{color:#ff8a80}}
"""


def page(manifest: Manifest, lines: Sequence[Outcome], done: int, total: int, seconds: float, worked: int,
         risk: str) -> str:
    """The page.

    Args:
        manifest: of the run.
        lines: of all pictures that are done.
        done, total: units of work.
        seconds, worked: how long this run took, and for how many pictures.
        risk: see :func:`~.reviewing.residual_risk`.
    """
    found = Counter(line.state for line in lines)
    rate = f"{worked / seconds:.2f} pictures a second ({worked} in {seconds:.0f} s)" if worked and seconds else "-"
    facts = {"Pipeline": manifest.settings["pipeline"], "Why this one": manifest.told,
             "Pictures": f"{len(lines)} accounted for; parts of the work done: {done} of {total}",
             "Speed of the last run": rate, "Seed": manifest.settings["seed"],
             "Batch size": manifest.settings["batch_size"], "Residual risk": risk,
             **{f"Version: {name}": version for name, version in manifest.software.items()}}
    known = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>"
                    for name, value in facts.items() if value != "")
    states = "".join(
        f"<tr><td>{state}</td><td class=n>{found[state]}</td><td>{MEANING[state]}</td></tr>"
        for state in STATES if found[state])
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Overview of a run</title><style>{STYLE}</style>
<h1>Overview of a run</h1>
<p>This page names the originals. It is for you, not for those who get the pictures.</p>
<table>{known}</table>
<h2>What became of the pictures</h2><table><tr><th>State</th><th>Pictures</th><th>Meaning</th></tr>{states}</table>
<h2>Distances</h2>{_distances(lines)}
<h2>Worst first</h2>{_worst(lines)}
<h2>Not in the output</h2>{_withheld(lines)}
"""


def _text(value: object) -> str:
    return html.escape(str(value))


def _distances(lines: Sequence[Outcome]) -> str:
    values = [line.distance for line in lines if line.state in SAVED and line.distance is not None]
    if not values:
        return "<p>In no saved picture was there a distance to measure.</p>"
    rows, most = [], 1
    for low, high in itertools.pairwise(_BINS):
        count = sum(low <= value < high for value in values)
        most = max(most, count)
        rows.append((f"{low:.1f} to {high:.1f}" if high < float("inf") else f"{low:.1f} and more", count))
    rows.insert(0, ("below 1", sum(value < 1 for value in values)))
    body = "".join(f"<tr><td>{name}</td><td class=n>{count}</td><td><span class=bar "
                   f"style=\"width:{20 * count / most:.1f}rem\"></span></td></tr>" for name, count in rows if count)
    return ("<p>The smallest distance between a person of the original and a face of the result, in units of the "
            "threshold: below 1 is recognisable. Of faces that were covered there is none.</p>"
            f"<table><tr><th>Distance</th><th>Pictures</th><th></th></tr>{body}</table>")


def _worst(lines: Sequence[Outcome]) -> str:
    near = sorted((line for line in lines if line.state in SAVED and line.distance is not None),
                  key=lambda line: (line.distance, line.key))[:WORST]
    body = "".join(f"<tr><td>{_text(line.key)}</td><td>{line.state}</td><td class=n>{line.distance:.3f}</td></tr>"
                   for line in near)
    return f"<table><tr><th>Picture</th><th>State</th><th>Distance</th></tr>{body}</table>" if near else "<p>None.</p>"


def _withheld(lines: Sequence[Outcome]) -> str:
    out = [line for line in lines if line.state in (*WITHHELD, *FAULTY)]
    if not out:
        return "<p>Everything was saved.</p>"
    reasons = Counter((line.state, line.reason) for line in out)
    body = "".join(f"<tr><td class=bad>{state}</td><td class=n>{count}</td><td>{_text(reason)}</td></tr>"
                   for (state, reason), count in reasons.most_common(WORST))
    return ("<p>Each is named in <code>quarantine.csv</code>.</p><table><tr><th>State</th><th>Pictures</th>"
            f"<th>Reason</th></tr>{body}</table>")


def summary(found: Mapping[str, int]) -> str:
    """The counts in a line."""
    return ", ".join(f"{found[state]} {state}" for state in STATES if found.get(state)) or "nothing yet"
