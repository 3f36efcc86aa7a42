"""Folders laid out as the published data sets are, made here."""

from __future__ import annotations

import pytest

from camouflage.commands import studies
from camouflage.errors import CamouflageError
from camouflage.evaluation.layouts import IDENTITIES, LAYOUTS, MAPPING, known

IDENTITY_LINES = "000003.jpg 10\n000008.jpg 20\n000009.jpg 10\n"
MAPPING_LINES = "idx orig_idx orig_file\n0 2 000003.jpg\n1 7 000008.jpg\n2 8 000009.jpg\n"


def test_the_folders_of_lfw_are_persons(tmp_path):
    keys = ["Ada_L/Ada_L_0001.jpg", "Ada_L/Ada_L_0002.jpg", "lfw/Bo/Bo_0001.jpg"]
    found = known("lfw", tmp_path, keys)
    assert found.identities == dict(zip(keys, ("Ada_L", "Ada_L", "Bo"), strict=True))
    assert found.said == ("2 persons, by their folders.",) and not found.protocol
    with pytest.raises(CamouflageError, match=r"1 pictures lie in .* such as 'c.jpg'"):
        known("lfw", tmp_path, [*keys, "c.jpg"])


@pytest.mark.parametrize("above", [False, True])
def test_celeba_hq_is_known_by_way_of_celeba(tmp_path, above):
    root = tmp_path / "photos"
    root.mkdir()
    for name, lines in ((IDENTITIES, IDENTITY_LINES), (MAPPING, MAPPING_LINES)):
        ((tmp_path if above else root) / name).write_text(lines)
    found = known("celeba-hq", root, ["0.jpg", "00001.png", "sub/2.jpg", "7.jpg", "x.jpg"])
    assert found.identities == {"0.jpg": "10", "00001.png": "20", "sub/2.jpg": "10"}
    assert found.said == ("2 persons, by CelebA's list; 2 pictures are not in it, and count as other persons.",)


def test_without_its_lists_everybody_is_a_person_of_their_own(tmp_path):
    (tmp_path / IDENTITIES).write_text(IDENTITY_LINES)
    found = known("celeba-hq", tmp_path, ["0.jpg"])
    assert not found.identities and found.said[0].startswith(f"{MAPPING} lies neither in")
    (tmp_path / MAPPING).write_text("idx orig_idx orig_file\n0 2\n")
    with pytest.raises(CamouflageError, match="line 2 must have 3 columns"):
        known("celeba-hq", tmp_path, ["0.jpg"])


@pytest.mark.parametrize(("layout", "protocol"), [("plain", ""), ("ffhq", ""), ("wider", "folder")])
def test_others_name_nobody(tmp_path, layout, protocol):
    found = known(layout, tmp_path, ["0--Parade/a.jpg"])
    assert not found.identities and found.protocol == protocol


def test_the_command_line_knows_all_layouts():
    assert tuple(LAYOUTS) == studies.LAYOUTS
