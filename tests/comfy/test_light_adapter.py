"""The Light adapter against diffusers and in the host's chain of controls."""

from __future__ import annotations

import gc

import comfy.controlnet
import pytest
import torch
from comfy.t2i_adapter.adapter import Adapter

from in_host import Calls, difference, pictures
from light_weights import SIGNED, UNET, ip_adapter, random_map, save, t2i_adapter

SD15 = (320, 640, 1280, 1280)


@pytest.fixture(scope="module")
def light(host):
    return host.module("camouflage.comfy.light_adapter")


@pytest.fixture(scope="module")
def error(host):
    return host.module("camouflage.errors").CamouflageError


@pytest.fixture(scope="module")
def encoding(host):
    return host.module("camouflage.method.attribute_map").SIGNED


@pytest.fixture(scope="module")
def theirs():
    return t2i_adapter()


@pytest.fixture(scope="module")
def adapter(light, encoding, theirs, tmp_path_factory):
    path = save(theirs.state_dict(), tmp_path_factory.mktemp("light") / "light.safetensors", SIGNED)
    return light.load(path, encoding)


@pytest.fixture(scope="module")
def stock_adapter():
    """A stock T2I-Adapter for pictures, through the stock loader: it wants all four levels."""
    net = t2i_adapter((32, 64, 128, 128), in_channels=3, factor=8, seed=5)
    state = {key: value for key, value in net.state_dict().items()}
    control = comfy.controlnet.load_t2i_adapter(state)
    # The finest level has to fit the miniature; the coarser ones have no block there.
    control.t2i_model = Adapter([*UNET, *UNET[1:] * 2], 2, cin=192, ksize=1, sk=True, use_conv=False, xl=False)
    return control


@pytest.fixture
def cfg(host, sd):
    return lambda positive, negative: host.run("CFGGuider", model=sd.model, positive=positive, negative=negative,
                                               cfg=4.0)[0]


def read(control, shape, pictures_in=1, conds=1, sigma=1.0):
    x = torch.zeros(pictures_in * conds, 4, *shape)
    return control.get_control(x, torch.tensor([sigma]), {}, conds, {})


@pytest.mark.parametrize("channels", [UNET, SD15, (320,)])
@torch.no_grad()
def test_features_equal_diffusers_where_sizes_divide(light, encoding, tmp_path, channels):
    net = t2i_adapter(channels)
    ours = light.load(save(net.state_dict(), tmp_path / "a.safetensors", SIGNED), encoding)
    assert ours.layout.channels == tuple(channels)
    assert ours.layout.stride == net.total_downscale_factor
    for size in ((16, 16), (16, 24)):
        attribute_map = random_map(1, 2, *size)
        for mine, wanted in zip(ours.features(attribute_map), net(attribute_map), strict=True):
            assert difference(mine, wanted) == 0.0
            assert wanted.abs().max() > 0.1


@torch.no_grad()
def test_features_equal_diffusers_on_the_padded_map_elsewhere(light, encoding, tmp_path):
    net = t2i_adapter(SD15)
    ours = light.load(save(net.state_dict(), tmp_path / "a.safetensors"), encoding)
    for height, width in ((13, 17), (9, 16), (1, 3)):
        attribute_map = torch.rand(1, 41, height, width, generator=torch.Generator().manual_seed(2))
        padded = torch.zeros(1, 41, (height + 7) // 8 * 8, (width + 7) // 8 * 8)
        padded[:, :, :height, :width] = attribute_map
        features = ours.features(attribute_map)
        h, w = height, width
        for mine, whole in zip(features, net(padded), strict=True):
            assert mine.shape[-2:] == (h, w)
            assert difference(mine, whole[:, :, :h, :w]) == 0.0
            h, w = (h + 1) // 2, (w + 1) // 2  # a UNet's level after a stride of 2


@torch.no_grad()
def test_features_go_to_the_blocks_of_the_hosts_own_adapter(light, encoding, tmp_path):
    net = t2i_adapter(SD15)
    ours = light.load(save(net.state_dict(), tmp_path / "a.safetensors"), encoding)
    attribute_map = random_map(3)
    conditioning = light.apply([[torch.zeros(1, 77, 768), {}]], ours, attribute_map, 1.0)
    inputs = read(conditioning[0][1]["control"], (16, 16))["input"]
    host_inputs = ours.net(attribute_map)["input"]
    assert [f is None for f in inputs] == [f is None for f in host_inputs]
    assert [12 - 1 - i for i, f in enumerate(inputs) if f is not None] == [11, 8, 5, 2], "taken from the end"
    for block, wanted in zip((2, 5, 8, 11), net(attribute_map), strict=True):
        assert difference(inputs[11 - block], wanted) == 0.0


def test_sampling_at_strength_0_is_sampling_without(light, sd, adapter, cfg, sample):
    assert light.apply(sd.positive, adapter, random_map(1), 0.0) is sd.positive
    assert light.apply(sd.positive, adapter, random_map(1), 1.0, 0.5, 0.5) is sd.positive
    control = adapter.control(random_map(1), 0.0, (0.0, 1.0), None)  # the control itself at 0, too
    off = [[[c[0][0], {**c[0][1], "control": control}]] for c in (sd.positive, sd.negative)]
    stock = sample(cfg(sd.positive, sd.negative))
    assert difference(sample(cfg(*off)), stock) == 0.0
    on = light.apply(sd.positive, adapter, random_map(1), 1.0)
    assert "control" not in sd.positive[0][1], "the input is not changed"
    assert difference(sample(cfg(on, sd.negative)), stock) > 1e-2
    assert difference(sample(cfg(sd.positive, sd.negative)), stock) == 0.0


def test_positive_and_negative_share_the_control_and_one_batch(light, sd, adapter, cfg, sample):
    attribute_map = random_map(1)
    positive, negative = (light.apply(c, adapter, attribute_map, 0.7) for c in (sd.positive, sd.negative))
    assert positive[0][1]["control"] is negative[0][1]["control"]
    with Calls(sd.model.model.diffusion_model) as unet, Calls(adapter.net) as net:
        both = sample(cfg(positive, negative), steps=3)
    assert (unet.count, net.count) == (3, 1), "cond and uncond in one batch, features once a sampling"
    apart = [[sd.negative[0][0], {**sd.negative[0][1], "control": negative[0][1]["control"].copy()}]]
    assert difference(sample(cfg(positive, apart), steps=3), both) < 1e-4 * float(both.abs().max())
    del positive, negative, apart
    gc.collect()
    assert not adapter._controls, "controls nobody uses are gone"


def test_it_adds_to_controlnets_and_stock_adapters_in_any_order(host, light, sd, adapter, stock_adapter):
    attribute_map, image = random_map(1), pictures(1)

    def controlnet(conditioning):
        return host.run("ControlNetApplyAdvanced", positive=conditioning, negative=[], control_net=sd.nets["depth"],
                        image=image, strength=0.5, start_percent=0.0, end_percent=1.0)[0]

    def stock(conditioning):
        return host.run("ControlNetApplyAdvanced", positive=conditioning, negative=[], control_net=stock_adapter,
                        image=image, strength=0.5, start_percent=0.0, end_percent=1.0)[0]

    def ours(conditioning):
        return light.apply(conditioning, adapter, attribute_map, 0.8)

    model = sd.model.model
    results = {}
    for order in ((controlnet, stock, ours), (ours, controlnet, stock), (stock, ours, controlnet), (stock,), (ours,)):
        conditioning = sd.positive
        for step in order:
            conditioning = step(conditioning)
        control = conditioning[0][1]["control"]
        control.pre_run(model, model.model_sampling.percent_to_sigma)
        with torch.inference_mode():
            results[order] = control.get_control(torch.zeros(1, 4, 16, 16), torch.tensor([1.0]),
                                                 {"c_crossattn": sd.positive[0][0]}, 1, {})
        assert len(control.get_models()) == len({controlnet, ours} & set(order))
        control.cleanup()
    *orders, only_stock, only_ours = results.values()
    for result in orders:
        for block in range(6):
            parts = [r["input"][11 - block] for r in (only_stock, only_ours)]
            got = result["input"][11 - block]
            if block % 3 < 2:
                assert got is None and parts == [None, None]
            else:
                assert difference(got, parts[0] + parts[1]) < 1e-6
        for mine, other in zip(result["output"] + result["middle"], orders[0]["output"] + orders[0]["middle"],
                               strict=True):
            assert (mine is None and other is None) or difference(mine, other) == 0.0
        assert any(feature is not None for feature in result["output"])


def test_each_picture_gets_its_own_features(light, sd, adapter, error):
    maps = random_map(4, 2)
    control = light.apply(sd.positive, adapter, maps, 0.5)[0][1]["control"]
    got = read(control, (16, 16), pictures_in=4, conds=2)["input"][9]
    single = [0.5 * adapter.features(maps[i:i + 1])[0] for i in (0, 1)]
    assert difference(got, torch.cat(single * 4)) < 1e-6
    assert difference(*single) > 1e-3
    one = light.apply(sd.positive, adapter, maps[:1], 0.5)[0][1]["control"]
    assert difference(read(one, (16, 16), pictures_in=3)["input"][9], torch.cat(single[:1] * 3)) < 1e-6
    three = light.apply(sd.positive, adapter, random_map(4, 3), 0.5)[0][1]["control"]
    with pytest.raises(error, match=r"'map' has 3 pictures, but 2 are sampled"):
        read(three, (16, 16), pictures_in=2)


def test_start_and_end_are_honoured(light, sd, adapter, cfg, sample):
    attribute_map = random_map(1)
    sampling = sd.model.get_model_object("model_sampling")
    part = light.apply(sd.positive, adapter, attribute_map, 1.0, 0.25, 0.75)
    control = part[0][1]["control"]
    control.pre_run(sd.model.model, sampling.percent_to_sigma)
    for percent, acts in ((0.2, False), (0.25, True), (0.5, True), (0.75, True), (0.8, False)):
        assert (read(control, (16, 16), sigma=sampling.percent_to_sigma(percent)) is not None) == acts, percent
    control.cleanup()
    assert control._features is None
    between = [light.apply(c, adapter, attribute_map, 1.0, 0.4, 0.6) for c in (sd.positive, sd.negative)]  # no step
    assert difference(sample(cfg(*between)), sample(cfg(sd.positive, sd.negative))) == 0.0


def test_a_map_of_another_size_is_enlarged_without_mixing_and_another_shape_is_refused(light, sd, adapter, error):
    attribute_map = random_map(1)
    control = light.apply(sd.positive, adapter, attribute_map, 1.0)[0][1]["control"]
    twice = attribute_map.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert difference(read(control, (32, 32))["input"][9], adapter.features(twice)[0]) == 0.0
    with pytest.raises(error, match=r"16 x 16 cells, but the latent .* is 24 x 16"):
        read(control, (16, 24))


def test_features_change_only_around_the_person_that_changed(adapter):
    attribute_map = random_map(1, 1, 32, 64)
    changed = attribute_map.clone()
    changed[:, :, 10:14, 50:54] = 1.0
    reach = 5  # conv_in and two blocks of one 3x3 kernel: 3 cells; the next level sees 2 x 2 cells, twice 1 more, + 3
    for level, (a, b) in enumerate(zip(adapter.features(attribute_map), adapter.features(changed), strict=True)):
        touched = (a != b).any(dim=1)[0].nonzero() * 2**level
        assert len(touched)
        low, high = touched.min(dim=0).values, touched.max(dim=0).values
        limit = reach * 2**level
        assert low[0] >= 10 - limit and low[1] >= 50 - limit
        assert high[0] < 14 + limit and high[1] < 54 + limit


def test_a_model_of_another_shape_is_refused(light, sd, encoding, tmp_path, error, cfg, sample):
    full = light.load(save(t2i_adapter(SD15).state_dict(), tmp_path / "a.safetensors"), encoding)
    conditioning = light.apply(sd.positive, full, random_map(1), 1.0)
    with pytest.raises(error, match=r"\[320, 640, 1280, 1280\].*'model' has \[32, 64\]"):
        sample(cfg(conditioning, sd.negative))


@pytest.mark.parametrize(("bad", "words"), [
    (torch.zeros(1, 40, 8, 8), r"\[1, 40, 8, 8\]"), (torch.zeros(41, 8, 8), r"\[41, 8, 8\]"),
    (torch.full((1, 41, 8, 8), float("nan")), "not finite"), ("map", "str"), (torch.zeros(0, 41, 8, 8), r"\[0, 41"),
])
def test_what_is_no_map_is_refused(light, sd, adapter, error, bad, words):
    with pytest.raises(error, match=f"'map'.*{words}.*Attribute Map"):
        light.apply(sd.positive, adapter, bad, 1.0)


def test_the_encoding_is_checked(light, theirs, encoding, tmp_path, error):
    for metadata in ({"encoding": "other", "encoding_version": "1"},
                     {"encoding": "camouflage-signed", "encoding_version": "2"}, {"encoding": "camouflage-signed"}):
        path = save(theirs.state_dict(), tmp_path / "a.safetensors", metadata)
        with pytest.raises(error, match=r"encoding '.*' version .*camouflage-signed version 1 or camouflage-prob"):
            light.load(path, encoding)
    assert light.load(save(theirs.state_dict(), tmp_path / "b.safetensors"), encoding).encoding == encoding
    with pytest.raises(error, match="does not say .* choose it in .encoding.: camouflage-signed, camouflage-prob"):
        light.load(tmp_path / "b.safetensors", None)


def test_an_adapter_and_a_map_of_different_encodings_are_refused(host, light, theirs, encoding, adapter, sd, tmp_path,
                                                                 error):
    """Each adapter takes the map that is drawn for it, and no other; a bare tensor counts as camouflage-signed."""
    module = host.module("camouflage.method.attribute_map")
    metadata = {"encoding": "camouflage-probabilities", "encoding_version": "1"}
    other = light.load(save(theirs.state_dict(), tmp_path / "other.safetensors", metadata), encoding)
    assert other.encoding == module.PROBABILITIES and adapter.encoding == module.SIGNED
    for wanted, given in ((other, module.SIGNED), (adapter, module.PROBABILITIES)):
        light.apply(sd.positive, wanted, module.AttributeMap(random_map(1), wanted.encoding), 1.0)
        with pytest.raises(error, match=f"'map' is in the encoding {given}, but .* trained on {wanted.encoding}"):
            light.apply(sd.positive, wanted, module.AttributeMap(random_map(1), given), 1.0)
    with pytest.raises(error, match="trained on camouflage-probabilities"):
        light.apply(sd.positive, other, random_map(1), 1.0)
    assumed, = host.run("CamouflageLightAdapterLoader", adapter="camouflage_light_sd15.safetensors")
    assert assumed.encoding == module.PROBABILITIES, "what the file says counts, not what the node assumes"


def test_a_3x3_with_one_tap_is_the_1x1_that_it_was(light, theirs, encoding, tmp_path):
    """To the bit, against torch's own 1x1; with a second tap it stays a 3x3."""
    state = dict(theirs.state_dict())
    middle = state["adapter.conv_in.weight"][:, :, 1:2, 1:2].clone()
    state["adapter.conv_in.weight"] = torch.zeros_like(state["adapter.conv_in.weight"])
    state["adapter.conv_in.weight"][:, :, 1:2, 1:2] = middle
    net = light.load(save(state, tmp_path / "one.safetensors"), encoding).net
    attribute_map = random_map(3)
    wanted = torch.nn.functional.conv2d(attribute_map, middle, state["adapter.conv_in.bias"])
    assert difference(net.conv_in(attribute_map), wanted) == 0.0 and net.conv_in.kernel_size == (1, 1)
    state["adapter.conv_in.weight"][3, 4, 0, 2] = 1e-3
    net = light.load(save(state, tmp_path / "two.safetensors"), encoding).net
    wanted = torch.nn.functional.conv2d(attribute_map, state["adapter.conv_in.weight"], state["adapter.conv_in.bias"],
                                        padding=1)
    assert difference(net.conv_in(attribute_map), wanted) < 1e-5 and net.conv_in.kernel_size == (3, 3)


def bad_file(kind, theirs, miniature_models, folder):
    state = theirs.state_dict()
    path = folder / "bad.safetensors"
    if kind == "controlnet":
        return next((miniature_models / "controlnet").glob("*depth*.safetensors"))
    if kind in ("pickle", "disguised"):
        path = folder / ("bad.bin" if kind == "pickle" else "bad.safetensors")
        torch.save(state, path)
        return path
    if kind == "truncated":
        whole = save(state, path).read_bytes()
        path.write_bytes(whole[:len(whole) // 2])
        return path
    if kind == "absent":
        return folder / "absent.safetensors"
    states = {
        "3 channels": lambda: t2i_adapter(in_channels=3, factor=8).state_dict(),
        "light type": lambda: t2i_adapter((32, 64), kind="light_adapter").state_dict(),
        "ip-adapter": ip_adapter,
        "incomplete": lambda: {k: v for k, v in state.items() if k != "adapter.body.1.resnets.1.block2.bias"},
        "foreign key": lambda: {**state, "adapter.extra.weight": torch.zeros(1)},
        "no levels": lambda: {k: v for k, v in state.items() if "conv_in" in k and "body" not in k},
        "original layout": lambda: {k.removeprefix("adapter."): v for k, v in state.items()},
    }
    return save(states[kind](), path)


@pytest.mark.parametrize(("kind", "words"), [
    ("controlnet", "is a ControlNet"), ("pickle", "only .safetensors"), ("disguised", "could not be loaded"),
    ("truncated", "could not be loaded"), ("absent", "could not be loaded"),
    ("3 channels", r"192 input channels \(3 colours unshuffled by 8\)"), ("light type", "'light_adapter'"),
    ("ip-adapter", "is an IP-Adapter"), ("incomplete", r"block2.bias is (missing|absent), but must be \[64\]"),
    ("foreign key", r"adapter.extra.weight is \[1\], but must be absent"), ("no levels", "0 levels"),
    ("original layout", "authors' layout"),
])
def test_every_other_file_is_refused(light, encoding, theirs, miniature_models, tmp_path, error, kind, words):
    with pytest.raises(error, match=words):
        light.load(bad_file(kind, theirs, miniature_models, tmp_path), encoding)


@pytest.fixture
def loaders(host, theirs, tmp_path):
    """The node classes by id, and model folders with an adapter of each kind; other packs' entries stay."""
    import folder_paths

    before = dict(folder_paths.folder_names_and_paths)
    folder_paths.folder_names_and_paths["ipadapter"] = ([str(tmp_path / "theirs")], {".bin"})
    folder_paths.folder_names_and_paths["camouflage"] = ([str(tmp_path)], {".safetensors"})
    (tmp_path / "light").mkdir()
    (tmp_path / "theirs").mkdir()
    save(theirs.state_dict(), tmp_path / "light" / "mine.safetensors", SIGNED)
    save(ip_adapter(), tmp_path / "theirs" / "ip.safetensors")
    (tmp_path / "theirs" / "old.bin").touch()
    yield {node.GET_SCHEMA().node_id: node for node in host.module("nodes.light").NODES}
    folder_paths.folder_names_and_paths.clear()
    folder_paths.folder_names_and_paths.update(before)


def test_the_nodes_load_and_apply_and_hold_to_their_ranges(loaders, sd, error):
    import comfy.clip_vision
    import folder_paths

    def options(node):
        return next(i for i in loaders[node].define_schema().inputs if i.id == "adapter").options

    assert options("CamouflageLightAdapterLoader") == ["camouflage_light_sd15.safetensors", "mine.safetensors"]
    assert options("CamouflageImagePromptLoader") == [
        "ip-adapter_sd15.safetensors", "ip-adapter-plus_sd15.safetensors",
        "camouflage_light_sd15_image_prompt.safetensors", "ip.safetensors"]
    assert folder_paths.folder_names_and_paths["ipadapter"][0][1:] == [folder_paths.models_dir + "/ipadapter"]
    assert {".bin", ".safetensors"} <= set(folder_paths.folder_names_and_paths["ipadapter"][1])
    for node, words in (("CamouflageLightAdapterLoader", r"be trained \(docs/training\.md\)\n.*camouflage_light_sd15"),
                        ("CamouflageImagePromptLoader", r"huggingface.co/h94/.*\n.*ipadapter.*Apache-2.0")):
        extra = {"encoding": "refuse"} if "Light" in node else {}
        with pytest.raises(error, match=words):
            loaders[node].execute(options(node)[0], **extra)
        with pytest.raises(error, match=r"'../x.safetensors', which is not in models/.*Found: "):
            loaders[node].execute("../x.safetensors", **extra)
    adapter, = loaders["CamouflageLightAdapterLoader"].execute("mine.safetensors", "refuse").result
    with pytest.raises(error, match="'encoding' is 'other', but must be one of: camouflage-signed, refuse, cam"):
        loaders["CamouflageLightAdapterLoader"].execute("mine.safetensors", "other")
    run = loaders["CamouflageApplyLightAdapter"].execute
    conditioning, = run(sd.positive, adapter, random_map(1), 0.5, 0.1, 0.9).result
    control = conditioning[0][1]["control"]
    assert (control.strength, control.timestep_percent_range) == (0.5, (0.1, 0.9))
    with pytest.raises(error, match="'strength' is 11, but must lie between 0 and 10"):
        run(sd.positive, adapter, random_map(1), 11, 0.0, 1.0)
    prompt, = loaders["CamouflageImagePromptLoader"].execute("ip.safetensors").result
    output = comfy.clip_vision.Output()
    output["image_embeds"] = torch.ones(1, 64)
    run = loaders["CamouflageApplyImagePrompt"].execute
    model, = run(sd.model, prompt, output, 0.5, 0.0, 1.0, torch.ones(8, 8)).result
    assert len(model.model_options["transformer_options"]["patches_replace"]["attn2"]) == 6
    with pytest.raises(error, match="'weight' is -1, but must lie between 0 and 3"):
        run(sd.model, prompt, output, -1, 0.0, 1.0)


def test_every_socket_says_what_it_is(loaders):
    for node in loaders.values():
        schema = node.define_schema()
        assert schema.category == "CAMOUFLaGE/light" and schema.description.endswith(".")
        for socket in (*schema.inputs, *schema.outputs):
            assert len(socket.tooltip or "") >= 15, socket.id
            for limit in (socket.min, socket.max) if getattr(socket, "step", None) else ():
                assert f"{limit:g}" in socket.tooltip
