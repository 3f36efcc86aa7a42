"""claims.md: every promise of the documents has a test that exists, or says why it has none."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from camouflage.files import ROOT

TESTS = ROOT / "tests"
CLAIMS = TESTS / "claims.md"
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> Iterator[tuple[str, str, str]]:
    """Document, claim and what holds it, of every line of the tables."""
    document = ""
    for line in CLAIMS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            document = line[3:]
        if line.startswith("|") and not line.startswith(("| Claim |", "|---")):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == 2, line
            yield document, cells[0], cells[1]


ROWS = list(rows())


@functools.cache
def words(document: str) -> str:
    return " ".join((ROOT / document).read_text(encoding="utf-8").split())


@functools.cache
def names_in(file: Path) -> set[str]:
    """The names of the tests of a file."""
    return {node.name for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")}


def test_there_are_claims_about_every_part() -> None:
    assert len(ROWS) > 90 and len({(document, claim) for document, claim, _ in ROWS}) == len(ROWS)
    assert {document for document, _, _ in ROWS} >= {
        "README.md", "docs/verification.md", "docs/calibration.md", "docs/data-protection.md",
        "js/docs/CamouflageSafeSampler/en.md"}


@pytest.mark.parametrize("document", sorted({document for document, _, _ in ROWS}))
def test_what_is_claimed_is_said(document: str) -> None:
    assert [claim for other, claim, _ in ROWS if other == document and claim not in words(document)] == []


def test_every_named_test_exists() -> None:
    named = [pair for _, _, held in ROWS for pair in NAMED.findall(held)]
    assert [f"{path}::{name}" for path, name in named
            if not (TESTS / path).is_file() or name not in names_in(TESTS / path)] == []
    assert sum("::" in part for _, _, held in ROWS for part in held.split("`")) == len(named), "all were read"


def test_every_claim_names_a_test_or_says_why_it_has_none() -> None:
    for _, claim, held in ROWS:
        reason = held.removeprefix("not tested: ")
        assert (reason != held and len(reason) >= 20) or NAMED.sub("", held).strip(" ,") == "" != held, claim
