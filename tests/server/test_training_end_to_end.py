"""From photos to a picture: prepare, train, export, and the shipped workflow with what was trained.

As the authors train, adapter and image prompt together, for the workflow *light*; and with ``--all`` the adapter alone,
for *light_public*.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from camouflage.method.attribute_map import PROBABILITIES, SIGNED
from camouflage.training import checkpoints, networks
from camouflage.training.checkpoints import EMA
from camouflage.training.dataset import Dataset, Sample
from camouflage.training.shard_writer import ShardWriter
from light_weights import save
from sampled import everything
from served import change, pictures
from shipped import queueable, stock_sampling, upload
from testing.drawn_faces import draw
from training_command import SCRIPT, train
from training_data import drawn

SETTINGS = ("precision=fp32", "batch_size=2", "steps=3", "optimizer.learning_rate=1e-2", "schedule.warmup=0",
            "validation.every=3", "validation.held_out=1", "validation.pictures=1", "validation.sampler_steps=1")
JOINT = ("image_prompt.depth=1", "image_prompt.queries=4")
WAYS = ("light", *(("light_public",) if everything else ()))
OURS, WRITTEN_BY_HAND, UNTRAINED = "trained", "by_hand", "untrained"  # the server keeps what it loaded, by its name
MINIATURE, PROMPT = "camouflage_light_sd15.safetensors", "trained_light_image_prompt.safetensors"
LOUDER = "louder_image_prompt.safetensors"
DRAWN = "a drawn person"


def command(*arguments: object) -> str:
    """What `run.py train` prints."""
    ran = subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], text=True,
                         capture_output=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def prepared(folder: Path) -> list[Sample]:
    """Every picture of a dataset."""
    dataset = Dataset.open(folder)
    return [dataset[i] for i in range(len(dataset))]


@pytest.fixture(scope="module")
def folder(server) -> Iterator[Path]:
    """Where Load Light Adapter looks, empty: the server's own models folder."""
    folder = server.run_folder / "models" / "camouflage" / "light"
    prompts = server.run_folder / "models" / "ipadapter"
    for place in (folder, prompts):
        place.mkdir(parents=True, exist_ok=True)
    yield folder
    for file in (*folder.iterdir(), *prompts.iterdir()):
        file.unlink()


@pytest.fixture(scope="module", params=WAYS)
def trained(request, folder, comfyui, miniature_models, tmp_path_factory) -> SimpleNamespace:
    """Three drawn photos through all commands; the first has no sidecars, so all networks are asked about it.

    A tenth is held out, so the other two count as nine.
    """
    place = tmp_path_factory.mktemp("training")
    dataset, run = place / "dataset", place / "run"
    first, *others = drawn(place / "photos", 3, seed=5)
    first.with_suffix(".faces.json").unlink()
    for photo in others:
        photo.with_suffix(".txt").write_text(DRAWN, encoding="utf-8")
    way = ("--config", "light-authors.yaml") if request.param == "light" else ()
    places = ("--comfyui", comfyui, "--models", miniature_models, *way)
    command("prepare", place / "photos", "--dataset", dataset, "--resolution", 128, *places)
    known = [sample for sample in prepared(dataset) if sample.caption == DRAWN]
    with ShardWriter(dataset) as shard:
        for i in range(7):
            shard.add(replace(known[i % 2], source=f"{i:032x}"))
    said = command("light", "--dataset", dataset, "--output", run, "--cpu", *places, "--set", *SETTINGS,
                   *(JOINT if way else ()))
    file = f"{OURS}_{request.param}.safetensors"
    assert train("export", run, "--output", place / file, "--licence", "CC-BY-4.0") == 0
    shutil.move(place / file, folder / file)
    if way:
        shutil.move(place / PROMPT, folder.parents[1] / "ipadapter" / PROMPT)
    return SimpleNamespace(samples=prepared(dataset), run=run, said=said, way=request.param,
                           base_model=next((miniature_models / "checkpoints").glob("*.safetensors")))


def test_prepare_asks_the_networks_where_no_sidecar_says_it(trained):
    samples = trained.samples
    assert len(samples) == 10 and all(sample.latent.shape == (4, 16, 16) for sample in samples)
    asked = [sample for sample in samples if sample.caption != DRAWN]
    assert len(asked) == 1 and asked[0].caption.strip()
    known = {value for sample in samples if sample is not asked[0] for face in sample.picture.faces
             for value in face.attributes}
    assert known == {0.0, 1.0}, "as it was drawn"
    assert not {value for face in asked[0].picture.faces for value in face.attributes} <= known, "as FACER guesses"


def test_the_training_validates_and_says_what_comes_next(trained):
    assert "Step 3: loss " in trained.said and "own_map_beats_none" in trained.said
    assert f"export {trained.run} --output" in trained.said
    assert list((trained.run / "logs").glob("events.*"))


def test_the_shipped_workflow_paints_with_what_was_exported(server, trained, folder, tmp_path):
    average = checkpoints.load(trained.run / "checkpoints" / "step-00000003").tensors(EMA)
    files = {name: f"{name}_{trained.way}.safetensors" for name in (OURS, WRITTEN_BY_HAND, UNTRAINED)}
    encoding = (PROBABILITIES if trained.way == "light" else SIGNED).metadata
    save({name: value for name, value in average.items() if name.startswith("adapter.")},
         folder / files[WRITTEN_BY_HAND], encoding)
    untrained = networks.new_light_adapter(networks.load_unet(trained.base_model), None, seed=0)
    save(untrained.state_dict(), folder / files[UNTRAINED], encoding)
    api = queueable(server, trained.way, upload(server, tmp_path, "drawn.png", draw(99, 300, 150, 2)[0]), awake=True)
    if trained.way == "light":
        change(api, "CamouflageImagePromptLoader", adapter=PROMPT)
        change(api, "CamouflagePrepareImage", fit="crop")  # both persons stand outside of the square
    api |= stock_sampling(api)  # what is painted, before any head is covered

    def paint(adapter: str) -> dict[str, np.ndarray]:
        file = files.get(adapter, adapter)
        change(api, "CamouflageLightAdapterLoader", adapter=file, encoding="refuse")  # the file has to say it
        entry = server.run(api)
        assert entry["status"]["status_str"] == "success"
        return pictures(server, api, entry)

    logged = len(server.log())
    ours = paint(OURS)
    assert OURS not in server.log()[logged:], "nothing is said about it"
    assert ours["Anonymized"].shape == (1, 64, 128, 3) and ours["Anonymized"].std() > 1
    assert ours["Map preview"].any()
    saved = sorted((server.run_folder / "output").glob("camouflage_*"), key=lambda path: path.stat().st_mtime_ns)
    assert {path.suffix for path in saved[-2:]} == {".png", ".json"}, "the picture and who was verified"
    assert np.array_equal(np.asarray(Image.open(next(p for p in saved[-2:] if p.suffix == ".png"))),
                          ours["Anonymized"][0])
    if everything:  # what the file holds is compared in tests/training/test_export.py
        assert np.array_equal(paint(WRITTEN_BY_HAND)["Painted"], ours["Painted"]), "the checkpoint's average, unchanged"
    for other in (UNTRAINED, *([MINIATURE] if everything else [])):
        assert (paint(other)["Painted"] != ours["Painted"]).mean() > 0.1, other
    if trained.way == "light":
        prompts = folder.parents[1] / "ipadapter"
        with safe_open(prompts / PROMPT, "pt") as file:
            metadata = file.metadata()
        louder = {name: value * (10_000 if "to_v_ip" in name else 1)  # three steps change a picture by a pixel or two
                  for name, value in load_file(prompts / PROMPT).items()}
        save(louder, prompts / LOUDER, metadata)
        change(api, "CamouflageImagePromptLoader", adapter=LOUDER)
        assert (paint(OURS)["Painted"] != ours["Painted"]).mean() > 0.01, "the one that was trained acts"
