"""The documents say what the code says; and every check of this file sees what is spoiled."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from camouflage.errors import CamouflageError
from camouflage.files import ROOT
from camouflage.weights import REGISTRY
from scripts import document
from scripts import inspect_documents as inspect

README, NODES, WEIGHTS = Path("README.md"), Path("docs/nodes.md"), Path("docs/weights.md")
VERIFY = Path("js/docs/CamouflageVerify/en.md")


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The documents that would become stale."""
    old, new = document.pages(before), document.pages(after)
    return [path.as_posix() for path in new if new[path] != old.get(path)]


def threshold(nodes: dict[str, Any]) -> dict[str, Any]:
    return nodes["CamouflageVerify"]["input"]["required"]["threshold"][1]


def test_nothing_is_stale(object_info: dict[str, Any]) -> None:
    assert document.stale(object_info) == [], "run: python -m scripts.document"


def test_nothing_else_is_wrong(object_info: dict[str, Any]) -> None:
    assert inspect.problems(object_info) == []


def test_every_node_and_every_socket_is_in_the_reference(object_info: dict[str, Any]) -> None:
    text = inspect.text_of(NODES)
    ours = {name: node for name, node in object_info.items() if name.startswith("Camouflage")}
    assert len(ours) >= 26
    for name, node in ours.items():
        section = text.split(f"### {node['display_name']} (`{name}`)\n")[1].split("\n### ")[0].split("\n## ")[0]
        names = [*node["input"].get("required", {}), *node["input"].get("optional", {}), *node["output_name"]]
        assert [socket for socket in names if f"| `{socket}` |" not in section] == [], name
        assert node["description"] in section


def test_a_renamed_input_makes_documents_stale(object_info: dict[str, Any], spoiled: dict[str, Any]) -> None:
    inputs = spoiled["CamouflageVerify"]["input"]["required"]
    inputs["limit"] = inputs.pop("threshold")
    order = spoiled["CamouflageVerify"]["input_order"]["required"]
    order[order.index("threshold")] = "limit"
    assert changed(object_info, spoiled) == [NODES.as_posix(), VERIFY.as_posix()]
    assert {NODES.as_posix(), VERIFY.as_posix()} <= set(document.stale(spoiled))


@pytest.mark.parametrize(("key", "value"), [("tooltip", "Another text, long enough."), ("default", 0.5), ("max", 3.0),
                                            ("step", 0.5)])
def test_a_changed_input_makes_documents_stale(object_info: dict[str, Any], spoiled: dict[str, Any], key: str,
                                               value: object) -> None:
    threshold(spoiled)[key] = value
    assert changed(object_info, spoiled) == [NODES.as_posix(), VERIFY.as_posix()]


def test_a_new_choice_and_a_changed_output_make_documents_stale(object_info: dict[str, Any],
                                                                spoiled: dict[str, Any]) -> None:
    node = spoiled["CamouflageSaveImage"]
    node["input"]["required"]["format"][1]["options"].append("TIFF")
    spoiled["CamouflageVerify"]["output_tooltips"][0] = "Something else comes out now."
    assert changed(object_info, spoiled) == [NODES.as_posix(), VERIFY.as_posix(), "js/docs/CamouflageSaveImage/en.md"]


def test_files_of_this_machine_are_in_no_document(object_info: dict[str, Any], spoiled: dict[str, Any]) -> None:
    spoiled["CamouflageCaption"]["input"]["required"]["model"][1]["options"] = ["my-own-model"]
    assert changed(object_info, spoiled) == []


def test_without_our_nodes_nothing_is_written() -> None:
    with pytest.raises(CamouflageError, match="none of our nodes"):
        document.pages({"KSampler": {}})


def test_a_node_without_a_help_page_is_told(spoiled: dict[str, Any]) -> None:
    spoiled["CamouflageNew"] = spoiled["CamouflageVerify"]
    with pytest.raises(CamouflageError, match="CamouflageNew/en.md has the generated parts none"):
        document.pages(spoiled)


def test_fields_of_newer_hosts_change_nothing(object_info: dict[str, Any], spoiled: dict[str, Any]) -> None:
    for node in spoiled.values():
        node.update(search_aliases=["blur face"], essentials_category="Image", price_badge=None)
    threshold(spoiled)["advanced"] = True
    choices = spoiled["CamouflageVerify"]["input"]["required"]["policy"]
    choices[0] = choices[1].pop("options")  # the old form of a choice
    assert changed(object_info, spoiled) == []


def test_a_removed_tooltip_is_told(spoiled: dict[str, Any]) -> None:
    assert inspect.without_tooltip(spoiled) == []
    del threshold(spoiled)["tooltip"]
    spoiled["CamouflageRedact"]["output_tooltips"][1] = None
    spoiled["CamouflageReport"]["description"] = ""
    assert inspect.without_tooltip(spoiled) == [
        "CamouflageVerify: threshold has no tooltip.", "CamouflageRedact: output redacted has no tooltip.",
        "CamouflageReport: description has no tooltip."]


def test_a_part_that_is_missing_unknown_or_there_twice_is_told() -> None:
    part = "<!-- generated:{0} -->\nold\n<!-- /generated -->\n"
    assert document.filled(part.format("one"), {"one": "new"}, "x.md") == part.format("one").replace("old", "\nnew\n")
    for text in ("", part.format("two"), part.format("one") * 2):
        with pytest.raises(CamouflageError, match=r"x\.md has the generated parts"):
            document.filled(text, {"one": "new"}, "x.md")


@pytest.mark.parametrize("link", ["[x](docs/no.md)", "[x](#no-heading)", "[x](docs/weights.md#no-heading)",
                                  "![x](docs/no.png)", "[x](training/README.md)"])
def test_a_stale_link_or_anchor_is_told(link: str) -> None:
    assert len(inspect.broken_links(README, f"# Title\n\n{link}\n")) == 1


@pytest.mark.parametrize("link", ["[x](docs/weights.md)", "[x](#title)", "[x](docs/weights.md#licences)",
                                  "![x](docs/example.jpg)", "[x](https://example.org/no.md)"])
def test_a_good_link_is_not_told(link: str) -> None:
    assert inspect.broken_links(README, f"# Title\n\n{link}\n") == []


def test_headings_in_code_are_no_anchors() -> None:
    assert inspect.anchors("# One `two` (three)\n\n```\n# Four\n```\n") == {"one-two-three"}


def test_a_command_or_benchmark_that_no_document_names_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = inspect.commands()
    assert {"python run.py demo", "python run.py train light", "python -m benchmarks.recall",
            "python -m scripts.document"} <= set(known)
    for command in known:
        texts = [inspect.text_of(path).replace(command, "") for path in inspect.documents()]
        assert f"No document names `{command}`." in inspect.unnamed(known, texts)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "new.py").write_text('if __name__ == "__main__":\n    pass\n', encoding="utf-8")
    monkeypatch.setattr(inspect, "ROOT", tmp_path)
    assert "python -m benchmarks.new" in inspect.commands()


def test_a_readme_over_its_limits_is_told() -> None:
    text = inspect.text_of(README)
    assert inspect.over_limits(text) == []
    assert len(inspect.over_limits("word\n" * 141)) == 1
    assert len(inspect.over_limits("word " * 1201)) == 1


def test_a_message_that_no_code_says_is_told() -> None:
    text = inspect.text_of(Path("docs/troubleshooting.md"))
    assert len(inspect.messages(text)) > 60
    assert inspect.unknown_messages(README, text, inspect.literals()) == []
    row, hint = "| `no code has said this` | Wait. |\n", '- "no code has said this": wait.\n'
    assert len(inspect.unknown_messages(README, row + hint, inspect.literals())) == 2


def test_a_page_that_the_code_names_and_is_not_there_is_told() -> None:
    assert inspect.lost_places("see docs/weights.md, docs/training.md and js/docs/X/en.md") == []
    assert len(inspect.lost_places("see docs/no.md, or the README, section Weights.")) == 2


def test_a_name_that_is_no_input_any_more_is_told(object_info: dict[str, Any]) -> None:
    assert inspect.unknown_names(VERIFY, "`smallest_face`, `report`", object_info) == []
    assert len(inspect.unknown_names(VERIFY, "`smallest_head`", object_info)) == 1


def test_the_weights_table_has_every_file_with_what_a_person_needs() -> None:
    rows = document.weights_table().splitlines()[2:]
    assert len(rows) == len(REGISTRY)
    for row, weight in zip(rows, REGISTRY, strict=True):
        assert f"`models/{weight.path}`" in row and weight.licence in row and (weight.url or document.TRAINED) in row
        assert row.count("|") == 7
    assert "722.6 MB" in document.weights_table()
    sizes = (None, 24_655, 5_000_000, 2_130_000_000)
    texts = ["size unknown", "24.7 kB", "5.0 MB", "2.13 GB"]
    assert [dataclasses.replace(REGISTRY[0], size=size).size_text for size in sizes] == texts


def test_every_workflow_has_a_row_and_says_what_it_needs() -> None:
    rows = document.workflows_table().splitlines()[2:]
    assert len(rows) == len(list((ROOT / "workflows").glob("*.json"))) >= 3
    assert next(row for row in rows if "redact.json" in row).endswith("| nothing |")
    assert next(row for row in rows if "base.json" in row).endswith("files](docs/weights.md) |")


def test_settings_are_read_with_value_meaning_and_reason() -> None:
    text = ("# What the file is.\n\n# How many, 1 or more.\n# Twice.\n# Our choice: 2.\nfirst: 2\n\n"
            "# A section.\nmore:\n"
            "  # What.\n  # Paper: 0.5\n  second: 0.5\n\n# Last.\nthird: x\n")
    assert document.settings_of(text) == {"first": ("2", "How many, 1 or more. Twice.", "Our choice: 2."),
                                          "more": ("", "A section.", ""), "more.second": ("0.5", "What.", "Paper: 0.5"),
                                          "third": ("x", "Last.", "")}


def test_every_setting_is_in_the_settings_page() -> None:
    from camouflage.training import config

    text = document.settings_page()
    for kind in config.KINDS.values():
        assert [key for key in config.keys(kind) if f"| `{key}` |" not in text] == []
