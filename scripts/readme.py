"""The README's table of weights, from the registry: ``python -m tools.readme`` writes it into README.md."""

from __future__ import annotations

import sys

from camouflage.files import ROOT
from camouflage.weights import REGISTRY, Weight

README = ROOT / "README.md"
BEGIN, END = "<!-- weights:begin -->", "<!-- weights:end -->"
_COMMERCIAL = {True: "allowed", False: "**not allowed**", None: "not stated"}


def size_text(size: int | None) -> str:
    """Bytes for people, in decimal units; a dash where unknown."""
    if size is None:
        return "-"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _row(weight: Weight) -> str:
    link = f"[download]({weight.url})" if weight.url else "none: [train it yourself](#training)"
    return (f"| {weight.role} | `models/{weight.path}` | {link} | {size_text(weight.size)} | {weight.licence} "
            f"| {_COMMERCIAL[weight.commercial]} |")


def weights_table() -> str:
    """The table as markdown, a row for every file of the registry, without a line end."""
    head = ("| Role | File | Download | Size | Licence of the weights | Commercial use |\n"
            "|---|---|---|---|---|---|\n")
    return head + "\n".join(map(_row, REGISTRY))


def updated(text: str) -> str:
    """``text`` with the table between its markers replaced by the current one."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{weights_table()}\n{END}{after}"


def main() -> int:
    """Update README.md."""
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
