"""The weights registry."""

import re

import pytest

from camouflage.weights import REGISTRY, needed_by, of_role


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
