"""What ComfyUI's panel is told of weights and can order, with a server that does everything wrong."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bad_server import BadServer, running
from camouflage.comfy import weights_service
from camouflage.comfy.routes import Refused, choices, demand_own_page, same_place
from camouflage.comfy.weights_service import WeightsService
from camouflage.errors import CamouflageError
from camouflage.provision.digests import KnownDigests
from camouflage.provision.plan import AtWork, only_one
from camouflage.provision.state import FileState, states
from camouflage.provision.web import Web
from camouflage.weights import REGISTRY, needed_by
from stand_ins import BASE, address, on_disk, publish, stand_ins

FILES = stand_ins()
DEPTH = BASE[2]


@pytest.fixture
def server(monkeypatch) -> Iterator[BadServer]:
    with running() as bad:
        web = Web(hub=bad.url, timeout=0.3, pause=0.01)
        monkeypatch.setattr(weights_service, "from_environment", lambda: web)
        yield bad


@pytest.fixture
def models(tmp_path, server) -> Path:
    publish(FILES, server, tmp_path / "models")
    return tmp_path / "models"


class Panel:
    """A service, and what it has sent."""

    def __init__(self, *folders: Path, cache: Path) -> None:
        self.sent: list[dict] = []
        self.times: list[float] = []
        self.over = threading.Event()
        self.folders = folders
        self.cache = cache
        self.service = WeightsService(self.take, lambda key: [folder / key for folder in folders], cache)

    def take(self, facts: dict) -> None:
        self.sent.append(facts)
        self.times.append(time.monotonic())
        if facts["work"] is None:
            self.over.set()

    def wait(self) -> dict:
        """How the work ended."""
        assert self.over.wait(30)
        self.over.clear()
        return self.sent[-1]["last"]

    def get(self, **choices: bool) -> dict:
        self.service.get(["base"], **choices)
        return self.wait()

    def files(self) -> dict[str, dict]:
        return {file["file"]: file for file in self.service.facts()["files"]}

    def says_what_is_there(self) -> dict[str, dict]:
        """Facts by file; they must be those of the disk, and those of `weights list`."""
        files = self.files()
        assert {name: file["state"] for name, file in files.items()} == on_disk(FILES, *self.folders)
        known = KnownDigests(self.cache / "digests")
        for listed in states(REGISTRY, lambda key: [folder / key for folder in self.folders], known):
            ours, told = files[listed.weight.path], command_says(listed)
            assert {key: ours[key] for key in told} == told
        return files


def command_says(file: FileState) -> dict:
    """What the panel has from `weights list --json`, as it is."""
    told = file.document()
    for name in ("path", "size"):
        told.pop(name)
    return told


@pytest.fixture
def panel(models, tmp_path) -> Panel:
    return Panel(models, cache=tmp_path / "cache")


def base_needs(panel: Panel) -> dict:
    return next(entry for entry in panel.service.facts()["pipelines"] if entry["name"] == "base")["needs"]


def test_all_of_a_pipeline_comes_and_every_state_is_that_of_the_disk(panel, server):
    files = panel.says_what_is_there()
    assert {file["state"] for file in files.values()} == {"missing", "to be trained"}
    assert (base_needs(panel)["missing"], base_needs(panel)["size"], base_needs(panel)["unknown"]) == (
        27, 4_136_113_461, 16)
    assert server.asked == [], "nothing comes before somebody orders it"

    assert panel.get() == {"kind": "get", "outcome": "done", "why": "", "present": 27, "failed": 0}
    files = panel.says_what_is_there()
    assert {name for name, file in files.items() if file["state"] == "present"} == {weight.path for weight in BASE}
    assert (base_needs(panel)["missing"], base_needs(panel)["size"]) == (0, 0)
    assert panel.get() == {"kind": "get", "outcome": "done", "why": "", "failed": 0}


def test_progress_is_told_four_times_a_second_at_most(panel, server):
    server.pause = 0.05
    assert panel.get()["present"] == 27
    work = [facts["work"] for facts in panel.sent[:-1]]
    assert [each["ended"] for each in work] == sorted(each["ended"] for each in work)
    assert work[-1]["files"] == 27 and 0 < work[-1]["have"] <= work[-1]["total"] and any(each["rate"] for each in work)
    named = {name for each in work for name in each["parts"]}
    assert named and named <= {weight.path for weight in BASE}
    pauses = [after - before for before, after in zip(panel.times, panel.times[1:-1], strict=False)]
    assert len(pauses) > 2 and min(pauses) > 0.24
    assert json.loads(json.dumps(panel.sent)), "plain data"


def test_what_could_not_be_had_is_said_in_place_until_it_comes(panel, server, tmp_path):
    wrong, page, gone, healed = (address(weight) for weight in BASE[1:5])
    server.moods = {page: ["page"], wrong: ["wrong"], healed: ["break", "429", "503", "stall"]}
    content = server.files.pop(gone)
    assert panel.get() == {"kind": "get", "outcome": "done", "why": "", "present": 24, "failed": 3}
    files = panel.says_what_is_there()
    faults = {name: file["fault"] for name, file in files.items() if file["fault"]}
    assert sorted(faults) == sorted(weight.path for weight in BASE[1:4])
    for weight, said in zip(BASE[1:4], ("not the file that was expected", "a web page came", "404"), strict=True):
        assert said in faults[weight.path]
    assert str(tmp_path) not in json.dumps([panel.service.facts(), panel.sent])

    server.files[gone] = content
    assert panel.get()["present"] == 3
    assert not any(file["fault"] for file in panel.says_what_is_there().values())


def test_stopped_it_keeps_the_parts_and_goes_on_from_there(panel, server, models):
    server.pause = 0.1
    panel.service.get(["base"])
    while not any(file["state"] == "partly" for file in panel.files().values()):
        time.sleep(0.02)
    panel.service.stop()
    assert panel.service.progress()["work"]["stopping"]
    assert panel.wait()["outcome"] == "stopped"
    files = panel.says_what_is_there()
    begun = [name for name, file in files.items() if file["state"] == "partly"]
    assert begun and all(files[name]["size_on_disk"] == (models / f"{name}.part").stat().st_size for name in begun)

    server.pause, before = 0.0, len(server.asked)
    assert panel.get()["outcome"] == "done"
    ranges = {path: headers.get("Range") for path, headers in server.asked[before:]}
    for weight in BASE:
        if weight.path in begun and 0 < files[weight.path]["size_on_disk"] < len(FILES[weight]):
            assert ranges[address(weight)] == f"bytes={files[weight.path]['size_on_disk']}-"
    assert all(panel.says_what_is_there()[weight.path]["state"] == "present" for weight in BASE)


def test_a_damaged_file_is_found_named_and_replaced_only_if_wanted(panel, models):
    panel.get()
    page, changed = models / BASE[0].path, models / BASE[1].path
    page.write_bytes(b"<html>login</html>")
    changed.write_bytes(FILES[BASE[1]][:-1] + b"!")
    files = panel.files()
    assert (files[BASE[0].path]["state"], files[BASE[1].path]["state"]) == ("damaged", "unverified")
    assert files[BASE[1].path]["why"] == "Its SHA-256 has not been computed yet."
    panel.service.verify()
    assert panel.wait() == {"kind": "verify", "outcome": "done", "why": "", "present": 25, "damaged": 2}
    assert "It is a web page" in panel.says_what_is_there()[BASE[0].path]["why"]
    assert panel.get() == {"kind": "get", "outcome": "done", "why": "", "failed": 0}
    assert page.read_bytes() == b"<html>login</html>" and base_needs(panel)["damaged"] == 2
    assert panel.get(replace_damaged=True)["present"] == 2
    assert panel.says_what_is_there()[BASE[1].path]["state"] == "present"


def test_a_file_in_a_second_models_folder_is_there(models, server, tmp_path):
    panel = Panel(models, tmp_path / "shared", cache=tmp_path / "cache")
    other = tmp_path / "shared" / DEPTH.path
    other.parent.mkdir(parents=True)
    other.write_bytes(FILES[DEPTH])
    panel.service.verify(["base"])
    panel.wait()
    file = panel.says_what_is_there()[DEPTH.path]
    assert (file["state"], file["path"], file["elsewhere"]) == ("present", DEPTH.path, True)
    assert panel.get()["present"] == 26 and not (models / DEPTH.path).exists()


def test_one_download_at_a_time_in_this_process_and_in_others(panel, server):
    with only_one(panel.cache), pytest.raises(AtWork, match="being fetched already"):
        panel.service.get(["base"])
    assert panel.service.progress()["work"] is None and server.asked == []
    server.pause = 0.05
    panel.service.get(["base"])
    for order in (panel.service.get, panel.service.verify):
        with pytest.raises(AtWork):
            order(["base"])
    with pytest.raises(AtWork), only_one(panel.cache):
        pass
    panel.service.stop()
    panel.wait()
    assert panel.get()["outcome"] == "done", "nothing is held any more"


def test_a_disk_that_is_too_small_is_said_without_its_folder(panel, monkeypatch, server, tmp_path):
    free = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    last = panel.get()
    assert last["outcome"] == "failed" and "are needed on the disk of models" in last["why"]
    assert "1.0 MB are free" in last["why"] and str(tmp_path) not in last["why"] and server.asked == []


def test_where_models_cannot_be_written_each_file_says_so(panel, models, tmp_path):
    (models / "vae").write_text("in the way")
    assert panel.get()["failed"] == 1
    fault = panel.files()[BASE[1].path]["fault"]
    assert "models/vae/vae-ft-mse-840000-ema-pruned.safetensors cannot be written" in fault
    assert str(tmp_path) not in fault


def test_the_commercial_safe_set_says_what_to_set(panel):
    base = next(entry for entry in panel.service.facts()["pipelines"] if entry["name"] == "base")
    assert base["title"] == "CAMOUFLaGE-Base" and len(base["needs"]["files"]) == 27
    safe = base["commercial_safe"]
    assert safe["instead"] == [
        {"role": "checkpoint", "widget": "Checkpoint.ckpt_name", "value": "v1-5-pruned-emaonly.safetensors"},
        {"role": "pose", "widget": "Pose Map.network", "value": "ViTPose"}]
    assert safe["nothing_for"] == []
    assert sorted(safe["files"]) == sorted(
        weight.path for weight in needed_by("base_commercial"))


def test_files_of_one_role_share_what_the_panel_says_once_for_all():
    shared = {weight.role: {(other.licence, other.commercial, other.pipelines) for other in REGISTRY
                            if other.role == weight.role} for weight in REGISTRY}
    assert {role: told for role, told in shared.items() if len(told) > 1} == {}


def test_new_files_go_where_the_host_wants_them(monkeypatch, tmp_path):
    import folder_paths

    def folders(key: str, *listed: Path) -> list[Path]:
        names = {key: (list(map(str, listed)), set())} if listed else {}
        monkeypatch.setattr(folder_paths, "folder_names_and_paths", names)
        return list(weights_service.host_folders(key))

    vae, ours = Path(folder_paths.models_dir, "vae"), Path(folder_paths.models_dir, "camouflage")
    assert folders("vae", vae, tmp_path) == [vae, tmp_path]
    assert folders("vae", tmp_path, vae) == [tmp_path, vae], "extra_model_paths.yaml calls it the default"
    assert folders("camouflage", tmp_path, ours) == [ours, tmp_path]
    assert folders("ipadapter") == [Path(folder_paths.models_dir, "ipadapter")], "before anybody has asked for one"


def test_an_error_that_nobody_expected_ends_the_work_and_not_the_service(panel, monkeypatch):
    def fails(*_: object, **__: object) -> Callable:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(weights_service, "fetch_all", fails)
        assert panel.get() == {"kind": "get", "outcome": "failed", "why": "RuntimeError: broken"}
    assert panel.get()["present"] == 27


@pytest.mark.parametrize(("origin", "host", "same"), [
    ("http://127.0.0.1:8188", "127.0.0.1:8188", True), ("http://localhost", "localhost:80", True),
    ("https://comfy.example", "comfy.example", True), ("https://Comfy.example:443", "comfy.example", True),
    ("http://127.0.0.1:8189", "127.0.0.1:8188", False), ("http://evil.example", "comfy.example", False),
    ("http://comfy.example.evil.example", "comfy.example", False), ("null", "127.0.0.1:8188", False),
    ("http://127.0.0.1:8188", "", False), ("http://x:port", "x", False), ("file://", "x", False)])
def test_who_may_ask(origin, host, same):
    assert same_place(origin, host) is same
    if same:
        demand_own_page({"Origin": origin, "Host": host, "Sec-Fetch-Site": "same-origin"})
        demand_own_page({"Host": host})
    elsewhere = {"Origin": origin, "Host": host, **({"Sec-Fetch-Site": "cross-site"} if same else {})}
    for headers in (elsewhere, {"Host": host, "Sec-Fetch-Site": "same-site"}):
        with pytest.raises(Refused) as refused:
            demand_own_page(headers)
        assert refused.value.status == 403


def test_what_a_body_may_choose():
    kinds = {"pipelines": list, "commercial_safe": bool}
    assert choices({"pipelines": ["base", "all"]}, **kinds) == {"pipelines": ["base", "all"]}
    for body in ({"models": "/etc"}, {"pipelines": "base"}, {"pipelines": ["../base"]}, {"pipelines": [["base"]]},
                 {"commercial_safe": 1}):
        with pytest.raises(CamouflageError) as refused:
            choices(body, **kinds)
        assert refused.value.status == 400


def test_a_length_that_a_server_told_is_remembered(panel, server):
    unknown = next(weight for weight in BASE if weight.size is None)
    server.moods = {address(unknown): ["page"]}
    panel.get()
    assert panel.files()[unknown.path]["size"] == len(FILES[unknown])
    assert base_needs(panel) == {**base_needs(panel), "missing": 1, "unknown": 0, "size": len(FILES[unknown])}
