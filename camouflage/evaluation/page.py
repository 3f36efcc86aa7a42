"""The report of an evaluation: one HTML page without scripts and without pictures of persons."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..batch.overview import STYLE
from .seeing import JUDGED, LOST, OUTSIDE, UNDETECTED, WITHHELD

MEANING = {
    JUDGED: "a face is at their place, and was compared",
    UNDETECTED: "no face is found in the whole anonymized picture; this is no success",
    LOST: "faces are found, but none at their place; this is no success",
    WITHHELD: "the picture may not leave, or is not there",
    OUTSIDE: "the anonymized picture was cut and does not show their place",
}
_ATTRIBUTES = ("attributes", "attributes_second")
_STYLE = STYLE + """th{white-space:normal}img{max-width:100%;height:auto}
@media (prefers-color-scheme:dark){img{background:#fff}}
"""


def page(results: Mapping[str, Any], plots: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        results: as they are written to ``results.json``.
        plots: PNG files by title.
    """
    facts = {"Protocol": results["protocol"], "Originals": results["pictures"]["originals"],
             "Persons": results["persons"], **{f"Version: {name}": value
                                               for name, value in results["software"].items()}}
    faces = [(state, results["faces"][state], meaning) for state, meaning in MEANING.items() if results["faces"][state]]
    faces += [("new", results["faces"]["new"], "a face where the original has none")] if results["faces"]["new"] else []
    parts = [
        "<h1>Evaluation of an anonymization</h1>",
        table([], [(name, value) for name, value in facts.items()]),
        "<h2>Faces of the originals</h2>", table(["State", "Faces", "Meaning"], faces),
        "<h2>Who is recognised</h2>", *(_recogniser(one) for one in results["recognisers"]),
        *(_paper(one) for one in results.get("paper", ())),
        *(f"<h2>{text(title)}</h2>{_values(results[key])}" for key, title in (("utility", "What is kept"),
                                                                               ("quality", "How pictures look"))
          if results.get(key)),
        _attacks(results.get("attacks") or ()),
        "<h2>Plots</h2>" if plots else "",
        *(figure(title, data) for title, data in plots.items()),
        "<h2>What was not measured</h2>" + _list(results["notes"]),
    ]
    return document("Evaluation of an anonymization", parts)


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page, without scripts, that prints well."""
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{text(title)}</title><style>{_STYLE}</style>{''.join(parts)}\n")


def figure(title: str, png: bytes) -> str:
    """A plot, inside the page."""
    return f'<figure><img alt="{text(title)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></figure>'


def _recogniser(of: Mapping[str, Any]) -> str:
    rows = [(f"{point['false_accept_rate']:g}", share(point["reidentified"]), share(point["protected"]),
             share(point["originals_true_accepts"])) for point in of["operating_points"]]
    rows += [(f"{one['false_accept_rate']:g}", "no support", one["why"], "") for one in of["unsupported"]]
    told = f"<h3>{text(of['recogniser']['name'])}</h3>" + table(
        ["False-accept rate", "Reidentified [95 %]", "Protected [95 %]", "Originals: recognised"], rows)
    found = of["identification"]
    if found:
        told += table(["In a gallery of " + str(found["gallery"]), "Found [95 %]", "Chance", "At most, if whoever "
                        "was not found had been"], [(f"rank {k}", share(found[f"rank_{k}"]),
                                                     f"{found[f'rank_{k}']['chance']:.3g}",
                                                     f"{found[f'rank_{k}']['at_most']:.3g}") for k in (1, 5, 10)])
    if of["linkage"]:
        one = of["linkage"]
        told += (f"<p>Linkage of anonymized photos of one person: rank 1 {share(one['rank_1'])}, chance "
                 f"{one['rank_1']['chance']:.3g}; equal error rate {one['equal_error_rate']:.3g}.</p>")
    return told


def _paper(of: Mapping[str, Any]) -> str:
    return (f"<h2>The paper's protocol: {text(of['recogniser']['name'])}</h2>"
            + table(["Recall@1", "Recall@5", "Recall@10", "mAP", "Queries", "Black tiles"],
                     [tuple("-" if value is None else f"{value:.3g}" for value in (
                         of["recall_1"], of["recall_5"], of["recall_10"], of["map"], of["queries"],
                         of["black_tiles"]))]) + _list(of["warnings"]))


def _attacks(attacks: Sequence[Mapping[str, Any]]) -> str:
    if not attacks:
        return ""
    rows = []
    for one in attacks:
        if "why" in one:
            rows.append((one["name"], one["why"], "", ""))
            continue
        rank = one["rank_1"]
        rows.append((one["name"], share(rank) if rank["value"] is not None else rank["reason"],
                     "-" if rank.get("chance") is None else f"{rank['chance']:.3g}",
                     f"{one['split']['train_persons']} and {one['split']['test_persons']}"))
    return ("<h2>Attacks</h2><p>Trained on pictures of other persons, tested on persons who were new. An attack that "
            "fails proves nothing: a larger one may not.</p>"
            + table(["Attack", "Rank 1 [95 %]", "Chance", "Persons to learn from, and tested"], rows))


def _attributes(read: Sequence[Mapping[str, Any]]) -> str:
    if not read:
        return ""
    groups = [(name, *(_stated(one["by_group"][name]) for one in read)) for name in read[0]["by_group"]]
    groups.append(("faces that were not found or not read", *(one["by_group"]["all"]["left_out"] for one in read)))
    return ("<h3>Attributes by group</h3><p>Balanced accuracy of what is read after against what was read before; "
            "chance is 0.5. What a network reads is no truth.</p>"
            + table(["Group", *(f"Read by {one['network']['name']} [95 %]" for one in read)], groups))


def _values(values: Mapping[str, Any]) -> str:
    read = [values[name] for name in _ATTRIBUTES if name in values]
    return table(["What", "Mean [95 %]"], _rows(values)) + _attributes(read)


def _rows(values: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping) and name not in _ATTRIBUTES:
            title = f"{above}{name.replace('_', ' ')}"
            if "value" not in value:
                found += _rows(value, f"{title}: ")
            else:
                found.append((title, _stated(value)))
    return found


def _stated(value: Mapping[str, Any]) -> str:
    return value.get("why", "-") if value["value"] is None else share(value)


def share(of: Mapping[str, Any] | None) -> str:
    """A mean with its interval, in words."""
    if of is None:
        return "nobody to compare"
    ends = of.get("interval_95")
    if "persons" not in of:  # of a collection as a whole
        return f"{of['value']:.3g}"
    return f"{of['value']:.3g} [{f'{ends[0]:.3g}, {ends[1]:.3g}' if ends else 'too few persons'}]"


def text(value: object) -> str:
    """As HTML."""
    return html.escape(str(value))


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of text; without a head if there is none."""
    top = f"<tr>{''.join(f'<th>{text(name)}</th>' for name in head)}</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table>{top}{body}</table>"
