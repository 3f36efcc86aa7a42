"""The ComfyUI of a worker: takes pictures of one size and a workflow, gives what was saved, and keeps nothing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import CamouflageError
from ..files import ROOT
from ..output.encoding import encode
from ..photos import decode
from .accounts import ACCEPTED
from .client import ComfyError, Interrupted, NodeFailed, PromptRefused, ServerDied
from .graphs import JUDGES, SAVE, Graph
from .server import ComfyServer

if TYPE_CHECKING:
    from typing_extensions import Self

_FULL = ("No space left", "Disk quota", "Read-only file system")
_NEVER = (": recognisable,", "the result shows the original ")  # turned or mirrored as a whole, it shows everybody


class Stopped(CamouflageError):
    """The run cannot go on: nothing of the unit was written, and nothing is lost."""


@dataclass(frozen=True)
class Result:
    """What a picture became.

    Attributes:
        data: its file; None where it may not leave.
        record: its manifest.
        state, reason: where there is no file, see :class:`~.accounts.Outcome`.
    """

    data: bytes | None = None
    record: Mapping[str, Any] | None = None
    state: str = ""
    reason: str = ""


@dataclass(frozen=True)
class ServerOptions:
    """Which ComfyUI, with what. Plain data.

    Attributes:
        comfyui: its folder.
        models: further models folders.
        packs: custom node folders by name; this pack is always there.
        cpu: keeps it on the CPU.
        threads: of its computations; 0 leaves it to the libraries.
    """

    comfyui: Path
    models: tuple[Path, ...] = ()
    packs: Mapping[str, Path] = field(default_factory=dict)
    cpu: bool = True
    threads: int = 0


class Host:
    """A ComfyUI that starts when it is needed, and anew after it has died; a context manager."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self._server: ComfyServer | None = None
        self._count = 0
        self._lent: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server, and removes all that it held. May be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def server(self) -> ComfyServer:
        """The running server. Raises ComfyError where none can be had."""
        if self._server is not None:
            try:
                self._server.check_alive()
                return self._server
            except ServerDied:
                self.close()
        try:
            return self._started()
        except ServerDied:  # killed while it started, perhaps
            self.close()
            return self._started()

    def _started(self) -> ComfyServer:
        options = self.options
        threads = {"OMP_NUM_THREADS": str(options.threads)} if options.threads else {}
        # A path of ours would put this pack's `nodes` before ComfyUI's.
        server = ComfyServer(options.comfyui, models=options.models, packs={"camouflage": ROOT, **options.packs},
                             cpu=options.cpu, environment={"PYTHONPATH": "", **threads})
        server.__enter__()
        self._server, self._lent = server, set()
        with _watched(server):
            server.check_loaded(SAVE)
        return server

    def object_info(self) -> dict[str, Any]:
        """The schemas of all nodes. Raises ComfyError where none can be had."""
        try:
            with _watched(server := self.server()):
                return server.object_info()
        except ServerDied:
            return self.server().object_info()

    def _lend_inputs(self, server: ComfyServer, graph: Graph) -> None:
        """Copies files of the user's input folder that the workflow loads besides the pictures."""
        inputs = (self.options.comfyui / "input").resolve()
        for name in graph.strings - self._lent:
            self._lent.add(name)
            with contextlib.suppress(OSError, ValueError):
                file = (inputs / name).resolve()
                if file.is_file() and file.is_relative_to(inputs):
                    target = server.run_folder / "input" / file.relative_to(inputs)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)

    def alone(self, graph: Graph, image: Image.Image, seed: int) -> Result:
        """One picture. A ComfyUI that dies of it is started anew, once."""
        for last in (False, True):
            try:
                results = self.saved(graph, [image], seed)
            except ServerDied:
                if last:
                    return Result(state="failed", reason="ComfyUI ended while it worked on this picture, twice")
            except NodeFailed as error:
                return refused(error)
            else:
                return results[0] if results else Result(state="blocked", reason="nothing was saved")
        raise AssertionError

    def accepted(self, graph: Graph, image: Image.Image, seed: int) -> Result:
        """One picture that a reviewer lets pass where the verification could say nothing. Never somebody recognisable.

        First as it is, but where no face is found; then without redaction, if nobody in it is recognisable.
        """
        first = self.alone(graph.with_values({"no_face": "pass"}, JUDGES), image, seed)
        if first.data is not None or first.state != "blocked":
            return first
        try:
            pixels, said = self.painted(graph, image, seed)
        except (NodeFailed, ServerDied) as error:
            return Result(state="failed", reason=sentence(str(error)))
        if any(words in said for words in _NEVER):
            return Result(state="blocked", reason=f"a reviewer cannot accept somebody who is recognisable: "
                                                  f"{sentence(said)}")
        return Result(pixels, _accepted(pixels, said))

    def painted(self, graph: Graph, image: Image.Image, seed: int) -> tuple[bytes, str]:
        """One picture before any policy, as PNG, and what the verification says of it. It may show anybody.

        Raises NodeFailed, ServerDied.
        """
        shown = graph.with_values({"no_face": "pass", "policy": "report"}, JUDGES)
        names: list[str] = []
        server = self.server()
        self._lend_inputs(server, graph)
        with _watched(server):
            prompt = shown.for_pictures(self._uploaded(server, [image], names), seed)
        saver = prompt.pop(graph.save)
        prompt["picture"] = {"class_type": "PreviewImage", "inputs": {"images": saver["inputs"]["image"]}}
        prompt["verdict"] = {"class_type": "PreviewAny", "inputs": {"source": [saver["inputs"]["report"][0], 2]}}
        files: list[Mapping[str, str]] = []
        try:
            with _watched(server):
                outputs = server.run(prompt)["outputs"]
                files = outputs["picture"]["images"]
                pixels = np.asarray(decode(io.BytesIO(server.view(files[0]))))  # without the workflow in it
            return encode(pixels, "PNG"), "\n".join(map(str, outputs["verdict"]["text"]))
        finally:
            self._forget(server, names, files)

    def saved(self, graph: Graph, images: Sequence[Image.Image], seed: int) -> list[Result] | None:
        """Runs pictures of one size through a workflow. None if not every one was saved.

        Raises NodeFailed, ServerDied; and Stopped where no picture could fare better.
        """
        server = self.server()
        names: list[str] = []
        files: list[Mapping[str, str]] = []
        try:
            self._lend_inputs(server, graph)
            with _watched(server):
                self._uploaded(server, images, names)
                entry = server.run(graph.for_pictures(names, seed))
                files = entry["outputs"].get(graph.save, {}).get("images", [])
                if len(files) != len(images):
                    return None
                return [_fetched(server, file) for file in files]
        except NodeFailed as error:
            if any(text in str(error) for text in _FULL):
                raise Stopped(f"ComfyUI could not write its files: {error} Make room where temporary files lie "
                              f"({server.run_folder.parent}), then run the same command again.") from error
            raise
        except Interrupted as error:
            raise Stopped(f"{error} What was finished stays; run the same command again to go on.") from error
        finally:
            self._forget(server, names, files)

    def _uploaded(self, server: ComfyServer, images: Sequence[Image.Image], names: list[str]) -> list[str]:
        for image in images:
            self._count += 1
            path = server.run_folder / f"{self._count}.png"
            image.save(path, compress_level=1)
            try:
                names.append(server.upload(path))
            finally:
                path.unlink()
        return names

    def _forget(self, server: ComfyServer, names: Sequence[str], files: Sequence[Mapping[str, str]]) -> None:
        """Removes what the server holds of these pictures."""
        for name in names:
            (server.run_folder / "input" / name).unlink(missing_ok=True)
        for file in files:
            path = server.run_folder / file["type"] / file["subfolder"] / file["filename"]
            for one in (path, path.with_suffix(".json")):
                one.unlink(missing_ok=True)
        with contextlib.suppress(ComfyError, OSError, ValueError):
            server.post("/history", {"clear": True})


@contextlib.contextmanager
def _watched(server: ComfyServer) -> Iterator[None]:
    """What a server that is dying does not answer becomes ServerDied: its sockets close before its process is gone."""
    try:
        yield
    except (NodeFailed, Interrupted, PromptRefused, ServerDied):
        raise
    except ComfyError:
        server.wait_for_death()
        raise


def _fetched(server: ComfyServer, file: Mapping[str, str]) -> Result:
    manifest = {**file, "filename": str(PurePosixPath(file["filename"]).with_suffix(".json"))}
    return Result(server.view(file), json.loads(server.view(manifest)))


def _accepted(data: bytes, said: str) -> dict[str, Any]:
    """The record of a picture that nothing but a reviewer vouches for; it is no manifest, and does not say "safe"."""
    return {"format": ACCEPTED, "version": 1, "verdict": "accepted by a reviewer", "verification": said.splitlines(),
            "file": {"name": "picture.png", "format": "PNG", "file_sha256": hashlib.sha256(data).hexdigest()}}


def refused(error: NodeFailed) -> Result:
    """What is said of a picture that did not get through: withheld by the verification, or failed."""
    kind = str(error.details.get("exception_type", "")).rpartition(".")[2]
    said = str(error.details.get("exception_message", "")).strip()
    judged = error.details.get("node_type") in JUDGES
    if judged and (kind == "Blocked" or (kind == "CamouflageError" and "Nothing was saved" in said)):
        return Result(state="blocked", reason=sentence(said))
    return Result(state="failed", reason=sentence(f"{error.details.get('node_type', 'a node')}: {said}"))


def sentence(text: str) -> str:
    """One line of at most 500 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 500 else line[:499] + "…"
