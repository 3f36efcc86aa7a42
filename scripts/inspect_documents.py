"""What can be wrong with a document that is written by hand, as sentences: links, limits, names, tooltips.

Every function takes what it looks at, so that a test can show it something spoiled. ``python -m scripts.document`` and
``tests/documents`` run all of them.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from camouflage.commands.train import COMMANDS
from camouflage.files import ROOT

LINES, WORDS = 140, 1200
"""Most lines and words of the README."""
SHORTEST = 15
"""Least characters of a tooltip that says something."""
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
_PLACE = re.compile(r"README\b(?!\.md)[^.]{0,30}|(?<!js/)\bdocs/[\w-]+\.md")  # how code sends a person to a document
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"^\| (`.+?) \|", re.MULTILINE)  # messages in the first column of a table
_LEADING = re.compile(r'^- ((?:"[^"]+"(?:, | and | or )?)+)', re.MULTILINE)  # messages that a hint begins with


def documents() -> list[Path]:
    """All documents, as paths below the repository."""
    folders = (ROOT.glob("*.md"), (ROOT / "docs").glob("*.md"), (ROOT / "js" / "docs").glob("*/*.md"))
    return sorted(path.relative_to(ROOT) for found in folders for path in found)


def text_of(path: Path) -> str:
    """A document's text."""
    return (ROOT / path).read_text(encoding="utf-8")


def problems(object_info: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong, but for what is stale."""
    texts = {path: text_of(path) for path in documents()}
    notes = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "workflows").glob("*.json"))]
    return [*over_limits(texts[Path("README.md")]), *without_tooltip(object_info), *unnamed(commands(), texts.values()),
            *lost_places("\n".join([literals(), *notes])),
            *(problem for path, text in texts.items() for problem in broken_links(path, text)),
            *(problem for path, text in texts.items() if path.name in ("en.md", "troubleshooting.md")
              for problem in (*unknown_messages(path, text, literals()), *unknown_names(path, text, object_info)))]


def over_limits(readme: str) -> list[str]:
    """Whether the README is too long."""
    counts = (("lines", len(readme.splitlines()), LINES), ("words", len(readme.split()), WORDS))
    return [f"README.md has {count} {what}, at most {most} are allowed."
            for what, count, most in counts if count > most]


def without_tooltip(object_info: Mapping[str, Any]) -> list[str]:
    """Inputs and outputs of our nodes that do not say what they are, and nodes without a description."""
    missing = []
    for name, node in object_info.items():
        if not name.startswith("Camouflage"):
            continue
        texts = {socket: (kind[1:] or [{}])[0].get("tooltip")
                 for part in ("required", "optional") for socket, kind in node["input"].get(part, {}).items()}
        outputs = node["output_name"]
        tooltips = node.get("output_tooltips") or [""] * len(outputs)
        texts |= {f"output {socket}": tooltip for socket, tooltip in zip(outputs, tooltips, strict=True)}
        texts["description"] = node.get("description")
        missing += [f"{name}: {socket} has no tooltip." for socket, text in texts.items() if len(text or "") < SHORTEST]
    return missing


def anchors(text: str) -> set[str]:
    """What links to the headings of a document say behind the #, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    """Links of a document to files and headings that are not there."""
    broken = []
    for target, anchor in _LINK.findall(_FENCE.sub("", text)):
        file = (ROOT / path).parent / target if target else ROOT / path
        if target:
            text_there = file.read_text(encoding="utf-8") if file.suffix == ".md" and file.is_file() else ""
        else:
            text_there = text
        if not file.exists() or (anchor and anchor not in anchors(text_there)):
            broken.append(f"{path.as_posix()}: the link {target}{'#' if anchor else ''}{anchor} leads nowhere.")
    return broken


def lost_places(code: str) -> list[str]:
    """Where the code's texts send a person to a page that is not there, or to a section of the README, which has none.

    Args:
        code: texts of the code, such as :func:`literals`.
    """
    return [f"The code sends people to {place!r}." for place in dict.fromkeys(_PLACE.findall(code))
            if not place.startswith("docs/") or not (ROOT / place).is_file()]


def commands() -> list[str]:
    """Every command that a person can type: those of run.py, the benchmarks and the scripts."""
    modules = [f"python -m {folder}.{file.stem}" for folder in ("benchmarks", "scripts")
               for file in sorted((ROOT / folder).glob("*.py"))
               if re.search(r"^if __name__ ==", file.read_text(encoding="utf-8"), re.MULTILINE)]
    return [*(f"python run.py {name}" for name in ("demo", "calibrate", "test")),
            *(f"python run.py train {name}" for name in COMMANDS), *modules]


def unnamed(commands: Iterable[str], texts: Iterable[str]) -> list[str]:
    """Commands that no document names."""
    everything = "\n".join(texts)
    return [f"No document names `{command}`." for command in commands if command not in everything]


@functools.cache
def literals() -> str:
    """Every text in the code, what is filled in left out, one a line."""
    return "\n".join(text for folder in ("camouflage", "nodes") for file in sorted((ROOT / folder).rglob("*.py"))
                     for text in _texts(file.read_text(encoding="utf-8")))


def _texts(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield " ".join(node.value.split())
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
            yield " ".join("".join(map(str, parts)).split())


def messages(text: str) -> list[str]:
    """Messages of the code that a document quotes: in the first column of a table, or where a hint begins."""
    return [*(message for row in _QUOTED.findall(text) for message in re.findall(r"`([^`]+)`", row)),
            *(message for hint in _LEADING.findall(text) for message in re.findall(r'"([^"]+)"', hint))]


def unknown_messages(path: Path, text: str, known: str) -> list[str]:
    """Messages in a document that the code does not say; "..." stands for anything."""
    return [f"{path.as_posix()}: no code says {message!r}." for message in messages(text)
            if any(part.strip() not in known for part in message.split("..."))]


def unknown_names(path: Path, text: str, object_info: Mapping[str, Any]) -> list[str]:
    """Names in a document that look like an input, with an underscore, and are none of any node."""
    known = {name for node in object_info.values() for part in node["input"].values() for name in part}
    known |= {name for node in object_info.values() for name in node["output_name"]}
    return [f"{path.as_posix()}: no node has an input or output `{name}`."
            for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text) if name not in known]
