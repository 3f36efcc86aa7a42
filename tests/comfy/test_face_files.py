"""Weights for reading faces: missing, damaged, hostile and untrusted files."""

from __future__ import annotations

import itertools
import os
import pickle

import folder_paths
import pytest
import torch

from in_host import FACE_FILES, pictures, vouch_for
from sampled import sampled


@pytest.fixture
def run(host, faces_folder):
    """run(node's name, **inputs) -> its outputs, with weights that the test may spoil."""
    return lambda name, **inputs: host.run(f"Camouflage{name}", **inputs)


@pytest.mark.parametrize("kind", FACE_FILES)
def test_a_missing_file_is_named(run, faces_folder, kind):
    (faces_folder / FACE_FILES[kind]).unlink()
    if kind == "landmarks":
        assert run("FaceAttributes", image=pictures(4, 1, 256, 256))[0].count == 1
    with pytest.raises(ValueError, match="missing") as error:
        run("FaceAttributes", image=pictures(4), landmarks=True)
    text = str(error.value)
    assert str(faces_folder / FACE_FILES[kind]) in text and "https://" in text and "licence:" in text


@pytest.mark.parametrize(("kind", "content"), sampled(
    itertools.product(FACE_FILES, ["truncated", "noise", "other"]), 4))
def test_a_damaged_file(run, faces_folder, kind, content, tmp_path):
    path = faces_folder / FACE_FILES[kind]
    data = path.read_bytes()
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other")
    path.write_bytes({"truncated": data[: len(data) // 2], "noise": b"\x13\x37" * 5000,
                      "other": (tmp_path / "other").read_bytes()}[content])
    if kind != "attributes":  # whose digest nobody knows
        with pytest.raises(ValueError, match=r"(?s)not the published file|is not run unasked.*SHA256SUMS"):
            run("FaceAttributes", image=pictures(4), landmarks=True)
    vouch_for(faces_folder, FACE_FILES[kind])
    with pytest.raises(ValueError, match=r"could not be loaded.*download it again"):
        run("FaceAttributes", image=pictures(4), landmarks=True)


def test_a_detector_with_missing_tensors_is_refused(run, faces_folder):
    path = faces_folder / FACE_FILES["detector"]
    state = torch.load(path, weights_only=True)
    del state["fpn.merge1.0.weight"]
    torch.save(state, path)
    vouch_for(faces_folder, FACE_FILES["detector"])
    with pytest.raises(ValueError, match="1 of .* tensors are missing, fpn.merge1.0.weight"):
        run("FaceAttributes", image=pictures(4))


@pytest.mark.parametrize("kind", FACE_FILES)
def test_code_in_a_pickle_is_never_executed(run, faces_folder, tmp_path, kind):
    victim = tmp_path / "executed"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(victim),)

    path = faces_folder / FACE_FILES[kind]
    if kind == "landmarks":  # hidden where pyfacer unpickles it
        head = torch.jit.load(str(path))
        torch.jit.save(head, str(path), _extra_files={"backbone": pickle.dumps(Bomb())})
    else:
        path.write_bytes(pickle.dumps(Bomb()))
    vouch_for(faces_folder, FACE_FILES[kind])
    with pytest.raises(ValueError, match="could not be loaded"):
        run("FaceAttributes", image=pictures(4), landmarks=True)
    assert not victim.exists()


def test_torchscript_is_not_run_unless_vouched_for(run, faces_folder, monkeypatch):
    image = pictures(4, 1, 256, 256)
    (faces_folder / "SHA256SUMS").unlink()
    vouch_for(faces_folder, FACE_FILES["detector"])
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("opened"))
    assert run("FaceAttributes", image=image)[0].count == 1
    with pytest.raises(ValueError, match="is not run unasked") as error:
        run("FaceAttributes", image=image, landmarks=True)
    monkeypatch.undo()
    line = next(line for line in str(error.value).splitlines() if line.endswith(FACE_FILES["landmarks"]))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "camouflage", ([str(faces_folder)], {".pt", ".pth"}))
    with open(faces_folder / "SHA256SUMS", "a") as sums:
        sums.write(line + "\n")
    assert run("FaceAttributes", image=image, landmarks=True)[0].pictures[0].faces[0].landmarks
