"""Writes ``locales/``: what ComfyUI's frontend shows of our nodes and panels, in English and in every translation.

English comes from the schemas of the nodes and from the ``t("…")`` of the scripts. A translation is a file
``scripts/translations_LANGUAGE.json``, written by hand: under each English text the same in its language, and a
glossary that it keeps to. A text that was changed has no translation any more, and the old one translates nothing:
:func:`problems` names both. Until then the frontend shows the English text.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from camouflage.files import ROOT

Translation = Mapping[str, Mapping[str, str]]
"""Sections "categories", "titles", "names", "sentences" and "panels" by their English text; and "glossary"."""

_RESERVED = re.compile(r"[{}@|]")
"""What the frontend would take for a part of its message syntax, in texts of nodes."""
_COMMENT = re.compile(r"/\*.*?\*/|(?<!\S)//[^\n]*", re.DOTALL)
_LITERAL = r'(?:"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')'
_CALL = re.compile(rf"(?<![\w.$])(?<!function )t\(\s*(?P<text>{_LITERAL}(?:\s*\+\s*{_LITERAL})*\s*[,)])?")


class Text(NamedTuple):
    """A text of ours in the frontend.

    Attributes:
        path: the file below ``locales/LANGUAGE`` without suffix, and the keys in it.
        section: of a translation.
        english: what it says.
    """

    path: tuple[str, ...]
    section: str
    english: str


def texts_of_nodes(object_info: Mapping[str, Any]) -> Iterator[Text]:
    """Categories, titles, descriptions, and names and tooltips of all sockets and widgets of our nodes."""
    nodes = {name: node for name, node in object_info.items() if name.startswith("Camouflage")}
    for part in dict.fromkeys(part for node in nodes.values() for part in node["category"].split("/")):
        yield Text(("main", "nodeCategories", part), "categories", part)
    for name, node in nodes.items():
        place = ("nodeDefs", name)
        yield Text((*place, "display_name"), "titles", node["display_name"])
        yield Text((*place, "description"), "sentences", node["description"])
        shown = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        for socket, (_, *more) in shown.items():
            yield Text((*place, "inputs", socket, "name"), "names", socket)
            yield Text((*place, "inputs", socket, "tooltip"), "sentences", (more[0] if more else {}).get("tooltip", ""))
        for index, (socket, tooltip) in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True)):
            yield Text((*place, "outputs", str(index), "name"), "names", socket)
            yield Text((*place, "outputs", str(index), "tooltip"), "sentences", tooltip or "")


def texts_of_script(source: str) -> Iterator[tuple[int, str | None]]:
    """Line and text of every ``t("…")`` in a script; None for one whose text is not written there."""
    code = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), source)
    for call in _CALL.finditer(code):
        parts = re.findall(_LITERAL, call["text"] or "")
        yield code.count("\n", 0, call.start()) + 1, "".join(map(ast.literal_eval, parts)) if parts else None


def scripts() -> dict[str, str]:
    """The sources of all our scripts, by their paths below the repository."""
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
            for file in sorted((ROOT / "js").glob("*.js"))}


def texts(object_info: Mapping[str, Any]) -> list[Text]:
    """All that can be read of us in the frontend."""
    said = dict.fromkeys(text for source in scripts().values() for _, text in texts_of_script(source) if text)
    panels = [Text(("main", "camouflage", text), "panels", text) for text in said]
    return [text for text in (*texts_of_nodes(object_info), *panels) if text.english]


def translations() -> dict[str, Translation]:
    """Every translation by its language, as the frontend names it."""
    return {file.stem.removeprefix("translations_"): json.loads(file.read_text(encoding="utf-8"))
            for file in sorted(Path(__file__).parent.glob("translations_*.json"))}


def pages(object_info: Mapping[str, Any]) -> dict[Path, str]:
    """Every file of ``locales/`` as it should be, by its path below the repository."""
    wanted = texts(object_info)
    languages = {"en": {text.path: text.english for text in wanted}}
    for language, translation in translations().items():
        languages[language] = {text.path: with_id(text, told) for text in wanted
                               if (told := translation[text.section].get(text.english))}
    made: dict[Path, dict[str, Any]] = {}
    for language, told in languages.items():
        for path, text in told.items():
            if path[:2] != ("main", "camouflage") and _RESERVED.search(text):
                continue  # the frontend then shows the text of the schema
            folder = made.setdefault(Path("locales", language, f"{path[0]}.json"), {})
            for key in path[1:-1]:
                folder = folder.setdefault(key, {})
            folder[path[-1]] = text
    return {path: json.dumps(tree, ensure_ascii=False, indent=2) + "\n" for path, tree in made.items()}


def with_id(text: Text, translated: str) -> str:
    """A translation as it is shown: a tooltip also says how errors, help pages and workflows name the input."""
    is_tooltip = text.path[2:3] == ("inputs",) and text.path[4] == "tooltip"
    return f"{translated} [{text.path[3]}]" if is_tooltip else translated


def problems(object_info: Mapping[str, Any]) -> list[str]:
    """What is not translated, translates nothing any more, or breaks a rule of the translations."""
    unwritten = [f"{path}:{line}: t(…) needs its text here, in quotes." for path, source in scripts().items()
                 for line, text in texts_of_script(source) if text is None]
    wanted = texts(object_info)
    return [*unwritten, *(f"{language}: {problem}" for language, translation in translations().items()
                          for problem in problems_of(translation, wanted))]


def problems_of(translation: Translation, wanted: list[Text]) -> Iterator[str]:
    """What is wrong with one translation."""
    needed = {(text.section, text.english): ".".join(text.path) for text in reversed(wanted)}
    have = {(section, english): told for section in translation if section != "glossary"
            for english, told in translation[section].items() if told}
    for (section, english), path in reversed(needed.items()):
        if (section, english) not in have:
            where = f" ({path})" if section != "panels" else ""
            yield f"{section} have no translation of {english!r}{where}."
    for (section, english), told in have.items():
        if (section, english) not in needed:
            yield f"{section} translate {english!r}, which nobody says any more."
        for term, must in broken_terms(translation["glossary"], english, told):
            yield f"{section}: {term!r} is {must!r} in the glossary, but not in {told!r}."
        if section != "panels" and _RESERVED.search(told):
            yield f"{section}: the frontend cannot show one of {{ }} @ | in {told!r}; say it in words."
        if section == "panels" and placeholders(told) != placeholders(english):
            yield f"{section}: {told!r} does not have the same {{…}} as {english!r}."


def broken_terms(glossary: Mapping[str, str], english: str, told: str) -> Iterator[tuple[str, str]]:
    """Terms of the glossary in an English text whose translation does not use theirs, the longest terms first."""
    for term in sorted(glossary, key=len, reverse=True):
        english, count = re.subn(rf"(?<![\w'/{{-]){re.escape(term)}s?(?![\w'/}}-])", " ", english, flags=re.IGNORECASE)
        if count and glossary[term].lower() not in told.lower():
            yield term, glossary[term]


def placeholders(text: str) -> list[str]:
    """The names in braces, where values go."""
    return sorted(re.findall(r"\{(\w+)\}", text))
