"""Writes the generated parts of the documents: ``python -m scripts.document``; ``--check`` only says what is stale.

A fact that the code knows is written once, in the code, and comes from there into the documents: the node reference
and the Inputs and Outputs of the help pages from the schemas (as a running ComfyUI gives them), the weights from their
registry, the settings from the YAML files of the trainings, the commands from the command line's parser, the workflows
from their own notes, the benchmarks from their docstrings. Parts stand between ``<!-- generated:NAME -->`` and
``<!-- /generated -->``; everything outside is written by hand. ``scripts/inspect_documents.py`` checks what is not
generated. ``scripts/locales.py`` adds what the frontend shows, in every language.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from camouflage.batch.server import ComfyServer
from camouflage.commands.launch import make_parser
from camouflage.errors import CamouflageError
from camouflage.files import ROOT
from camouflage.weights import REGISTRY, Weight, needed_by

from . import inspect_documents, locales

WHOLE = "<!-- This page is written by `python -m scripts.document`; change what it is made from, not the page. -->\n\n"
TRAINED = "training.md#from-photos-to-a-file"
MARKED = re.compile(r"(<!-- generated:([\w-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)
_COMMERCIAL = {True: "allowed", False: "**not allowed**", None: "not stated"}
_TYPES = {"INT": "whole number", "FLOAT": "number", "STRING": "text", "BOOLEAN": "switch"}
_REASONS = ("Our choice", "T2I-Adapter (", "Paper", "Authors' code")
"""How a comment in a config begins to say where a value comes from."""

ObjectInfo = Mapping[str, Any]
"""What a ComfyUI answers at ``/object_info``. Only fields that every supported host has are read."""


def pages(object_info: ObjectInfo) -> dict[Path, str]:
    """Every document with a generated part as it should be, by its path below the repository.

    Raises:
        CamouflageError: there are no nodes of ours; a part is asked for that nobody generates, or is not asked for
            where it belongs.
    """
    nodes = {name: node for name, node in object_info.items() if name.startswith("Camouflage")}
    if not nodes:
        raise CamouflageError("This ComfyUI has none of our nodes: it could not load the pack. Its log says why.")
    made = {Path("docs/nodes.md"): nodes_page(nodes), Path("docs/settings.md"): settings_page()}
    parts: dict[str, dict[str, str]] = {
        "README.md": {"workflows": workflows_table()}, "CONTRIBUTING.md": {"benchmarks": benchmarks_table()},
        "docs/weights.md": {"weights": weights_table()}, "docs/commands.md": {"commands": commands_text()},
        **{f"js/docs/{name}/en.md": {"inputs": inputs_list(node), "outputs": outputs_list(node)}
           for name, node in nodes.items()}}
    for path, texts in parts.items():
        file = ROOT / path
        made[Path(path)] = filled(file.read_text(encoding="utf-8") if file.is_file() else "", texts, path)
    return made


def filled(text: str, parts: Mapping[str, str], where: str) -> str:
    """A document with its parts replaced by ``parts``; each must be there once. Raises CamouflageError."""
    names = [name for _, name, _ in MARKED.findall(text)]
    if sorted(names) != sorted(parts):
        raise CamouflageError(f"{where} has the generated parts {', '.join(names) or 'none'}, but should have "
                              f"{', '.join(parts)}.")
    return MARKED.sub(lambda match: f"{match[1]}\n{parts[match[2]]}\n\n{match[3]}", text)


def written(object_info: ObjectInfo) -> dict[Path, str]:
    """Every file that this command writes: the documents, and the locales of the frontend."""
    return {**pages(object_info), **locales.pages(object_info)}


def stale(object_info: ObjectInfo) -> list[str]:
    """The files that are not what :func:`written` makes."""
    return [path.as_posix() for path, text in written(object_info).items()
            if not (ROOT / path).is_file() or (ROOT / path).read_text(encoding="utf-8") != text]


def table(head: str, rows: list[str]) -> str:
    """A markdown table; the cells of ``head`` and of each row are separated by " | "."""
    return "\n".join([f"| {head} |", "|---" * (head.count(" | ") + 1) + "|", *(f"| {row} |" for row in rows)])


def cell(text: str) -> str:
    """Text for a cell of a table, in one line."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# --- Nodes -----------------------------------------------------------------------------------------------------------

def inputs_of(node: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, kind (with range and default) and tooltip of every input, in the order of the node."""
    for part in ("required", "optional"):
        named = node["input"].get(part, {})
        for name in node.get("input_order", {}).get(part, list(named)):
            kind, *rest = named[name]
            more = rest[0] if rest else {}
            yield name, kind_text(kind, more, part == "optional"), more.get("tooltip") or ""


def kind_text(kind: str | list[str], more: Mapping[str, Any], optional: bool) -> str:
    """What an input takes, in words: "number, 0 to 2 in steps of 0.01, default 0"."""
    options = kind if isinstance(kind, list) else more.get("options")
    if kind in ("INT", "FLOAT"):
        text = f"{_TYPES[kind]}, {more['min']:g} to {more['max']:g} in steps of {more['step']:g}"
        return f"{text}, default {more['default']:g}"
    if options is not None:  # without a default the choices are files, and differ from machine to machine
        if "default" not in more:
            return "a file or folder that is there"
        return f"{_either([f'`{option}`' for option in options])}, default `{more['default']}`"
    if kind == "BOOLEAN":
        return f"switch, default {'on' if more.get('default') else 'off'}"
    if kind == "STRING" and "default" in more:
        return f"text, default {'`' + more['default'] + '`' if more['default'] else 'empty'}"
    return f"`{kind}`, {'optional' if optional else 'required'}"


def _either(choices: list[str]) -> str:
    """ "a, b or c"."""
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def outputs_of(node: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, type and tooltip of every output."""
    lists = node.get("output_is_list") or [False] * len(node["output"])
    for name, kind, many, tooltip in zip(node["output_name"], node["output"], lists, node["output_tooltips"],
                                         strict=True):
        yield name, f"{'list of ' if many else ''}`{kind}`", tooltip or ""


def inputs_list(node: Mapping[str, Any]) -> str:
    """The section Inputs of a help page."""
    return "## Inputs\n\n" + "\n".join(f"- `{name}` ({kind}): {tooltip}" for name, kind, tooltip in inputs_of(node))


def outputs_list(node: Mapping[str, Any]) -> str:
    """The section Outputs of a help page."""
    return "## Outputs\n\n" + "\n".join(f"- `{name}` ({kind}): {tooltip}" for name, kind, tooltip in outputs_of(node))


def nodes_page(nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """The node reference."""
    stages: dict[str, list[str]] = {}
    for name, node in nodes.items():
        stages.setdefault(node["category"].split("/")[-1], []).append(name)
    order = [stage for stage in ("load", "annotate", "control", "guide", "light", "verify") if stage in stages]
    order += sorted(set(stages) - set(order))
    text = (WHOLE + "# Nodes\n\nEvery node, with what its tooltips say. The help page of a node (select it in ComfyUI "
            "and press the info button) adds what it is for, what can go wrong, and a hint.\n\nPictures come in batches"
            " of any size; greyscale and RGBA are taken, and transparency is flattened on white. \"Required\" and "
            "\"optional\" are said of sockets; all other inputs are widgets.\n")
    for stage in order:
        links = " · ".join(f"[{nodes[name]['display_name']}](#{anchor(heading(name, nodes[name]))})"
                           for name in stages[stage])
        text += f"\n- **{stage}**: {links}"
    for stage in order:
        text += f"\n\n## {stage.capitalize()}"
        for name in stages[stage]:
            node = nodes[name]
            inputs = table("Input | What it takes | Meaning",
                           [f"`{name}` | {cell(kind)} | {cell(tooltip)}" for name, kind, tooltip in inputs_of(node)])
            outputs = table("Output | Type | Meaning",
                            [f"`{name}` | {kind} | {cell(tooltip)}" for name, kind, tooltip in outputs_of(node)])
            text += f"\n\n### {heading(name, node)}\n\n{node['description']}\n\n{inputs}\n\n{outputs}"
    return text + "\n"


def heading(name: str, node: Mapping[str, Any]) -> str:
    """The heading of a node in the reference."""
    return f"{node['display_name']} (`{name}`)"


def anchor(title: str) -> str:
    """What a link to a heading says behind the #, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


# --- Weights and workflows -------------------------------------------------------------------------------------------



def _weight(weight: Weight) -> str:
    link = f"[download]({weight.url})" if weight.url else f"none: [train it]({TRAINED})"
    return (f"{weight.role} | `models/{weight.path}` | {link} | {weight.size_text} | {weight.licence} | "
            f"{_COMMERCIAL[weight.commercial]}")


def weights_table() -> str:
    """A row for every file of the registry."""
    return table("Role | File | Download | Size | Licence of the weights | Commercial use",
                 [_weight(weight) for weight in REGISTRY])


def workflows_table() -> str:
    """A row for every shipped workflow: its own title and first sentences, and how many weight files it needs."""
    rows = []
    for file in sorted((ROOT / "workflows").glob("*.json")):
        notes = [node["widgets_values"][0] for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]
                 if node["type"] == "MarkdownNote"]
        title, what = next(note for note in notes if note.startswith("# ")).split("\n\n")[:2]
        needed = needed_by(file.stem.removeprefix("camouflage_"))
        trained = sum(weight.url is None for weight in needed)
        more = f", and {trained} to train" if trained else ""
        needs = f"[{len(needed) - trained} files](docs/weights.md){more}" if needed else "nothing"
        rows.append(f"{title.removeprefix('# ')} | `{file.name}` | {cell(what)} | {needs}")
    return table("Workflow | File | What it does | Weights to download", rows)


# --- Settings of the trainings ---------------------------------------------------------------------------------------

def settings_of(text: str) -> dict[str, tuple[str, str, str]]:
    """Value, meaning and reason of every setting of a YAML file of ours, by its dotted name; sections have no value."""
    found: dict[str, tuple[str, str, str]] = {}
    comment: list[str] = []
    section = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip("# "))
            continue
        if entry := re.fullmatch(r"( *)(\w+):(.*)", line):
            indent, key, value = entry.groups()
            at = next((i for i, said in enumerate(comment) if said.startswith(_REASONS)), len(comment))
            section = section if indent else ("" if value else f"{key}.")
            name = f"{section}{key}" if indent else key
            found[name] = value.strip(), " ".join(comment[:at]), " ".join(comment[at:])
        comment = []
    return found


def settings_page() -> str:
    """The settings of both trainings beside each other, and what the authors have otherwise."""
    configs = ROOT / "camouflage" / "training" / "configs"
    light, identity, authors = (settings_of((configs / f"{kind}.yaml").read_text(encoding="utf-8"))
                                for kind in ("light", "identity", "light-authors"))
    text = (WHOLE + "# Settings of the trainings\n\nFrom [light.yaml](../camouflage/training/configs/light.yaml) and "
            "[identity.yaml](../camouflage/training/configs/identity.yaml), which `python run.py train light` and "
            "`identity` read. Change one with `--set NAME=VALUE`, or copy the file and name the copy with `--config`. "
            "*Our choice*, *Paper* and *T2I-Adapter* (arXiv 2302.08453) say where a value comes from; where the two "
            "trainings differ, both are given. A dash: the training has no such setting. "
            "[light-authors.yaml](../camouflage/training/configs/light-authors.yaml) is the training as the authors' "
            "code has it; [what it changes](#as-the-authors-train) stands at the end.\n")

    def both(name: str, place: int) -> str:
        said = {kind: settings[name][place] for kind, settings in (("Light", light), ("Identity", identity))
                if name in settings}
        texts = list(dict.fromkeys(said.values()))
        return cell(texts[0] if len(texts) == 1 else " ".join(f"*{kind}:* {text}" for kind, text in said.items()))

    def value(settings: Mapping[str, tuple[str, str, str]], name: str) -> str:
        return f"`{settings[name][0]}`" if name in settings else "-"

    sections: dict[str, list[str]] = {"": []}
    for name in (names := dict.fromkeys([*light, *identity])):
        section = name.split(".")[0] if "." in name or any(other.startswith(f"{name}.") for other in names) else ""
        if name != section:
            row = f"`{name}` | {value(light, name)} | {value(identity, name)} | {both(name, 1)} | {both(name, 2)}"
            sections.setdefault(section, []).append(row)
    for section, rows in sections.items():
        text += (f"\n## {section or 'Run'}\n\n" + (f"{both(section, 1)}\n\n" if section else "")
                 + table("Setting | Light | Identity | Meaning | Why this value", rows) + "\n")
    rows = [f"`{name}` | `{said[0]}` | `{light[name][0]}` | {cell(said[2])}"
            for name, said in authors.items() if said[0]]
    return (text + "\n## As the authors train\n\n`--config light-authors.yaml`, for `prepare` and `light` alike. What "
            "is not named is as above.\n\n"
            + table("Setting | light-authors.yaml | light.yaml | Why this value", rows) + "\n")


# --- Commands and benchmarks -----------------------------------------------------------------------------------------

def commands_of(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command below a parser that does something itself, with its own parser."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, child in action.choices.items():
            yield from commands_of(child, f"{name} {word}")


def commands_text() -> str:
    """Every command with its options."""
    texts = []
    for name, parser in commands_of(make_parser(), "python run.py"):
        rows = []
        for action in parser._actions:
            if action.dest == "help" or action.help is argparse.SUPPRESS:
                continue
            shown = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else "")
            takes = "" if action.nargs == 0 else str(shown)
            option = " ".join(filter(None, [", ".join(action.option_strings), takes]))
            rows.append(f"`{option.replace('|', '/')}` | {cell((action.help or '').replace('%%', '%'))}")
        description = cell(parser.description or "").replace("%%", "%")
        texts.append(f"### `{name}`\n\n{description}\n\n{table('Argument | Meaning', rows)}")
    return "\n\n".join(texts)


def benchmarks_table() -> str:
    """A row for every benchmark, with the first line of its docstring."""
    rows = []
    for file in sorted((ROOT / "benchmarks").glob("*.py")):
        source = file.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in source:
            first = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
            rows.append(f"`python -m benchmarks.{file.stem}` | {cell(first)}")
    return table("Benchmark | What it measures", rows)


def object_info_now() -> ObjectInfo:
    """What a ComfyUI with the pack answers, started for it: that of ``CAMOUFLAGE_COMFYUI``, else the usual one."""
    chosen = os.environ.get("CAMOUFLAGE_COMFYUI")
    with ComfyServer(Path(chosen) if chosen else None) as server:
        return server.object_info()


def main(arguments: list[str] | None = None) -> int:
    """Write what is stale, or only say it. Returns 1 if something is wrong that this did not mend."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something is stale")
    options = parser.parse_args(arguments)
    try:
        object_info = object_info_now()
        old = stale(object_info)
        if not options.check:
            for path, text in written(object_info).items():
                (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
                (ROOT / path).write_text(text, encoding="utf-8", newline="\n")
    except CamouflageError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    problems = [*inspect_documents.problems(object_info), *locales.problems(object_info)]
    for line in [*(f"{path} {'is stale' if options.check else 'is written anew'}." for path in old), *problems]:
        print(line)
    return 1 if problems or (options.check and old) else 0


if __name__ == "__main__":
    sys.exit(main())
