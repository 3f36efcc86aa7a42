"""The words of the frontend: from schemas and scripts, and all translated; and every check sees what is spoiled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import document, locales
from scripts.locales import Text

TEXT = Text(("nodeDefs", "CamouflageX", "description"), "sentences", "Draws the mask.")
PANEL = Text(("main", "camouflage", "{count} faces"), "panels", "{count} faces")


def threshold(nodes: dict[str, Any]) -> dict[str, Any]:
    return nodes["CamouflageVerify"]["input"]["required"]["threshold"][1]


def translation(**sections: dict[str, str]) -> locales.Translation:
    """One that is right, and what is changed in it."""
    right = {"glossary": {"mask": "遮罩"}, "sentences": {"Draws the mask.": "绘制遮罩。"},
             "panels": {"{count} faces": "{count} 张人脸"}}
    return {**right, **sections}


def test_everything_is_translated(object_info: dict[str, Any]) -> None:
    assert locales.problems(object_info) == []


def test_nothing_is_stale(object_info: dict[str, Any]) -> None:
    stale = [path for path in document.stale(object_info) if path.startswith("locales/")]
    assert stale == [], "run: python -m scripts.document"


def test_every_node_has_all_its_words_in_every_language(object_info: dict[str, Any]) -> None:
    files = {path: json.loads(text) for path, text in locales.pages(object_info).items()}
    languages = ["en", *locales.translations()]
    assert {path.parts[1] for path in files} == set(languages) == {"en", "zh"}
    for name, node in object_info.items():
        if not name.startswith("Camouflage"):
            continue
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        for language in languages:
            words = files[Path("locales", language, "nodeDefs.json")][name]
            assert words["display_name"] and words["description"]
            assert list(words["inputs"]) == list(inputs)
            assert all(socket["name"] for socket in words["inputs"].values())
            assert list(words["outputs"]) == [str(index) for index in range(len(node["output"]))]
            assert all(socket["name"] and socket["tooltip"] for socket in words["outputs"].values())
            for key, socket in inputs.items():
                text = socket[1]["tooltip"]
                shown = words["inputs"][key].get("tooltip")
                assert shown == (None if "{" in text else text) if language == "en" else shown.endswith(f" [{key}]")


def test_a_text_that_changed_is_named_with_its_old_translation(spoiled: dict[str, Any]) -> None:
    before, old = locales.problems(spoiled), threshold(spoiled)["tooltip"]
    for node in ("CamouflageVerify", "CamouflageSafeSampler"):
        spoiled[node]["input"]["required"]["threshold"][1]["tooltip"] = "Another text."
    where = "nodeDefs.CamouflageVerify.inputs.threshold.tooltip"
    assert [problem for problem in locales.problems(spoiled) if problem not in before] == [
        f"zh: sentences have no translation of 'Another text.' ({where}).",
        f"zh: sentences translate {old!r}, which nobody says any more."]
    shown = json.loads(locales.pages(spoiled)[Path("locales/zh/nodeDefs.json")])
    assert "tooltip" not in shown["CamouflageVerify"]["inputs"]["threshold"]


@pytest.mark.parametrize(("changed", "problem"), [
    ({}, None),
    ({"sentences": {}}, "no translation of 'Draws the mask.' (nodeDefs.CamouflageX.description)"),
    ({"sentences": {"Draws the mask.": ""}}, "no translation of 'Draws the mask.'"),
    ({"sentences": {"Draws the mask.": "绘制掩码。"}}, "'mask' is '遮罩' in the glossary"),
    ({"sentences": {"Draws the mask.": "绘制{遮罩}。"}}, "the frontend cannot show one of { } @ |"),
    ({"panels": {}}, "no translation of '{count} faces'."),
    ({"panels": {"{count} faces": "{number} 张人脸"}}, "does not have the same {…}"),
])
def test_a_spoiled_translation_is_told(changed: dict[str, Any], problem: str | None) -> None:
    told = list(locales.problems_of(translation(**changed), [TEXT, PANEL]))
    assert len(told) == (problem is not None)
    assert problem is None or problem in told[0]


def test_the_longest_term_of_the_glossary_counts() -> None:
    glossary = {"prompt": "提示词", "image prompt": "图像提示"}
    assert list(locales.broken_terms(glossary, "Two image prompts.", "两个图像提示。")) == []
    assert list(locales.broken_terms(glossary, "Prompt and prompting.", "提示")) == [("prompt", "提示词")]
    assert list(locales.broken_terms(glossary, "prompting, models/prompt, {prompts} and 'prompt'", "…")) == []


@pytest.mark.parametrize(("source", "found"), [
    ('t("Close")', [(1, "Close")]),
    ("x(\n    t(\n        'It\\'s {n}: ' +\n        \"two\", { n: 1 }))", [(2, "It's {n}: two")]),
    ("`${t(\"In a template\")}`", [(1, "In a template")]),
    ('// t("comment")\n/** t("comment")\n */\nt("kept");', [(4, "kept")]),
    ('format("no"); this.t("no"); export function t(text) {}', []),
    ("t(name)", [(1, None)]), ("t(`${name}`)", [(1, None)]), ('t("a" + name)', [(1, None)]),
    ('t(on ? "a" : "b")', [(1, None)]),
])
def test_the_texts_of_scripts_are_found(source: str, found: list[tuple[int, str | None]]) -> None:
    assert list(locales.texts_of_script(source)) == found


def test_a_text_that_is_not_written_in_the_script_is_told(object_info: dict[str, Any],
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locales, "scripts", lambda: {"js/x.js": "\nt(name);"})
    assert "js/x.js:2: t(…) needs its text here, in quotes." in locales.problems(object_info)
