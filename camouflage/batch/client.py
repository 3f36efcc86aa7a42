"""A small synchronous client for a running ComfyUI.

It speaks what a user's browser speaks, HTTP and the websocket, and turns every refusal and failure into sentences
that name the node and the input.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import websocket

from ..errors import CamouflageError

_FINISHED = ("execution_success", "execution_error", "execution_interrupted")


class ComfyError(CamouflageError):
    """What ComfyUI could not do, as sentences for the person at the screen."""

    exit_code = 1


class ServerDied(ComfyError):
    """The server ended, or never came up; the message ends with the tail of its log."""


class PromptRefused(ComfyError):
    """The workflow did not pass the server's validation; ``node_errors`` is the server's own account."""

    def __init__(self, message: str, node_errors: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.node_errors = node_errors


class NodeFailed(ComfyError):
    """A node raised while it ran. ``details`` is the server's execution_error, traceback included."""

    def __init__(self, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.details = details


class Interrupted(ComfyError):
    """The run was cancelled."""


@dataclass(frozen=True)
class Progress:
    """One node's progress: ``value`` of ``maximum`` steps; 0 of 1 when it starts or does not count steps."""

    node_id: str
    title: str
    value: float
    maximum: float


def node_name(prompt: Mapping[str, Any], node_id: str) -> str:
    """What a person calls the node: its title in the workflow, with its class where that says more."""
    node = prompt.get(node_id, {})
    kind = node.get("class_type", "unknown node")
    title = node.get("_meta", {}).get("title") or kind
    return title if title == kind else f"{title} ({kind})"


class ComfyClient:
    """Speaks to a running server at ``address`` ("127.0.0.1:8188")."""

    def __init__(self, address: str) -> None:
        self.address = address
        # A proxy from the environment would be asked for 127.0.0.1 too.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def check_alive(self) -> None:
        """Raise ServerDied if the server is known to be gone; a bare client knows nothing."""

    def request(self, path: str, data: bytes | None = None, content: str = "application/json",
                timeout: float = 60) -> bytes:
        """GET ``path``, or POST ``data`` to it. Raises urllib.error.HTTPError for the server's refusals."""
        request = urllib.request.Request(f"http://{self.address}{path}", data)
        if data is not None:
            request.add_header("Content-Type", content)
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            self.check_alive()
            raise ComfyError(f"ComfyUI at {self.address} did not answer {path}: {error}") from error

    def get(self, path: str) -> Any:
        """GET a JSON document."""
        return json.loads(self.request(path))

    def post(self, path: str, document: Any) -> bytes:
        """POST a JSON document."""
        return self.request(path, json.dumps(document).encode())

    def object_info(self) -> dict[str, Any]:
        """The schema of every node class."""
        return self.get("/object_info")

    def upload(self, path: Path, name: str | None = None) -> str:
        """Put a picture into the server's input folder; gives the name that LoadImage takes."""
        name, boundary = name or path.name, uuid.uuid4().hex
        quoted = name.replace('"', "'")
        body = (f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--{boundary}\r\n'
                f'Content-Disposition: form-data; name="image"; filename="{quoted}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n").encode() + path.read_bytes()
        stored = json.loads(self.request("/upload/image", body + f"\r\n--{boundary}--\r\n".encode(),
                                         f"multipart/form-data; boundary={boundary}"))
        return f"{stored['subfolder']}/{stored['name']}" if stored.get("subfolder") else stored["name"]

    def queue(self, prompt: Mapping[str, Any], client_id: str = "") -> str:
        """Queue an API-format workflow; gives its prompt id. Raises PromptRefused, naming nodes and inputs."""
        try:
            answer = json.loads(self.post("/prompt", {"prompt": prompt, "client_id": client_id}))
        except urllib.error.HTTPError as error:
            text = error.read()
            if error.code != 400:
                raise ComfyError(f"ComfyUI failed on /prompt with HTTP {error.code}: {text[:500]!r}") from error
            answer = json.loads(text)
        if answer.get("node_errors") or "prompt_id" not in answer:
            if "prompt_id" in answer:  # the server runs the valid outputs of a half-valid workflow; we do not
                self.post("/queue", {"delete": [answer["prompt_id"]]})
                self.post("/interrupt", {"prompt_id": answer["prompt_id"]})
            raise PromptRefused(_refusal(prompt, answer), answer.get("node_errors") or {})
        return answer["prompt_id"]

    def interrupt(self) -> None:
        """Cancel what runs now."""
        self.post("/interrupt", {})

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The record of a finished run, or None while it waits or runs."""
        return self.get(f"/history/{prompt_id}").get(prompt_id)

    def view(self, image: Mapping[str, str]) -> bytes:
        """The file behind an image record ({filename, subfolder, type}) of the history."""
        return self.request("/view?" + urllib.parse.urlencode(image))

    def run(self, prompt: Mapping[str, Any], on_progress: Callable[[Progress], None] | None = None,
            timeout: float | None = None) -> dict[str, Any]:
        """Queue a workflow, follow it to its end and give its history entry.

        Raises PromptRefused, NodeFailed, Interrupted, ServerDied, or ComfyError after ``timeout`` seconds.
        """
        client_id = uuid.uuid4().hex
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            stream = websocket.create_connection(f"ws://{self.address}/ws?clientId={client_id}", timeout=30,
                                                 http_no_proxy=["127.0.0.1", "localhost"])
        except (websocket.WebSocketException, OSError) as error:
            self.check_alive()
            raise ComfyError(f"ComfyUI at {self.address} refused the websocket: {error}") from error
        try:
            stream.settimeout(1)
            prompt_id = self.queue(prompt, client_id)
            entry, last = None, None
            while entry is None:
                ended = False
                try:
                    message = stream.recv()
                except websocket.WebSocketTimeoutException:
                    ended = True  # quiet: a lost message must not hang us, so ask
                except (websocket.WebSocketException, OSError) as error:
                    self.wait_for_death()
                    raise ComfyError(f"ComfyUI closed the websocket while it worked: {error}") from error
                else:
                    for event in _progress(prompt, prompt_id, message):
                        ended = ended or event is None
                        if event and event != last and on_progress:
                            on_progress(event)
                        last = event or last
                if ended:
                    self.check_alive()
                    entry = self.history(prompt_id)
                if deadline and entry is None and time.monotonic() > deadline:
                    self.interrupt()
                    raise ComfyError(f"The workflow did not finish within {timeout:g} s and was cancelled.")
        finally:
            stream.close()
        _raise_failure(prompt, entry)
        return entry

    def wait_for_death(self) -> None:
        """Raise ServerDied if the server is gone after a moment: it closes its sockets before its process ends."""
        for _ in range(20):
            self.check_alive()
            time.sleep(0.1)


def _progress(prompt: Mapping[str, Any], prompt_id: str, message: str | bytes) -> list[Progress | None]:
    """What a websocket message says about our run; None in the list means: it has ended, or is about to."""
    if isinstance(message, bytes) or not message:
        return []  # preview pictures
    event = json.loads(message)
    kind, data = event.get("type"), event.get("data") or {}
    if data.get("prompt_id") != prompt_id:
        return []
    if kind in _FINISHED or (kind == "executing" and data.get("node") is None):
        return [None]
    if kind == "executing":
        states = [{"node_id": data.get("display_node") or data["node"], "value": 0, "max": 1}]
    elif kind == "progress" and data.get("node"):
        states = [{"node_id": data["node"], **data}]
    elif kind == "progress_state":
        states = [state for state in data.get("nodes", {}).values() if state.get("state") == "running"]
    else:
        return []
    found: list[Progress | None] = []
    for state in states:
        node_id = str(state.get("display_node_id") or state["node_id"])
        title = prompt.get(node_id, {}).get("_meta", {}).get("title") or node_name(prompt, node_id)
        found.append(Progress(node_id, title, float(state["value"]), float(state["max"])))
    return found


def _refusal(prompt: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    lines = []
    for node_id, node in (answer.get("node_errors") or {}).items():
        for error in node.get("errors", []):
            name = (error.get("extra_info") or {}).get("input_name")
            where = f"node {node_id}, {node_name(prompt, node_id)}" + (f", input {name!r}" if name else "")
            lines.append(f"- {where}: {error.get('message', '')} {str(error.get('details', ''))[:400]}".rstrip())
    error = answer.get("error") or {}
    if not lines:
        message = error.get("message", error) if isinstance(error, dict) else error
        details = error.get("details", "") if isinstance(error, dict) else ""
        lines.append(f"- {message} {str(details)[:400]}".rstrip())
    return "ComfyUI refused the workflow before running it:\n" + "\n".join(lines)


def _raise_failure(prompt: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    status = entry.get("status") or {}
    for kind, data in status.get("messages", []):
        if kind == "execution_interrupted":
            raise Interrupted(f"The run was cancelled in node {node_name(prompt, str(data.get('node_id')))}.")
        if kind == "execution_error":
            node = node_name(prompt, str(data.get("node_id")))
            raise NodeFailed(f"Node {data.get('node_id')}, {node}, failed: "
                             f"{str(data.get('exception_message', '')).strip()}", data)
    if status.get("status_str") == "error":
        raise ComfyError("ComfyUI reports that the run failed, without saying where; see the server's log.")
