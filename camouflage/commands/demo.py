"""The demo command: a photo goes through the shipped workflows in a real ComfyUI.

Started by ``python run.py demo``, which describes the options. It queues the files in ``workflows/`` themselves, not
copies made for the demo, and finds the results by the titles of the workflow's nodes. It also tells the verdicts before
anything was done about them. Of a painted picture they stand in the manifest, so nobody sees it before it is verified;
of a photo that is redacted they come from a verification that only reports, which is added.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageOps

from ..comfy.installed import describe_missing, missing
from ..errors import CamouflageError
from .contact_sheet import contact_sheet
from .environments import cache_folder
from .pipelines import (
    BEFORE,
    CHOICES,
    MEANING,
    PIPELINES,
    REPORT,
    SAVED,
    VERIFIERS,
    Pipeline,
    Results,
    before_the_policy,
    verdicts,
)
from .server import ComfyError, ComfyServer, NodeFailed, Progress, default_comfyui

MINIATURE = {"size": 256, "steps": 4}  # what a CPU does in half a minute; pictures are meaningless at any size


BYPASSED = 4  # the frontend's number for what Ctrl+B does to a node
UNTRAINED = ("The miniature weights are untrained random numbers, so the painted picture is no photograph and has no "
             "face in it. There is nothing to compare then, and the policy covers the place. The redaction shows what "
             'is said of a real photo. README section "Weights" says how to get the real weights; then run this with '
             "--weights installed.")


def plain(image: Image.Image) -> Image.Image:
    """The pixels alone, on white where the picture is transparent: no EXIF, no profile, no workflow."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return Image.frombytes("RGB", image.size, image.tobytes())


def load_photo(path: Path | None) -> Image.Image:
    """The photo, upright; the default is a portrait by NASA, public domain, that scikit-image ships."""
    if path is None:
        from skimage.data import astronaut

        return Image.fromarray(astronaut())
    if not path.is_file():
        raise CamouflageError(f"There is no photo {path}. Name a picture file (PNG, JPEG, WebP, ...).")
    try:
        with Image.open(path) as image:
            return plain(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CamouflageError(f"{path} cannot be read as a picture ({error}). Name a picture file (PNG, JPEG, WebP, "
                              "...).") from error


def new_folder(wanted: Path) -> Path:
    """Make the output folder, with the next free number if it exists: results are never overwritten."""
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise CamouflageError(f"The output folder {folder} cannot be made ({error.strerror}). Name another one "
                                  "with --output DIR.") from error


def set_input(prompt: dict[str, Any], kind: str, name: str, value: object) -> None:
    """Set an input of the workflow's one node of a class."""
    nodes = [node for node in prompt.values() if node["class_type"] == kind]
    if len(nodes) != 1 or name not in nodes[0]["inputs"] or isinstance(nodes[0]["inputs"][name], list):
        raise ComfyError(f"The workflow should have exactly one {kind} node with a value for {name!r}; it has "
                         f"{len(nodes)} such nodes. Restore the file as it was shipped.")
    nodes[0]["inputs"][name] = value


def titled(prompt: dict[str, Any], kind: str, title: str) -> str:
    """The id of the workflow's one node with a class and a title."""
    found = [node_id for node_id, node in prompt.items()
             if node["class_type"] == kind and node.get("_meta", {}).get("title") == title]
    if len(found) != 1:
        raise ComfyError(f"The workflow should have exactly one {kind} node titled {title!r}; it has {len(found)}. "
                         "Restore the file as it was shipped.")
    return found[0]


def make_prompt(server: ComfyServer, pipeline: Pipeline, photo: str, options: Namespace) -> dict[str, Any]:
    """The shipped workflow in the server's format, with the photo and the options put in."""
    from comfy_cli.workflow_to_api import WorkflowConversionError, convert_ui_to_api  # slow to import

    try:
        graph = json.loads(pipeline.workflow.read_text(encoding="utf-8"))
        if options.weights == "installed" and missing(default_comfyui(), roles=("light adapter",)):
            for node in graph["nodes"]:
                if node["type"] in ("CamouflageLightAdapterLoader", "CamouflageApplyLightAdapter"):
                    node["mode"] = BYPASSED
        prompt = convert_ui_to_api(graph, server.object_info())
    except (OSError, ValueError, WorkflowConversionError) as error:
        raise ComfyError(f"The workflow {pipeline.workflow} cannot be used: {error}") from error
    set_input(prompt, "LoadImage", "image", photo)
    set_input(prompt, SAVED[0], "filename_prefix", f"{pipeline.name}/anonymized")
    if pipeline.samples:
        values = dict(MINIATURE) if options.weights == "miniature" else {}
        values.update({name: getattr(options, name) for name in MINIATURE if getattr(options, name) is not None})
        set_input(prompt, "RandomNoise", "noise_seed", options.seed)
        if "size" in values:
            set_input(prompt, "CamouflagePrepareImage", "size", values["size"])
        if "steps" in values:
            set_input(prompt, "BasicScheduler", "steps", values["steps"])
    else:
        look_before(prompt)
    return prompt


def look_before(prompt: dict[str, Any]) -> None:
    """Add a verification of the photo itself that only reports: the verdicts before the redaction.

    The added nodes show words, no picture.
    """
    inputs = dict(prompt[titled(prompt, "CamouflageVerify", "Verify")]["inputs"])
    del inputs["redacted"]
    inputs["anonymized"] = inputs["original"]
    prompt["look"] = {"class_type": "CamouflageVerify", "inputs": {**inputs, "policy": "report"},
                      "_meta": {"title": "Verify before the policy"}}
    prompt["looked"] = {"class_type": BEFORE[0], "inputs": {"source": ["look", 2]}, "_meta": {"title": BEFORE[1]}}


class ProgressLine:
    """Shows progress: one line that changes on a terminal, elsewhere a line a node and at most one a second."""

    def __init__(self) -> None:
        self.terminal, self.node, self.shown_at, self.pending = sys.stdout.isatty(), "", 0.0, ""

    def __call__(self, progress: Progress) -> None:
        steps = f"  {progress.value:g}/{progress.maximum:g}" if progress.maximum > 1 else ""
        line = f"  {progress.title}{steps}"
        if line == self.pending and progress.node_id == self.node:
            return
        self.pending = line
        now, wait = time.monotonic(), 0.1 if self.terminal else 1.0
        if progress.node_id != self.node or progress.value >= progress.maximum or now - self.shown_at >= wait:
            self.node, self.shown_at = progress.node_id, now
            self._show()

    def _show(self) -> None:
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + self.pending[:width].ljust(width), end="", flush=True)
        else:
            print(self.pending, flush=True)

    def close(self) -> None:
        """Leave the terminal's line."""
        if self.terminal and self.pending:
            print(flush=True)


def fetch(server: ComfyServer, pipeline: Pipeline, prompt: dict[str, Any], entry: dict[str, Any]) -> Results:
    """The pictures, texts and files of a finished run."""
    outputs = entry["outputs"]

    def output(kind: str, title: str, what: str) -> list:
        found = outputs.get(titled(prompt, kind, title), {}).get(what)
        if not found:
            raise ComfyError(f"The run gave no {what} for the node {title!r}.")
        return found

    pictures = {name: plain(Image.open(io.BytesIO(server.view(output(*place, "images")[0]))))
                for name, place in pipeline.pictures.items()}
    texts = {name: "\n".join(map(str, output(*place, "text"))).strip() for name, place in pipeline.texts.items()}
    picture = output(*SAVED, "images")[0]
    manifest = {**picture, "filename": PurePosixPath(picture["filename"]).with_suffix(".json").name}
    saved = {file["filename"]: server.view(file) for file in (picture, manifest)}
    if pipeline.samples:
        texts["verdict_before"] = before_the_policy(json.loads(saved[manifest["filename"]]))
    return Results(pictures, texts, saved)


def refusal(error: NodeFailed) -> str | None:
    """What the verification says where it lets nothing leave; None for every other failure."""
    if error.details.get("node_type") not in ("CamouflageRedact", *VERIFIERS):
        return None
    kind = str(error.details.get("exception_type", "")).rpartition(".")[2]
    return str(error.details["exception_message"]).strip() if kind in ("Blocked", "CamouflageError") else None


def accelerator() -> bool:
    """Whether torch has a GPU to offer; without one ComfyUI starts only if it is told to use the CPU."""
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()


def run_pipelines(photo: Image.Image, options: Namespace, pipelines: Sequence[Pipeline],
                  comfyui: Path) -> tuple[dict[str, Results], dict[str, str]]:
    """Start ComfyUI, send the photo through every pipeline, stop it again.

    Returns:
        the results by pipeline, and for pipelines whose verification let nothing leave, what it said.
    """
    if not any(pipeline.samples for pipeline in pipelines):
        models, cpu = [], True  # the redaction needs neither weights nor a GPU
    elif options.weights == "miniature":
        from testing import miniature

        models, cpu = [miniature.ensure(cache_folder(), report=lambda line: print(line, flush=True))], True
    else:
        models, cpu = [comfyui / "models"], not accelerator()
    print(f"Starting ComfyUI ({comfyui}).", flush=True)
    started = time.monotonic()
    results: dict[str, Results] = {}
    refused: dict[str, str] = {}
    with ComfyServer(comfyui, models=models, cpu=cpu) as server:
        print(f"ComfyUI is up after {time.monotonic() - started:.0f} s.", flush=True)
        picture = server.run_folder / "photo.png"  # neither the file's name nor its metadata goes along
        photo.save(picture)
        name = server.upload(picture)
        for pipeline in pipelines:
            print(f"Running {pipeline.workflow.name}.", flush=True)
            prompt = make_prompt(server, pipeline, name, options)
            for place in (*pipeline.pictures.values(), *pipeline.texts.values()):
                titled(prompt, *place)
            line = ProgressLine()
            try:
                entry = server.run(prompt, line)
            except NodeFailed as error:
                said = refusal(error)
                if said is None:
                    raise
                refused[pipeline.name] = said
                if not pipeline.samples:
                    break  # nobody is found in the photo: spare the sampling
                continue
            finally:
                line.close()
            results[pipeline.name] = fetch(server, pipeline, prompt, entry)
    return results, refused


def write(folder: Path, photo: Image.Image, pipeline: Pipeline, results: Results, redacted: Image.Image | None,
          note: str) -> None:
    """Write the results; the saved picture and its manifest byte for byte, the other PNGs as pixels alone."""
    folder.mkdir(exist_ok=True)
    for name, picture in {"original": photo, **results.pictures}.items():
        picture.save(folder / f"{name}.png")
    for name, text in results.texts.items():
        (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    for name, data in results.saved.items():
        (folder / name).write_bytes(data)
    large = {"Original": photo, pipeline.result: results.anonymized}
    if pipeline.samples and redacted:
        large[PIPELINES["redact"].result] = redacted
    small = {title: results.pictures[name] for name, (_, title) in pipeline.pictures.items() if name not in REPORT}
    sheet = contact_sheet(large, small, results.texts.get("caption"), f"{pipeline.title}, {note}",
                          verdicts(pipeline, results))
    sheet.save(folder / "contact_sheet.png")


def tell(pipelines: Sequence[Pipeline], results: dict[str, Results]) -> None:
    """Print every person's verdicts, and what these words mean."""
    seen = {verdict for pipeline in pipelines for _, verdict in verdicts(pipeline, results[pipeline.name])}
    for pipeline in pipelines:
        print(f"\n{pipeline.title}")
        for line, _ in verdicts(pipeline, results[pipeline.name]):
            print(f"  {line}")
    print("\nWhat the verdicts mean")
    for verdict, meaning in MEANING.items():
        if verdict in seen:
            print(f"  {verdict}: {meaning}")
    print()


def main(options: Namespace) -> None:
    """Everything from the photo to the folder of results. Raises CamouflageError or ComfyError."""
    warnings.simplefilter("ignore", FutureWarning)  # libraries speaking to their developers
    comfyui = default_comfyui()
    photo = load_photo(options.photo)
    names = list(CHOICES[options.pipeline])
    if options.weights == "installed":
        absent = [weight for name in names for weight in missing(comfyui, pipeline=name)]
        if absent:
            raise CamouflageError(describe_missing(list(dict.fromkeys(absent)), comfyui))
        if "light" in names and missing(comfyui, roles=("light adapter",)):
            print("There is no trained Light adapter, so Light runs without it: attributes keep nobody apart.")
    elif "redact" not in names:
        names.append("redact")  # untrained networks paint no face: show the verification on the photo as well
    names.sort(key="redact".__ne__)  # first, for it takes seconds and tells whether a face is found at all
    folder = new_folder(options.output)
    try:
        results, refused = run_pipelines(photo, options, [PIPELINES[name] for name in names], comfyui)
        redacted = results["redact"].anonymized if "redact" in results else None
        for name, found in results.items():
            note = f"{options.weights} weights, seed {options.seed}" if PIPELINES[name].samples else "no weights needed"
            if PIPELINES[name].samples and options.weights == "miniature":
                note += " (untrained random numbers: no photograph, no face)"
            write(folder / name if len(names) > 1 else folder, photo, PIPELINES[name], found, redacted, note)
    except BaseException:
        with contextlib.suppress(OSError):  # an empty folder says nothing; one with results stays
            folder.rmdir()
        raise
    if results:
        tell([PIPELINES[name] for name in results], results)
        if options.weights == "miniature" and any(PIPELINES[name].samples for name in results):
            print(UNTRAINED)
        print(f"The results are in {folder}")
    else:
        folder.rmdir()
    if refused:
        said = (f"{PIPELINES[name].title}: nothing was saved. {why}" for name, why in refused.items())
        raise CamouflageError("\n".join(said) + "\nThe demo lets nothing pass that was not verified. Name a "
                              "photo in which a face can be seen well, or raise --size.")
