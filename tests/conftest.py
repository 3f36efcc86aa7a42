"""Fixtures: the pack without a host, the miniature weights, a real ComfyUI in process and over HTTP."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import torch

import kept
import one_library
import sampled
from in_host import enter_host, host_folder

if TYPE_CHECKING:
    from camouflage.batch.server import ComfyServer

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # last: the host's own `nodes` module must win over our folder of that name

os.environ.setdefault("HF_HUB_OFFLINE", "1")

hypothesis.settings.register_profile("seeded", derandomize=True, deadline=None)
hypothesis.settings.load_profile("seeded")
one_library.install(ROOT)  # the pack that ComfyUI loads shares its library with the tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """Long tables of cases are sampled, see ``sampled``."""
    parser.addoption("--all", action="store_true", help="every case of the long tables, not a sample of them")


@pytest.hookimpl(trylast=True)  # after the reporter is there
def pytest_configure(config: pytest.Config) -> None:
    """Test files ask while they are collected."""
    sampled.everything = bool(config.getoption("--all"))
    if (reporter := config.pluginmanager.get_plugin("terminalreporter")) is not None:  # not in a worker
        config.pluginmanager.register(AtOnce(reporter))


class AtOnce:
    """Says what failed when it fails, so that a run that never comes to its end has told all it knew."""

    def __init__(self, reporter: Any) -> None:
        self.reporter = reporter

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.reporter.write_line(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.0f} s)")
            for line in report.longreprtext.splitlines()[-12:]:
                self.reporter.write_line(f"    {line}")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from scheduling import Scheduler

    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is served goes first, for it takes longest; what needs no host last, so that two processes end together."""

    def when(item: pytest.Item) -> int:
        if "server" in getattr(item, "fixturenames", ()):
            return 0
        return 2 if item.nodeid.startswith(("tests/library/", "tests/method/", "tests/output/")) else 1

    items.sort(key=when)


def pytest_collection_finish() -> None:
    collect()


def collect() -> None:
    """Gives back what nobody uses. What is left stays for a while: the collector, which the host calls again and again,
    need not look at a million objects each time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Between two folders, ends the servers that the tests of one shared; between two files, gives back what the tests
    of one left behind: networks are large, and lie in cycles."""
    try:
        yield
    finally:
        if nextitem is None or nextitem.path != item.path:
            give_back(servers=nextitem is None or nextitem.path.parent != item.path.parent)


def give_back(servers: bool) -> None:
    """Memory, as much as there is to give."""
    try:
        if servers:
            kept.end()
    finally:
        collect()
        if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc
            libc.malloc_trim(0)


@pytest.fixture(scope="session")
def cache() -> Path:
    """Where everything that is built once lives."""
    return Path(os.environ.get("CAMOUFLAGE_CACHE") or Path.home() / ".cache" / "camouflage")


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """Folder of a real ComfyUI."""
    return host_folder()


@pytest.fixture(scope="session")
def miniature_models(cache: Path) -> Path:
    """A `models` folder of seeded random weights in the published layouts."""
    from testing import miniature

    return miniature.ensure(cache)


@pytest.fixture(scope="session")
def host(miniature_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The host in this process, with the pack loaded by the host's own loader.

    Attributes: `nodes` (the host's node classes by id), `run(node_id, **inputs)` -> tuple of outputs,
    `module(name)` -> a module of the loaded pack, such as "camouflage.comfy.guidance".
    """
    enter_host()
    import comfy.cli_args

    comfy.cli_args.args.base_directory = str(tmp_path_factory.mktemp("base"))
    import folder_paths

    import nodes

    for key in ("checkpoints", "clip_vision", "controlnet", "embeddings", "ipadapter", "loras", "vae", "camouflage"):
        folder_paths.add_model_folder_path(key, str(miniature_models / key), is_default=True)
    asyncio.run(nodes.init_builtin_extra_nodes())
    assert asyncio.run(nodes.load_custom_node(str(ROOT)))
    package = str(ROOT).replace(".", "_x_")

    def defaults(node: type) -> dict:
        values = {}
        for socket in node.GET_SCHEMA().inputs:
            default = getattr(socket, "default", None)
            if default is None and getattr(socket, "options", None):
                default = socket.options[0]
            if default is not None:
                values[socket.id] = default
        return values

    def run(node_id: str, **inputs: object) -> tuple:
        node = nodes.NODE_CLASS_MAPPINGS[node_id]
        with torch.inference_mode():  # as the host executes nodes
            if hasattr(node, "define_schema"):  # V3: defaults of the schema fill in what is not given
                result = node.EXECUTE_NORMALIZED(**{**defaults(node), **inputs})
                return tuple(result.result or ())
            return getattr(node(), node.FUNCTION)(**inputs)

    yield SimpleNamespace(nodes=nodes.NODE_CLASS_MAPPINGS, run=run,
                          module=lambda name: importlib.import_module(f".{name}", package))


@pytest.fixture(scope="module")
def server(comfyui: Path, miniature_models: Path) -> ComfyServer:
    """A real ComfyUI over HTTP with the pack, under an odd folder name, and the miniature weights.

    The stock samplers send a preview of every step: whatever is tested here must not leak by one.
    """
    from camouflage.batch.server import ComfyServer

    return kept.kept("server", lambda: ComfyServer(
        comfyui, models=[miniature_models], packs={"my.CAMOUFLaGE-1 (copy)": ROOT},
        arguments=["--preview-method", "latent2rgb"]))
