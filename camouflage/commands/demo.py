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
import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from tqdm import tqdm

from ..batch.server import ComfyError, ComfyServer, NodeFailed, Progress
from ..comfy.in_process import accelerator
from ..comfy.installed import default_comfyui
from ..errors import CamouflageError
from ..files import first_free
from ..photos import Unreadable, decode
from .choosing import automatic, demand_weights, light_or_public
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

MINIATURE = {"size": 256, "steps": 4}  # what a CPU does in half a minute; pictures are meaningless at any size
UNTRAINED = ("This was a check of the wiring. The miniature weights are untrained random numbers, so what they paint "
             "is noise, not a result: no photograph, and no face in it. There is nothing to compare then, and the "
             "policy covers the place. `python run.py demo` without --check-wiring shows what the pack does.")


def load_photo(path: Path | None) -> Image.Image:
    """The photo, upright; the default is a portrait by NASA, public domain, that scikit-image ships."""
    if path is None:
        from skimage.data import astronaut

        return Image.fromarray(astronaut())
    try:
        return decode(path)
    except Unreadable as error:
        raise CamouflageError(f"{path} cannot be read as a picture: {error}. Name a picture file (PNG, JPEG, WebP, "
                              "...).") from error


def new_folder(wanted: Path) -> Path:
    """Make the output folder, with the next free number if it exists: results are never overwritten."""
    try:
        return first_free(wanted, lambda path: path.mkdir(parents=True))
    except OSError as error:
        raise CamouflageError(f"The output folder {wanted} cannot be made ({error.strerror}). Name another one "
                              "with --output DIR.") from error


def choose(options: Namespace, comfyui: Path) -> tuple[list[str], str]:
    """Which pipelines run, and what the person is told of one that does not.

    Raises:
        CamouflageError: the weights of a pipeline that was asked for are not there; lists them.
    """
    asked, told = options.pipeline, ""
    if options.weights == "miniature":  # these networks paint no face: show the verification on the photo as well
        names = {*CHOICES["all" if asked == "auto" else asked], "redact"}
    elif asked == "auto":
        name, told = automatic(comfyui)
        names = {name}
    else:
        names = {*CHOICES[asked]}
        if "light" in names:
            light, told = light_or_public(comfyui)
            names = names - {"light"} | {light}
        demand_weights([name for name in PIPELINES if name in names], comfyui)
    return [name for name in PIPELINES if name in names], told


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


def fetch(server: ComfyServer, pipeline: Pipeline, prompt: dict[str, Any], entry: dict[str, Any]) -> Results:
    """The pictures, texts and files of a finished run."""
    outputs = entry["outputs"]

    def output(kind: str, title: str, what: str) -> list:
        found = outputs.get(titled(prompt, kind, title), {}).get(what)
        if not found:
            raise ComfyError(f"The run gave no {what} for the node {title!r}.")
        return found

    pictures = {name: decode(io.BytesIO(server.view(output(*place, "images")[0])))  # without the workflow in them
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
        server.check_loaded(SAVED[0])
        print(f"ComfyUI is up after {time.monotonic() - started:.0f} s.", flush=True)
        picture = server.run_folder / "photo.png"  # neither the file's name nor its metadata goes along
        photo.save(picture)
        name = server.upload(picture)
        for pipeline in pipelines:
            print(f"Running {pipeline.workflow.name}.", flush=True)
            prompt = make_prompt(server, pipeline, name, options)
            for place in (*pipeline.pictures.values(), *pipeline.texts.values()):
                titled(prompt, *place)
            try:
                entry = followed(server, prompt)
            except NodeFailed as error:
                said = refusal(error)
                if said is None:
                    raise
                refused[pipeline.name] = said
                if not pipeline.samples:
                    break  # nobody is found in the photo: spare the sampling
                continue
            results[pipeline.name] = fetch(server, pipeline, prompt, entry)
    return results, refused


def followed(server: ComfyServer, prompt: dict[str, Any]) -> dict[str, Any]:
    """Run a workflow; on a terminal a line shows the node that runs. Gives the history entry."""
    def show(at: Progress) -> None:
        line.set_description_str(f"{at.title} {at.value:g}/{at.maximum:g}" if at.maximum > 1 else at.title)

    with tqdm(bar_format="  {desc}", leave=False, disable=None) as line:
        return server.run(prompt, show)


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
    warnings.simplefilter("ignore")  # libraries speaking to their developers
    comfyui = default_comfyui()
    photo = load_photo(options.photo)
    names, told = choose(options, comfyui)
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
            told = UNTRAINED
        print(f"The results are in {folder}", *filter(None, [told]), sep="\n")
    else:
        folder.rmdir()
    if refused:
        said = (f"{PIPELINES[name].title}: nothing was saved. {why}" for name, why in refused.items())
        raise CamouflageError("\n".join(said) + "\nThe demo lets nothing pass that was not verified. Name a "
                              "photo in which a face can be seen well"
                              f"{', or raise --size' if any(PIPELINES[name].samples for name in refused) else ''}.")
