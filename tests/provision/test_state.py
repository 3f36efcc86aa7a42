"""What is said of files on the disk, and what is taken from another folder."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from camouflage.errors import CamouflageError
from camouflage.provision.local import import_all
from camouflage.provision.several import FAILED, Task
from camouflage.provision.state import (
    DAMAGED,
    MISSING,
    PARTLY,
    PIPELINES,
    PRESENT,
    UNTRAINED,
    UNVERIFIED,
    chosen,
    part_of,
    states,
)
from camouflage.weights import REGISTRY, Weight, needed_by, size_text

DATA = b"weights of a network"
DIGEST = hashlib.sha256(DATA).hexdigest()
KNOWN = Weight("a", "a/model.bin", "camouflage", "https://x.example/model.bin", "MIT", True, len(DATA), DIGEST)
SIZED = replace(KNOWN, sha256=None)
BARE = replace(SIZED, size=None)


@pytest.fixture
def models(tmp_path) -> Path:
    (tmp_path / "models" / "camouflage" / "a").mkdir(parents=True)
    return tmp_path / "models"


@pytest.fixture
def state(models, known):
    """State and reason of one weight."""
    def of(weight: Weight, compute: bool = False) -> tuple[str, str]:
        (found,) = states([weight], lambda key: [models / key, models / "more" / key], known, compute)
        return found.state, found.why
    return of


@pytest.mark.parametrize(("weight", "data", "listed", "verified"), [
    (KNOWN, DATA, UNVERIFIED, PRESENT), (KNOWN, DATA[:-1] + b"!", UNVERIFIED, DAMAGED), (KNOWN, b"x", DAMAGED, DAMAGED),
    (SIZED, DATA[:-1] + b"!", UNVERIFIED, UNVERIFIED), (SIZED, b"x", DAMAGED, DAMAGED),
    (BARE, b"x", UNVERIFIED, UNVERIFIED), (BARE, b"", DAMAGED, DAMAGED), (BARE, b"<html>", DAMAGED, DAMAGED),
    (replace(BARE, file="a/config.json"), b"{", DAMAGED, DAMAGED),
    (replace(BARE, file="a/config.json"), b"{}", UNVERIFIED, UNVERIFIED)])
def test_a_file_that_is_there(models, state, weight, data, listed, verified):
    file = models / weight.path
    file.write_bytes(data)
    assert state(weight)[0] == listed
    assert state(weight, compute=True)[0] == verified
    assert state(weight)[0] == verified, "remembered"
    (models / "camouflage" / "SHA256SUMS").write_text(f"{hashlib.sha256(data).hexdigest()}  x\n", encoding="utf-16")
    mistaken = data in (b"", b"<html>", b"{")
    assert state(weight, compute=True)[0] == (DAMAGED if mistaken else PRESENT)


def test_a_file_that_changed_is_not_what_is_remembered(models, state):
    file = models / KNOWN.path
    file.write_bytes(DATA)
    assert state(KNOWN, compute=True)[0] == PRESENT
    file.write_bytes(DATA[:-1] + b"!")
    os.utime(file, ns=(1, 1))
    assert state(KNOWN)[0] == UNVERIFIED
    assert state(KNOWN, compute=True) == (
        DAMAGED, f"Its SHA-256 is {hashlib.sha256(DATA[:-1] + b'!').hexdigest()}, not {DIGEST}.")


def test_a_file_that_is_not_there(models, state, known):
    assert state(KNOWN)[0] == MISSING
    assert state(replace(KNOWN, url=None))[0] == UNTRAINED
    part_of(models / KNOWN.path).write_bytes(b"12345")
    assert state(KNOWN) == (PARTLY, "5 bytes are there.")
    elsewhere = models / "more" / KNOWN.path
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(DATA)
    (found,) = states([KNOWN], lambda key: [models / key, models / "more" / key], known, compute=True)
    assert (found.state, found.path, found.size) == (PRESENT, elsewhere, len(DATA))
    assert found.document()["state"] == "present" and found.document()["pipelines"] == list(KNOWN.pipelines)


def test_safetensors_in_a_pickles_place_have_no_digest_to_compare(models, state):
    weight = replace(KNOWN, file="a/pytorch_model.bin")
    (models / "camouflage" / "a" / "model.safetensors").write_bytes(b"x")
    assert state(weight, compute=True)[0] == UNVERIFIED


def test_what_is_chosen():
    assert set(chosen(["base"])) == set(needed_by("base")) and chosen() == REGISTRY
    assert set(chosen(["base", "light"])) == {*needed_by("base"), *needed_by("light")}
    safe = chosen(["base"], commercial_safe=True)
    assert {weight.role for weight in chosen(["base"]) if weight not in safe} == {"checkpoint", "pose"}
    assert all(weight.commercial for weight in safe)
    assert {weight.role for weight in safe if weight not in chosen(["base"])} == {
        "checkpoint (SD 1.5)", "persons", "keypoints"}
    assert safe == chosen(["base_commercial"]) == chosen(["base_commercial"], commercial_safe=True)
    assert not {"persons", "keypoints"} & {weight.role for weight in chosen(["light"], commercial_safe=True)}
    assert {"base", "light", "light_public", "base_light", "base_few_steps", "base_commercial"} == set(PIPELINES)
    assert [size_text(size) for size in (0, 999, 1000, 99_173_660, 2_528_373_448)] == [
        "0 bytes", "999 bytes", "1.0 kB", "99.2 MB", "2.53 GB"]


@pytest.fixture
def bring(tmp_path, models, known):
    """Imports one weight from tmp_path/drive: state and reason."""
    def run(weight: Weight, trusted: frozenset[str] = frozenset()) -> tuple[str, str]:
        task = Task(weight, models / weight.path)
        (arrival,) = import_all([task], tmp_path / "drive", known, set(trusted))
        return arrival.state, arrival.why
    return run


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize(("weight", "place", "state"), [
    (KNOWN, "model.bin", PRESENT), (KNOWN, "models/camouflage/a/model.bin", PRESENT),
    (SIZED, "x/model.bin", UNVERIFIED),
    (replace(KNOWN, file="a/other.bin"), "x/model.bin", PRESENT),  # as its publisher calls it
    (replace(SIZED, file="a/other.bin"), "x/model.bin", MISSING),
    (replace(BARE, file="a/config.json"), "config.json", MISSING),
    (replace(BARE, file="a/config.json"), "x/a/config.json", UNVERIFIED),
    (replace(KNOWN, file="a/pytorch_model.bin"), "x/model.safetensors", MISSING),
    (replace(KNOWN, file="a/pytorch_model.bin"), "a/model.safetensors", UNVERIFIED)])
def test_files_are_found_by_name_and_checked(tmp_path, models, bring, weight, place, state):
    data = b"[]" if place.endswith("json") else DATA
    put(tmp_path / "drive" / place, data)
    assert bring(weight)[0] == state
    files = [path for path in models.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == ([] if state == MISSING else [data])
    assert (tmp_path / "drive" / place).read_bytes() == data


def test_the_right_one_of_several_is_taken(tmp_path, models, bring):
    put(tmp_path / "drive" / "a" / "model.bin", DATA[:-1] + b"!")
    put(tmp_path / "drive" / "b" / "model.bin", b"x")
    state, why = bring(KNOWN)
    assert state == FAILED and "It has 1 bytes, not 20." in why and f"not {DIGEST}" in why
    assert list((models / "camouflage" / "a").iterdir()) == []
    put(tmp_path / "drive" / "c" / "model.bin", DATA)
    source = tmp_path / "drive" / "c" / "model.bin"
    assert bring(KNOWN) == (PRESENT, f"From {source}. Its SHA-256 is the published one.")
    assert (models / KNOWN.path).read_bytes() == DATA
    assert bring(KNOWN)[0] == FAILED, "nothing is overwritten"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_no_link_leads_out_of_the_folder(tmp_path, models, bring):
    put(tmp_path / "outside" / "model.bin", DATA)
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "drive" / "model.bin").symlink_to(tmp_path / "outside" / "model.bin")
    assert bring(KNOWN)[0] == MISSING
    put(tmp_path / "drive" / "blobs" / "123", DATA)
    (tmp_path / "drive" / "model.bin").unlink()
    (tmp_path / "drive" / "model.bin").symlink_to("blobs/123")
    assert bring(KNOWN)[0] == PRESENT
    assert not (models / KNOWN.path).is_symlink()


def test_a_folder_that_is_not_there_is_named(bring, tmp_path):
    with pytest.raises(CamouflageError, match=f"There is no folder {tmp_path / 'drive'}"):
        bring(KNOWN)
