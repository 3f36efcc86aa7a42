"""Our JavaScript: its types hold, every file parses, imports lead somewhere, and nothing unsafe is done."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from browsers import missing
from camouflage.files import ROOT
from testing import typescript

JS = ROOT / "js"
SCRIPTS = sorted(JS.glob("*.js"))
HOST = {"../../scripts/app.js", "../../scripts/api.js"}
IMPORTS = """
import { readFileSync } from 'node:fs'
import { SourceTextModule } from 'node:vm'
const imports = file => new SourceTextModule(readFileSync(file, 'utf8')).moduleRequests.map(each => each.specifier)
const said = file => { try { return imports(file) } catch (error) { return String(error) } }
console.log(JSON.stringify(Object.fromEntries(process.argv.slice(1).map(file => [file, said(file)]))))
"""
FORBIDDEN = {
    "HTML from text": r"\b(?:inner|outer)HTML\b|\binsertAdjacentHTML\b|\bdocument\.write|\bsrcdoc\b|DOMParser",
    "code from text": r"\beval\s*\(|\bnew Function\b|\bset(?:Timeout|Interval)\(\s*[\"'`]",
    "storage": r"\b(?:local|session)Storage\b|\bindexedDB\b|\bdocument\.cookie\b",
    "another host": r"https?://(?!www\.w3\.org/)",
}


def faults(source: str) -> list[str]:
    """What a script has that none of ours may have."""
    return [what for what, pattern in FORBIDDEN.items() if re.search(pattern, source)]


def modules(files: list[Path]) -> dict[str, list[str] | str]:
    """For every file the modules that it imports, or why it is no module."""
    program = ("--no-warnings", "--experimental-vm-modules", "--input-type=module", "--eval", IMPORTS)
    return json.loads(typescript.node(*program, *map(str, files)))


def lost(file: Path, imported: list[str]) -> list[str]:
    """Imports that lead nowhere."""
    return [name for name in imported if name not in HOST
            and not (name.startswith("./") and (file.parent / name).is_file())]


@pytest.fixture
def compiler(cache: Path) -> Path:
    """The cache, with the compiler in it."""
    if not typescript.folder(cache).is_dir():
        missing(f"TypeScript {typescript.VERSION} was not fetched: `python run.py test` does it")
    return cache


def test_the_types_hold(compiler: Path) -> None:
    assert typescript.check(compiler, JS) == []


def test_a_wrong_type_is_seen(compiler: Path, tmp_path: Path) -> None:
    (tmp_path / "tsconfig.json").write_bytes((JS / "tsconfig.json").read_bytes())
    (tmp_path / "wrong.js").write_text("/** @param {number} n */\nconst f = n => n;\nf('1');\n", encoding="utf-8")
    said = typescript.check(compiler, tmp_path)
    assert len(said) == 1 and "wrong.js(3,3): error TS2345" in said[0]


def test_every_script_parses_and_finds_what_it_imports() -> None:
    found = modules(SCRIPTS)
    assert [file for file, said in found.items() if isinstance(said, str)] == []
    assert {file: wrong for file, said in found.items() if (wrong := lost(Path(file), list(said)))} == {}


def test_a_script_that_does_not_parse_or_imports_nothing_is_seen(tmp_path: Path) -> None:
    broken, lonely = tmp_path / "broken.js", tmp_path / "lonely.js"
    broken.write_text("const = 1;\n", encoding="utf-8")
    names = ["./gone.js", "lit", "https://cdn.example/lit.js", "../../scripts/app.js", "./broken.js"]
    lonely.write_text("".join(f'import "{name}";\n' for name in names), encoding="utf-8")
    found = modules([broken, lonely])
    assert str(found[str(broken)]).startswith("SyntaxError")
    assert lost(lonely, list(found[str(lonely)])) == names[:3]


def test_no_script_does_what_is_unsafe() -> None:
    assert {file.name: wrong for file in SCRIPTS if (wrong := faults(file.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(("source", "fault"), [
    ("box.innerHTML = name;", "HTML from text"), ("document.write(name)", "HTML from text"),
    ("eval(text)", "code from text"), ("new Function(text)", "code from text"),
    ("setTimeout('go()', 1)", "code from text"),
    ("localStorage.setItem('photo', photo)", "storage"), ("import('https://cdn.example/lit.js')", "another host"),
])
def test_what_is_unsafe_is_seen(source: str, fault: str) -> None:
    assert faults(source) == [fault]


def test_what_is_safe_is_not_told() -> None:
    assert faults('createElementNS("http://www.w3.org/2000/svg", "path"); setTimeout(go, 1); evaluate(x);') == []
