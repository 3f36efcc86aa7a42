"""Load Photos on a real ComfyUI: once for every batch, and again only when the folder has changed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from camouflage.batch.server import NodeFailed
from in_host import pictures
from shipped import pixels

SIZES = {"1.png": (64, 96), "2.png": (96, 64), "b/3.png": (64, 96)}


@pytest.fixture
def folder(server, tmp_path):
    """A folder of its own inside the server's input folder, with three photos."""
    folder = server.run_folder / "input" / tmp_path.name
    for seed, (name, size) in enumerate(SIZES.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pictures(seed, 1, *size)[0].numpy() * 255).astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def run(server, folder):
    """run(...) -> the pictures that came, and the nodes that the host did not have to run."""

    def once(photos: str = folder.name, **inputs: object) -> tuple[list[np.ndarray], list[str]]:
        load = {"photos": photos, "batch_size": 2, "unreadable": "stop", **inputs}
        entry = server.run({"1": {"class_type": "CamouflageLoadPhotos", "inputs": load},
                            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}})
        cached, = [said["nodes"] for kind, said in entry["status"]["messages"] if kind == "execution_cached"]
        return [pixels(server.view(image)) for image in entry["outputs"]["2"]["images"]], cached

    return once


def test_a_folder_goes_through_and_again_only_when_it_has_changed(run, folder):
    saved = {name: pixels(folder / name) for name in SIZES}
    shown, cached = run()
    assert cached == [] and len(shown) == 3
    for picture, name in zip(shown, ("1.png", "b/3.png", "2.png"), strict=True):
        assert picture.shape == saved[name].shape and np.abs(picture.astype(int) - saved[name]).max() <= 1
    assert run()[1] == ["1", "2"]
    (folder / "2.png").unlink()
    shown, cached = run()
    assert cached == [] and len(shown) == 2


def test_a_refusal_reaches_the_person(run, folder):
    (folder / "4.png").write_bytes(b"no picture")
    with pytest.raises(NodeFailed, match=r"Load Photos: 1 of 4 photos cannot be read: .*/4\.png \(no .*picture\)"):
        run()
    assert len(run(unreadable="skip")[0]) == 3
    with pytest.raises(NodeFailed, match="'photos' must name a folder"):
        run("../output")
