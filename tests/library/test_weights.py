"""The weights registry."""

import re

import pytest

from camouflage.errors import CamouflageError
from camouflage.packages import data_file
from camouflage.weights import CENTERFACE, DLIB_FIVE_POINTS, DLIB_RESNET, REGISTRY, mistaken_for, needed_by, of_role


def test_rows_are_well_formed_and_unique():
    assert len({weight.path for weight in REGISTRY}) == len(REGISTRY)
    for weight in REGISTRY:
        assert weight.licence and weight.role and weight.folder
        assert not weight.file.startswith("/") and ".." not in weight.file and "\\" not in weight.file
        assert weight.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", weight.sha256)
        assert weight.size is None or weight.size > 0
        assert weight.url is None or weight.url.startswith("https://")
    renamed = {weight.role for weight in REGISTRY
               if weight.url and weight.url.rsplit("/", 1)[1] != weight.file.rsplit("/", 1)[-1]}
    assert renamed == {"image encoder"}  # its repository calls it model.safetensors, the host's users do not


def test_non_commercial_weights_are_marked():
    assert {weight.commercial for weight in of_role("pose")} == {False}


def test_roles_and_pipelines():
    assert {weight.role for weight in needed_by("base")} >= {"checkpoint", "vae", "depth", "identity controlnet"}
    assert all(weight.url for weight in needed_by("base"))
    with pytest.raises(KeyError, match="known roles"):
        of_role("nonsense")


def test_safetensors_do_in_place_of_a_pickled_model():
    pickled = [weight for weight in REGISTRY if weight.file.endswith("pytorch_model.bin")]
    assert pickled
    for weight in pickled:
        assert weight.accepted_files[0].endswith("/model.safetensors") and weight.accepted_files[1] == weight.file
        assert weight.sha256, "a pickled model is only listed with its digest"


@pytest.mark.parametrize("file", [CENTERFACE, DLIB_FIVE_POINTS, DLIB_RESNET], ids=lambda file: file.file)
def test_networks_in_packages_are_the_known_ones(file, monkeypatch, tmp_path):
    real = data_file(file, "The test")
    assert real.is_file() and real.as_posix().endswith(f"{file.module}/{file.file}")
    (tmp_path / file.module / file.file).parent.mkdir(parents=True)
    (tmp_path / file.module / file.file).write_bytes(real.read_bytes()[:-1] + b"!")
    (tmp_path / file.module / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CamouflageError, match=f"not the published file.*pip install .*{file.package}"):
        data_file(file, "The test")
    (tmp_path / file.module / file.file).unlink()
    with pytest.raises(CamouflageError, match=f"its file {file.file} is not there.*pip install {file.package}"):
        data_file(file, "The test")


@pytest.mark.parametrize(("content", "words"), [
    (b"", "empty"), (b" \n", "empty"), (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    (b"\xef\xbb\xbf\r\n<!doctype HTML><title>", "web page"), (b"<?xml version='1.0'?>\n<html lang='en'>", "web page"),
    (b"PK\x03\x04archive", None), (b"\x80\x02}q\x00.", None), (b'{"a": 1}', None)])
def test_what_a_failed_download_left(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    told = mistaken_for(tmp_path / "file")
    assert told is None if words is None else told is not None and words in told
