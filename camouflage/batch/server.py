"""A real ComfyUI server as a context manager.

The demo command and the server tests drive ComfyUI the way a user's browser does, with the pack in ``custom_nodes``.
Every server gets a base folder of its own, so that no user's settings, inputs or outputs are touched, and none
outlives the process that started it (``camouflage/batch/serve.py``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..comfy.installed import MODEL_FOLDERS, default_comfyui
from ..files import ROOT, OwnedFolder
from .client import ComfyClient, ComfyError, Interrupted, NodeFailed, Progress, PromptRefused, ServerDied

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ComfyClient", "ComfyError", "ComfyServer", "Interrupted", "NodeFailed",
           "Progress", "PromptRefused", "ServerDied", "place_pack"]

PREFIX = "camouflage-"  # of the temporary folders
_LOGGED = 40  # lines of the log that are shown
_PORT_TAKEN = ("address already in use", "only one usage of each socket address", "error while attempting to bind")


def place_pack(source: Path, target: Path) -> None:
    """Link a custom node folder; where links are refused (Windows without the right to make them), copy it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source.resolve(), target_is_directory=True)
        return
    except (OSError, NotImplementedError):
        pass
    listed = None
    if (source / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=source,
                                capture_output=True, check=False)
    if listed is None or listed.returncode:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*", "__pycache__", "camouflage-demo*"))
        return
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


class ComfyServer(ComfyClient):
    """Start ComfyUI on a free port of this machine and speak to it; a context manager.

    Args:
        comfyui: the folder with main.py; ``default_comfyui()`` if None.
        run_folder: base folder for inputs, outputs, previews and the log. If None, a temporary one that is deleted
            in the end, whatever the end is: by this process, by the server when this process is gone, and where both
            were killed by the next one that makes such a folder.
        models: models folders (each with checkpoints/, controlnet/, camouflage/, ...) to search.
        packs: custom node folders to load, by the name to load them under; this pack alone if None.
        arguments: further arguments for main.py.
        environment: environment variables to add.
        cpu: False lets ComfyUI choose the device.
        timeout: seconds to wait for the server to come up.
    """

    def __init__(self, comfyui: Path | None = None, run_folder: Path | None = None, *, models: Sequence[Path] = (),
                 packs: Mapping[str, Path] | None = None, arguments: Sequence[str] = (),
                 environment: Mapping[str, str] | None = None, cpu: bool = True, timeout: float = 300) -> None:
        super().__init__("")
        self.comfyui = (comfyui or default_comfyui()).absolute()
        self.temporary = OwnedFolder(PREFIX) if run_folder is None else None
        self.run_folder = self.temporary.path if self.temporary else Path(run_folder or "").absolute()
        self.models = [path.absolute() for path in models]
        self.packs = {"camouflage": ROOT} if packs is None else dict(packs)
        self.arguments, self.environment = list(arguments), dict(environment or {})
        self.cpu, self.timeout = cpu, timeout
        self.process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log_file(self) -> Path:
        """Everything the server prints."""
        return self.run_folder / "server.log"

    def log(self) -> str:
        """The server's log so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def command(self, port: int) -> list[str]:
        """The command line of the server."""
        command = [sys.executable, str(Path(__file__).with_name("serve.py"))]
        command += ["--remove", str(self.run_folder)] if self.temporary else []
        command += [str(self.comfyui / "main.py"), "--port", str(port), "--listen", "127.0.0.1",
                    "--disable-auto-launch", "--base-directory", str(self.run_folder), "--database-url", "sqlite:///:memory:",
                    "--disable-api-nodes", "--disable-all-custom-nodes", "--whitelist-custom-nodes", *self.packs]
        command += ["--cpu"] if self.cpu else []
        if self.models:
            command += ["--extra-model-paths-config", str(self._write_model_paths())]
        return command + self.arguments

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ServerDied with the log's tail if it does not."""
        if not (self.comfyui / "main.py").is_file():
            raise ComfyError(f"{self.comfyui} is no ComfyUI folder: there is no main.py in it.")
        self.run_folder.mkdir(parents=True, exist_ok=True)
        for name, source in self.packs.items():
            if not os.path.lexists(self.run_folder / "custom_nodes" / name):
                place_pack(source, self.run_folder / "custom_nodes" / name)
        for attempt in range(3):
            try:
                self._start_once()
                return
            except ServerDied as error:
                self._stop()
                if attempt == 2 or not any(hint in str(error).lower() for hint in _PORT_TAKEN):
                    raise

    def _start_once(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._log = open(self.log_file, "wb")  # noqa: SIM115 - lives as long as the server
        # A group of its own: Ctrl-C is for the person's command, which then stops the server in good order.
        group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self.process = subprocess.Popen(
            self.command(port), stdin=subprocess.PIPE, stdout=self._log, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **self.environment}, **group)
        deadline = time.monotonic() + self.timeout
        while not self._answers():
            self.check_alive()
            if time.monotonic() > deadline:
                raise ServerDied(f"ComfyUI did not answer within {self.timeout:g} s. {self.told()}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        """Whether our server is up, and not a stranger who took the port between our look and its start."""
        try:
            arguments = self.get("/system_stats").get("system", {}).get("argv")
        except (ComfyError, OSError, ValueError, AttributeError):
            return False
        return arguments is None or str(self.run_folder) in arguments

    def check_alive(self) -> None:
        """Raise ServerDied, with the cause or the end of the log, if the process is gone."""
        if self.process is None or self.process.poll() is not None:
            code = "" if self.process is None else f" (exit code {self.process.returncode})"
            raise ServerDied(f"The ComfyUI server is not running any more{code}. {self.told()}")

    def check_loaded(self, node: str) -> None:
        """Raise ComfyError if the server runs without the custom nodes that ``node`` belongs to."""
        if node not in self.object_info():
            raise ComfyError(f"ComfyUI is up, but has not loaded {' and '.join(self.packs)}. {self.told()}")

    def told(self) -> str:
        """What the log says of a failure, for people: the module that is missing, else its last traceback or lines."""
        lines = self.log().splitlines()
        for line in reversed(lines[-5:]):
            if found := re.match(r"ModuleNotFoundError: No module named '(\w+)", line):
                package = {"yaml": "PyYAML", "PIL": "Pillow", "cv2": "opencv-python-headless"}.get(found[1], found[1])
                return (f"It needs the Python module {found[1]}, which is not installed. Install it, then run the same "
                        f"command again: {sys.executable} -m pip install {package}")
        tracebacks = [number for number, line in enumerate(lines) if line.startswith("Traceback ")]
        begin = tracebacks[-1] if tracebacks else max(0, len(lines) - _LOGGED)
        text = "\n".join(lines[begin:begin + _LOGGED])
        return f"From its log:\n{text}" if text else "Its log is empty."

    def _write_model_paths(self) -> Path:
        """The extra_model_paths file for ``models``; JSON is YAML."""
        file = self.run_folder / "extra_model_paths.yaml"
        paths = {key: "\n".join(str(folder / key) for folder in self.models) for key in MODEL_FOLDERS}
        file.write_text(json.dumps({"camouflage": paths}, ensure_ascii=False, indent=1), encoding="utf-8")
        return file

    def _stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            finally:
                if process.stdin:
                    process.stdin.close()
        if self._log:
            self._log.close()

    def close(self) -> None:
        """Stop the server, and delete its folder if it is a temporary one. May be called twice."""
        try:
            self._stop()
        finally:
            if self.temporary:
                self.temporary.close()
