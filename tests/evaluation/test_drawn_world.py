"""The drawn world: drawings, judges, the family's networks and training, and what is measured on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import drawn_world
from camouflage.errors import CamouflageError
from camouflage.files import ROOT
from camouflage.method.faces import ATTRIBUTES
from in_host import difference, enter_host
from sampled import long
from testing.world import family, judges, networks
from testing.world.drawing import (
    CELL,
    CELLS,
    DRAWN,
    LASTING,
    PASSING,
    Drawing,
    Scene,
    aligned,
    consistent,
    draw,
    empty,
    enlarged,
    lasting,
    picked,
    random_identities,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(places: list[tuple[float, float, float, float]]) -> Scene:
    """A grey scene without shapes behind persons at these places."""
    count = len(places)
    return Scene(torch.full((1, 3, 2, 2), 0.5), torch.tensor([[[-50.0, -50.0, 1.0, 1.0, 0.0]]]).expand(1, 3, 5),
                 torch.zeros(1, 3, 3), torch.tensor([places]), torch.full((1, count, 3), 0.2),
                 torch.full((1, count, 3), 0.6))


def of(*names: str) -> torch.Tensor:
    return torch.tensor([name in names for name in DRAWN])


MIDDLE = (8.0, 8.5, 4.0, 0.0)


def test_a_seed_draws_the_same_and_another_one_does_not():
    first, same, other = draw(3, rng(1)), draw(3, rng(1)), draw(3, rng(2))
    assert torch.equal(first.cells, same.cells)
    assert difference(first.cells, other.cells) > 0.1
    assert first.cells.shape == (3, 3, CELLS, CELLS) and first.pictures.shape == (3, 128, 128, 3)
    assert first.cells.min() >= 0 and first.cells.max() <= 1


def test_maps_of_the_scene_show_nobody_and_the_picture_does():
    drawing = draw(2, rng(), persons=2)
    stranger = Drawing(drawing.scene, random_identities(2, 2, rng(9)), drawing.attributes.logical_not())
    assert difference(drawing.cells, stranger.cells) > 0.2
    for name in family.SCENE:
        assert torch.equal(drawing.maps[name], stranger.maps[name])
        assert drawing.maps[name].shape == (2, 3, CELLS * CELL, 2 * CELLS * CELL)


def test_segmentation_has_the_mean_head_where_the_place_says():
    red = Drawing(plain([MIDDLE]), torch.ones(1, 1, 12), of()[None, None]).maps["segmentation"][0, 0] > 0.85
    rows, columns = torch.nonzero(red, as_tuple=True)
    assert (float(columns.min()), float(columns.max() + 1)) == (32, 96)  # 8 cells +- 4 cells, of 8 px
    assert (float(rows.min()), float(rows.max() + 1)) == (28, 108)  # 8.5 cells +- 1.25 * 4 cells


@pytest.mark.parametrize("name", PASSING)
def test_every_passing_attribute_is_seen_on_its_own_person_alone(name: str):
    who = torch.zeros(1, 2, 12)
    scene = plain([MIDDLE, (24.0, 8.5, 4.0, 0.0)])
    without = Drawing(scene, who, torch.stack([of(), of()])[None]).cells
    with_it = Drawing(scene, who, torch.stack([of(), of(name)])[None]).cells
    change = (with_it - without).abs().amax((0, 1, 2))
    assert change[:CELLS].max() == 0 and change[CELLS:].max() > 0.05


@pytest.mark.parametrize("number", range(12))
def test_every_number_of_an_identity_is_seen(number: int):
    low, high = torch.zeros(1, 1, 12), torch.zeros(1, 1, 12)
    low[..., number], high[..., number] = -1.0, 1.0
    cells = [Drawing(plain([MIDDLE]), who, of()[None, None]).cells for who in (low, high)]
    assert difference(*cells) > 0.02


def test_lasting_attributes_follow_from_the_identity():
    who = torch.zeros(2, 12)
    who[0, 2], who[0, 4], who[1, 4], who[1, 9] = 0.9, -0.9, 0.9, 0.9  # skin, hair, hair, nose
    found = [{name for name, there in zip(LASTING, row, strict=True) if there} for row in lasting(who)]
    assert found == [{"Pale_Skin", "Black_Hair"}, {"Blond_Hair", "Big_Nose"}]


def test_looks_do_not_contradict_themselves():
    given = of("Bald", "Wearing_Hat", "Bangs", "Black_Hair")
    assert torch.equal(consistent(given), of("Wearing_Hat", "Black_Hair"))
    assert torch.equal(consistent(of("Bald", "Bangs", "Blond_Hair")), of("Bald"))


def test_faces_are_where_they_are_drawn():
    drawing = Drawing(plain([MIDDLE]), torch.zeros(1, 1, 12), of("Smiling")[None, None])
    face, = drawing.faces().pictures[0].faces
    assert face.box_ltrb == pytest.approx((32, 28, 96, 108))
    assert face.keypoints[0] == pytest.approx((64 - 0.42 * 32, 68 - 0.12 * 32))
    known = dict(zip(ATTRIBUTES, face.attributes, strict=True))
    assert known["Smiling"] == 1.0 and known["Bald"] == 0.0 and known["Young"] is None


def test_a_face_is_cut_out_upright_wherever_it_stands():
    who, look = random_identities(1, 1, rng(3)), of("Eyeglasses")[None, None]
    places = [MIDDLE, (8.5, 9.0, 4.4, 0.14)]
    cut = [aligned(Drawing(plain([place]), who, look).cells, torch.tensor([place])) for place in places]
    away = aligned(Drawing(plain(places[:1]), random_identities(1, 1, rng(4)), look).cells, torch.tensor(places[:1]))
    assert (cut[0] - cut[1]).abs().mean() < 0.5 * (cut[0] - away).abs().mean()


def test_balanced_accuracy_by_hand():
    found = torch.tensor([True, True, False, False, False])
    wanted = torch.tensor([True, False, False, False, True])
    assert judges.balanced_accuracy(found, wanted) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert judges.balanced_accuracy(found, torch.ones(5, dtype=torch.bool)) is None


def test_judges_learn_within_seconds_and_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(judges, "PAIRS", 32)
    judge = judges.train(0, lambda line: None, people=160, steps=45)
    quality = judges.qualities(judge, 1, pictures=4)
    assert quality.rank_1 > 0.2 and quality.faces_found > 0.9 > 0.5 > quality.empty_scenes_found
    judges.save(judge, tmp_path / "judges.safetensors")
    assert judges.qualities(judges.load(tmp_path / "judges.safetensors"), 1, pictures=4) == quality


@long
def test_judges_know_new_people_and_read_every_attribute():
    quality = judges.qualities(judges.train(0, lambda line: None), 1)
    assert quality.rank_1 >= 0.9, "of 50; one thread ends with other weights than two"
    assert sum(quality.balanced_accuracy.values()) / len(DRAWN) >= 0.9


@pytest.fixture(scope="module")
def host_classes() -> None:
    enter_host()


def filled(network: torch.nn.Module) -> torch.nn.Module:
    """Nothing is zero any more, but what text would add."""
    for key, parameter in network.named_parameters():
        if "attn2.to_out" not in key:
            torch.nn.init.normal_(parameter, std=parameter[0].numel()**-0.5 if parameter.ndim > 1 else 0.3)
    return network.requires_grad_(False)


def test_the_vae_is_the_mean_colour_of_cells_and_loses_nothing(host_classes: None):
    import comfy.sd

    vae, drawing = comfy.sd.VAE(sd=networks.vae_state()), draw(1, rng())
    latents = vae.encode(drawing.pictures)
    assert difference(latents * 0.18215, networks.latents(drawing.cells)) < 1e-5
    assert difference(vae.decode(latents), drawing.pictures) < 1e-3
    spoilt = networks.latents(drawing.cells) + 0.3 * torch.randn(1, 4, CELLS, CELLS, generator=rng(1))
    assert difference(vae.decode(spoilt / 0.18215), enlarged(networks.cells(spoilt))) < 2e-3


def test_widened_networks_compute_the_same_and_stock_loaders_take_them(host_classes: None):
    import comfy.controlnet
    import comfy.sd
    from comfy.t2i_adapter.adapter import Adapter

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = filled(networks.model().model.diffusion_model)
        net, adapter = filled(networks.control_net(4, unet)), filled(networks.adapter())
        x, time, text = torch.randn(1, 4, 8, 8), torch.tensor([321.0]), torch.randn(1, 3, 768)
        hint, maps = torch.rand(1, 4, 64, 64), torch.randn(1, 41, 8, 8)
    wide = comfy.sd.load_diffusion_model_state_dict(networks.widened(unet.state_dict())).model
    assert type(wide.model_config).__name__ == "SD15"
    narrow = unet(x, time, context=text)
    assert narrow.std() > 0.05
    assert difference(narrow, wide.diffusion_model.float()(x, time, context=text)) < 1e-4
    other = comfy.controlnet.load_controlnet_state_dict(
        {f"control_model.{key}": value for key, value in networks.widened(net.state_dict()).items()})
    found = other.control_model.float()(x=x, hint=hint, timesteps=time, context=text)
    for name, parts in net(x=x, hint=hint, timesteps=time, context=text).items():
        for part, wider in zip(parts, found[name], strict=True):
            assert difference(part.repeat_interleave(networks.FACTOR, 1), wider) < 1e-3
    wider = Adapter([320, 640], 2, 41, ksize=1, sk=True, use_conv=False, xl=False)
    wider.unshuffle = torch.nn.Identity()
    wider.load_state_dict(networks.widened(adapter.state_dict()))
    for part, more in zip(adapter(maps)["input"], wider(maps)["input"], strict=True):
        if part is not None:
            assert difference(part.repeat_interleave(networks.FACTOR, 1), more) < 1e-3


class Stop(Exception):
    pass




@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> family.Recipe:
    enter_host()
    monkeypatch.setattr(family, "KEPT", 4)
    monkeypatch.setattr(family, "FEWEST", 12)
    monkeypatch.setattr(family, "BATCHES", dict.fromkeys(family.PARTS, 2))
    train = judges.train
    monkeypatch.setattr(judges, "train", lambda seed, report: train(seed, report, people=20, steps=2))
    return family.Recipe(minutes=0.001, parts=("unet",))


@long
def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(quick: family.Recipe, tmp_path: Path):
    def stop(line: str) -> None:
        if line.startswith("unet: step 8"):
            raise Stop

    family.train(tmp_path / "whole", quick, lambda line: None)
    with pytest.raises(Stop):
        family.train(tmp_path / "stopped", quick, stop)
    assert not (tmp_path / "stopped/unet.safetensors").exists()
    lines: list[str] = []
    family.train(tmp_path / "stopped", quick, lines.append)
    assert "unet: goes on at step 8" in lines
    for file in ("unet.safetensors", "judges.safetensors", "recipe.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "stopped" / file).read_bytes(), file
    with pytest.raises(CamouflageError, match="another recipe"):
        family.train(tmp_path / "whole", replace(quick, seed=5), lines.append)


@pytest.mark.parametrize("part", ["identity", "light", "segmentation"])
def test_a_step_changes_the_part_and_leaves_the_unet_alone(quick: family.Recipe, tmp_path: Path, part: str):
    recipe = replace(quick, parts=("unet", part))
    model = networks.model()
    unet = model.model.diffusion_model.requires_grad_(False)
    filled(unet)
    network = family._new(part, unet)
    before, frozen = ({key: value.clone() for key, value in net.state_dict().items()} for net in (network, unet))
    family._Training(tmp_path, part, network, model, recipe, print)._step(3)  # of two persons
    assert all(torch.equal(value, frozen[key]) for key, value in unet.state_dict().items())
    last = {"light": "body.3.block2.bias"}.get(part, "middle_block_out.0.bias")
    assert difference(network.state_dict()[last], before[last]) > 0


@pytest.mark.parametrize("wrong", [{"minutes": 0.0}, {"parts": ("light",)}, {"parts": ("unet", "depth")}])
def test_a_recipe_that_cannot_be_trained_is_refused(wrong: dict):
    with pytest.raises(CamouflageError, match="A recipe has"):
        family.Recipe(**wrong)


def test_some_pictures_of_a_drawing_and_its_scene_without_persons():
    drawing = draw(4, rng())
    assert torch.equal(picked(drawing, slice(1, 3)).cells, drawing.cells[1:3])
    assert difference(empty(drawing.scene), drawing.cells) > 0.2


def test_outlines_outside_of_heads_tell_the_scene_and_not_the_person():
    drawing, elsewhere = draw(8, rng(1)), draw(8, rng(2))
    stranger = Drawing(drawing.scene, random_identities(8, 1, rng(9)), drawing.attributes.logical_not())
    same, inverted, other_person, other_scene = (drawn_world.outlines_kept(cells, drawing) for cells in (
        drawing.cells, 1 - drawing.cells, stranger.cells, elsewhere.cells))
    assert same.tolist() == pytest.approx([1.0] * 8) == inverted.tolist()
    assert other_person.mean() > 0.7 > 0.3 > other_scene.mean()


@long
def test_everything_is_painted_judged_and_plotted_with_networks_that_learned_nothing(
        quick: family.Recipe, tmp_path: Path, host: SimpleNamespace):
    recipe = replace(quick, parts=family.PARTS)
    family.train(tmp_path / "networks", recipe, lambda line: None)
    paint = drawn_world.painter(host, tmp_path / "networks", steps=2)
    results = drawn_world.measure(paint, 6, 0, tmp_path, lambda line: None)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert [row["scale"] for row in results["rows"] if row["method"] == "base"] == list(drawn_world.SCALES)
    assert [row["variant"] for row in results["variants"]] == [
        "as it is", "without lineart", "without pose", "without segmentation", "without any", "fast"]
    changed = {row["variant"]: row["changed"]["value"] for row in results["variants"]}
    assert changed["as it is"] == 0 < changed["without any"]
    for name in ("scale", "variants", "attributes", "separation", "pictures", "pairs"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_the_published_curves_are_what_the_documents_say():
    found = json.loads((ROOT / "docs/drawn_world/results.json").read_text(encoding="utf-8"))
    base = {row["scale"]: row["rank_1"] for row in found["rows"] if row["method"] == "base"}
    recipe = json.loads((ROOT / "docs/drawn_world/recipe.json").read_text(encoding="utf-8"))["recipe"]
    assert found["people"] == 50 and found["says"] == drawn_world.NO_CLAIM
    assert recipe["steps"] == family.Recipe().steps and recipe["seed"] == 0, "made by the command without options"
    assert base[0.0]["value"] >= 0.8 and base[0.0]["interval_95"][0] > base[1.25]["interval_95"][1]
    light, edits = found["light"], found["separation"]
    assert light["agreement"]["interval_95"][0] > light["agreement_with_anothers"]["interval_95"][1]
    for edited, other in (("left", "right"), ("right", "left")):
        moved = edits[f"{edited}_edited"]
        assert moved[edited]["interval_95"][0] > moved[other]["interval_95"][1]
    text = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    for stated in (base[0.0], base[0.5], base[1.0], light["agreement"], light["agreement_with_anothers"]):
        low, high = stated["interval_95"]
        assert any(f"{stated['value']:.{n}f} [{low:.{n}f}, {high:.{n}f}]" in text for n in (2, 3))
