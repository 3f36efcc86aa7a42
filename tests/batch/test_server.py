"""The server's life and the client's words, against a stand-in for ComfyUI's main.py that starts in no time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from PIL import Image

from camouflage.batch import client
from camouflage.batch.server import ComfyServer, ServerDied, place_pack
from camouflage.comfy import installed
from camouflage.commands import demo
from camouflage.commands.contact_sheet import contact_sheet
from camouflage.errors import CamouflageError
from camouflage.files import ROOT

MAIN = """
import http.server, json, os, sys
print("working in", os.getcwd(), "stdin", repr(sys.stdin.read()))
print("arguments", sys.argv[1:])
print("path", sys.path[0], [path for path in sys.path if path.endswith("batch")])
if os.environ.get("DIE"):
    sys.exit("no such luck")
if os.environ.get("NEEDS"):
    __import__(os.environ["NEEDS"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({"system": {"argv": sys.argv}, "pid": os.getpid()}).encode())
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    (folder / "main.py").write_text(MAIN)
    return folder


def gone(pid: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # only waits for init to take note
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_server_starts_isolated_and_leaves_nothing(stand_in: Path, tmp_path: Path) -> None:
    with ComfyServer(stand_in, models=[tmp_path / "m\u00f6dels"], arguments=["--extra"]) as server:
        folder = server.run_folder
        pid = server.get("/system_stats")["pid"]
        log = server.log()
        assert f"working in {stand_in}" in log
        assert "stdin ''" in log, "the watchdog's pipe is not for ComfyUI"
        assert all(word in log for word in ("--cpu", "--extra", "--disable-api-nodes", str(folder)))
        assert (folder / "custom_nodes" / "camouflage" / "run.py").is_file()
        assert str(tmp_path / "m\u00f6dels" / "camouflage") in (folder / "extra_model_paths.yaml").read_text("utf-8")
    assert gone(pid)
    assert not folder.exists()


@pytest.mark.parametrize("safe", ["", "1"])
def test_only_comfyui_is_first_on_the_servers_path(stand_in: Path, safe: str) -> None:
    with ComfyServer(stand_in, environment={"PYTHONSAFEPATH": safe}) as server:
        assert f"path {stand_in} []" in server.log()


def test_a_server_that_dies_shows_the_end_of_its_log(stand_in: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerDied, match=r"exit code 1(?s:.*)no such luck"), \
            ComfyServer(stand_in, tmp_path / "run", environment={"DIE": "1"}):
        pass
    assert (tmp_path / "run" / "server.log").exists(), "a folder that the caller named is the caller's"


@pytest.mark.parametrize(("module", "pip"), [("torchaudio_not_there", "torchaudio_not_there"),
                                             ("package_not_there.part", "package_not_there")])
def test_a_server_that_lacks_a_module_names_it_and_how_to_get_it(stand_in: Path, module: str, pip: str) -> None:
    with pytest.raises(ServerDied) as caught, ComfyServer(stand_in, environment={"NEEDS": module}):
        pass
    told = str(caught.value)
    assert f"needs the Python module {pip}, which is not installed" in told
    assert told.endswith(f"{sys.executable} -m pip install {pip}") and "Traceback" not in told


def test_a_server_without_the_pack_shows_why_it_was_not_loaded(tmp_path: Path) -> None:
    server = ComfyServer(tmp_path, tmp_path / "run")
    server.object_info = lambda: {"LoadImage": {}}
    server.check_loaded("LoadImage")
    server.run_folder.mkdir()
    server.log_file.write_text("long ago\nTraceback (most recent call last):\n  here\nSyntaxError: bad\nmore\n")
    with pytest.raises(client.ComfyError, match=r"not loaded camouflage. From its log:\nTraceback(?s:.*)bad\nmore$"):
        server.check_loaded("CamouflageVerify")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_the_server_and_its_files_do_not_outlive_a_killed_parent(stand_in: Path) -> None:
    parent, pid, folder = start_parent(stand_in)
    parent.kill()
    parent.wait()
    assert gone(pid)
    assert not folder.exists()


def start_parent(stand_in: Path) -> tuple[subprocess.Popen[str], int, Path]:
    """A process that holds a server: itself, the server's process and its folder."""
    code = (f"import sys, time; sys.path.append({str(ROOT)!r})\nfrom pathlib import Path\n"
            "from camouflage.batch.server import ComfyServer\n"
            f"with ComfyServer(Path({str(stand_in)!r})) as server:\n"
            "    print(server.get('/system_stats')['pid'], server.run_folder, flush=True); time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, folder = parent.stdout.readline().split(maxsplit=1)
    assert Path(folder.strip()).is_dir()
    return parent, int(pid), Path(folder.strip())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_what_a_killed_parent_and_its_killed_server_leave_is_removed_by_the_next(
        stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    parent, pid, folder = start_parent(stand_in)
    (folder / "input").mkdir(exist_ok=True)
    (folder / "input" / "photo.png").write_bytes(b"a face")
    with ComfyServer(stand_in):
        assert folder.is_dir(), "its owner lives"
    parent.send_signal(signal.SIGSTOP)  # neither cleans up
    os.kill(pid, signal.SIGKILL)
    parent.kill()
    parent.wait()
    assert gone(pid) and (folder / "input" / "photo.png").exists()
    (foreign := folder.with_name("camouflage-foreign")).mkdir()
    with ComfyServer(stand_in) as server:
        assert not folder.exists()
        assert server.run_folder.is_dir() and foreign.is_dir()
    assert list(folder.parent.iterdir()) == [foreign]


def test_a_pack_is_copied_where_links_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "pack"
    (source / "nodes").mkdir(parents=True)
    (source / "nodes" / "a.py").write_text("x = 1")
    (source / ".venv").mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    place_pack(source, tmp_path / "custom_nodes" / "copy")
    assert (tmp_path / "custom_nodes" / "copy" / "nodes" / "a.py").read_text() == "x = 1"
    assert not (tmp_path / "custom_nodes" / "copy" / ".venv").exists()


PROMPT = {"5": {"class_type": "SaveImage", "inputs": {}, "_meta": {"title": "Anonymized"}},
          "6": {"class_type": "VAEDecode", "inputs": {}}}


def test_a_refused_workflow_is_told_by_node_and_input() -> None:
    answer = {"error": {"message": "Prompt outputs failed validation"}, "node_errors": {"5": {"errors": [
        {"message": "Required input is missing", "details": "images", "extra_info": {"input_name": "images"}}]}}}
    told = client._refusal(PROMPT, answer)
    assert "node 5, Anonymized (SaveImage), input 'images': Required input is missing" in told
    assert "no outputs" in client._refusal(PROMPT, {"error": {"message": "Prompt has no outputs", "details": ""}})


def test_failures_in_the_history_become_exceptions() -> None:
    failed = {"status": {"status_str": "error", "messages": [
        ["execution_start", {}], ["execution_error", {"node_id": "6", "exception_message": "it broke\n"}]]}}
    with pytest.raises(client.NodeFailed, match=r"^Node 6, VAEDecode, failed: it broke$"):
        client._raise_failure(PROMPT, failed)
    stopped = {"status": {"status_str": "error", "messages": [["execution_interrupted", {"node_id": "5"}]]}}
    with pytest.raises(client.Interrupted, match="Anonymized"):
        client._raise_failure(PROMPT, stopped)


def test_progress_is_read_from_old_and_new_messages_of_our_run_only() -> None:
    old = '{"type": "progress", "data": {"prompt_id": "p", "node": "6", "value": 3, "max": 4}}'
    new = ('{"type": "progress_state", "data": {"prompt_id": "p", "nodes": {'
           '"5": {"node_id": "5", "state": "finished", "value": 1, "max": 1},'
           '"6": {"node_id": "6", "state": "running", "value": 3, "max": 4}}}}')
    expected = [client.Progress("6", "VAEDecode", 3, 4)]
    assert client._progress(PROMPT, "p", old) == client._progress(PROMPT, "p", new) == expected
    assert client._progress(PROMPT, "other", old) == client._progress(PROMPT, "p", b"preview") == []
    assert client._progress(PROMPT, "p", '{"type": "executing", "data": {"prompt_id": "p", "node": null}}') == [None]


def test_extra_model_folders_count_as_installed(tmp_path: Path) -> None:
    weights = installed.needed_by("base")
    assert installed.missing(tmp_path, "base") == list(weights)
    told = installed.describe_missing(list(weights), tmp_path)
    assert all(weight.url in told for weight in weights if weight.url)
    assert str(tmp_path / "models" / "checkpoints") in told
    (tmp_path / "extra_model_paths.yaml").write_text("mine:\n  base_path: far\n  controlnet: |\n    cn\n    more\n")
    one = next(weight for weight in weights if weight.folder == "controlnet")
    (tmp_path / "far" / "more").mkdir(parents=True)
    (tmp_path / "far" / "more" / one.file).touch()
    assert installed.missing(tmp_path, "base") == [weight for weight in weights if weight != one]


def test_photos_are_upright_flat_and_bare(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "red").save(tmp_path / "turned.jpg", exif=exif)
    photo = demo.load_photo(tmp_path / "turned.jpg")
    assert photo.size == (20, 40)
    assert not photo.info
    assert not photo.getexif()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert demo.load_photo(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    assert demo.load_photo(None).size == (512, 512)
    (tmp_path / "no.jpg").write_text("no picture")
    with pytest.raises(CamouflageError, match=r"no\.jpg cannot be read as a picture"):
        demo.load_photo(tmp_path / "no.jpg")


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    assert [demo.new_folder(tmp_path / "out").name for _ in range(3)] == ["out", "out-2", "out-3"]


@pytest.mark.parametrize("size", [(64, 64), (1, 400), (400, 1)])
def test_the_contact_sheet_holds_any_shape_and_a_long_caption(size: tuple[int, int]) -> None:
    pictures = {name: Image.new("RGB", size, "red") for name in ("a", "b", "c")}
    sheet = contact_sheet(pictures, pictures, "word " * 80 + "x" * 500, "footer")
    assert sheet.width == 1360
    assert (255, 0, 0) in [colour for _, colour in sheet.getcolors(sheet.width * sheet.height) or []]
