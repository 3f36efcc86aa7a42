"""A small world of drawn pictures, and networks that were trained on it within minutes.

A picture shows a person before a background. The person is a patch that eight numbers decide, the *code*; everything
else is the scene. The networks are of the host's classes, with two levels and 32 channels, trained as the published
ones are: first the UNet, with a text or without; then each ControlNet alone, from a copy of the UNet's first half,
beside the frozen UNet. They predict v, as SD 2 does, which takes fewer steps to learn than noise. Latents are the
colours of 8 x 8 pixels in four channels. A recogniser learns to tell the code from a latent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.base import SCENE

CELLS, PATCH, PIXELS = 8, 4, 8  # of the latent's side, of the person's, of a cell's
CODE, CLASSES = 8, 4
BAD, EMPTY = CLASSES, CLASSES + 1  # texts: bad pictures, and nothing
TOKENS, WIDTH = 4, 32
NETWORK = {"image_size": 32, "in_channels": 4, "model_channels": 32, "channel_mult": (1, 2), "num_res_blocks": [2, 2],
           "num_heads": 2, "use_spatial_transformer": True, "context_dim": WIDTH, "transformer_depth": [1, 1, 0, 0],
           "transformer_depth_middle": 1, "dtype": torch.float32}
STEPS = {"unet": 700, "scene": 150, "identity": 250, "recogniser": 600}


@dataclass(frozen=True)
class Drawn:
    """Pictures. ``cells``: B x 3 x 8 x 8, colours around 0; ``codes``: B x 8; ``places``: B x 2; ``texts``: B."""

    cells: torch.Tensor
    codes: torch.Tensor
    places: torch.Tensor
    backgrounds: torch.Tensor
    texts: torch.Tensor

    @property
    def latents(self) -> torch.Tensor:
        """B x 4 x 8 x 8 in the model's scale."""
        return torch.einsum("lc,bchw->blhw", _fixed(4, 3, seed=2), self.cells) * 6

    @property
    def pictures(self) -> torch.Tensor:
        """IMAGE, B x 64 x 64 x 3."""
        return _enlarged(0.5 + self.cells)

    @property
    def people(self) -> torch.Tensor:
        """Where the person stands, B x 1 x 8 x 8."""
        masks = torch.zeros(len(self.cells), 1, CELLS, CELLS)
        for mask, (row, column) in zip(masks, self.places.tolist(), strict=True):
            mask[:, row:row + PATCH, column:column + PATCH] = 1.0
        return masks

    def maps(self) -> dict[str, torch.Tensor]:
        """What the scene's ControlNets see, as IMAGEs. Only the lines tell something of the person."""
        person, light = self.people, self.backgrounds.mean(1, keepdim=True)
        across, down = (_slope(light, dim) for dim in (-1, -2))
        lines = torch.cat([_slope(self.cells.mean(1, keepdim=True), dim).abs() for dim in (-1, -2)], 1)
        colour = self.backgrounds.mean((-1, -2), keepdim=True).expand_as(self.backgrounds)
        middle = torch.zeros_like(person)
        for mask, (row, column) in zip(middle, self.places.tolist(), strict=True):
            mask[:, row + 1:row + 3, column + 1:column + 3] = 1.0
        maps = {"depth": torch.where(person > 0, 1.0, 0.5 + light).expand(-1, 3, -1, -1),
                "normal": torch.cat([0.5 + across, 0.5 + down, person], 1),
                "segmentation": torch.where(person > 0, 0.0, 0.5 + colour),
                "pose": torch.cat([middle, person, torch.zeros_like(person)], 1),
                "lineart": torch.cat([lines, lines[:, :1]], 1) * 2}
        return {name: _enlarged(cells) for name, cells in maps.items()}


def draw(count: int, generator: torch.Generator, clean: bool = False) -> Drawn:
    """Pictures of people whom nobody has seen; ``clean`` without the bad ones, of which else every tenth is."""
    codes = torch.randn(count, CODE, generator=generator)
    places = torch.randint(CELLS - PATCH + 1, (count, 2), generator=generator)
    texts = torch.randint(CLASSES, (count,), generator=generator)
    colours = 0.1 * _fixed(CLASSES, 3, seed=1)[texts].view(count, 3, 1, 1)
    coarse = colours + 0.15 * torch.randn(count, 3, 3, 3, generator=generator)
    backgrounds = torch.nn.functional.interpolate(coarse, (CELLS, CELLS), mode="bicubic").clamp(-0.5, 0.5)
    patches = 0.45 * torch.tanh(codes @ _fixed(3 * PATCH * PATCH, CODE, seed=0).T * 2)
    cells = backgrounds.clone()
    for picture, patch, (row, column) in zip(cells, patches.view(-1, 3, PATCH, PATCH), places.tolist(), strict=True):
        picture[:, row:row + PATCH, column:column + PATCH] = patch
    bad = torch.rand(count, generator=generator) < (0.0 if clean else 0.1)
    texts[bad] = BAD
    cells[bad] *= 0.7
    return Drawn(cells, codes, places, backgrounds, texts)


def joined(parts: Sequence[Drawn]) -> Drawn:
    """One batch."""
    return Drawn(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Drawn)))


def embedding(texts: torch.Tensor) -> torch.Tensor:
    """B x 4 x 32, in the place of a text encoder's."""
    return torch.randn(EMPTY + 1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(3))[texts]


def _fixed(rows: int, columns: int, seed: int) -> torch.Tensor:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(matrix)[0] if rows >= columns else matrix / matrix.norm(dim=1, keepdim=True)


def _slope(cells: torch.Tensor, dim: int) -> torch.Tensor:
    return cells - cells.roll(1, dim)


def _enlarged(cells: torch.Tensor) -> torch.Tensor:
    return cells.repeat_interleave(PIXELS, -1).repeat_interleave(PIXELS, -2).clamp(0, 1).movedim(1, -1)


class Recogniser(torch.nn.Module):
    """Latents (B x 4 x 8 x 8) to codes of length 1 (B x 8); Euclidean distance."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(4, 48, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(48, 96, 4), torch.nn.SiLU(),
            torch.nn.Flatten(), torch.nn.Linear(96 * 25, 96), torch.nn.SiLU(), torch.nn.Linear(96, CODE))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.layers(latents), dim=-1)


@dataclass(frozen=True)
class World:
    """What samples: a MODEL, CONTROL_NETs by name ("identity" among them), and the recogniser."""

    model: Any
    nets: dict[str, Any]
    recogniser: Recogniser

    def distances(self, latents: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Of the recogniser, one a pair of pictures, 0..2."""
        with torch.no_grad():
            return (self.recogniser(latents) - self.recogniser(others)).norm(dim=-1)


def world(cache: Path, report: Callable[[str], None] = print) -> World:
    """The trained networks, from the cache where they are there. The host must be importable."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.model_patcher
    import comfy.ops

    cpu = torch.device("cpu")
    model = comfy.model_patcher.ModelPatcher(_model(), cpu, cpu)
    networks: dict[str, Any] = {"unet": model.model.diffusion_model, "recogniser": Recogniser()}
    networks |= {name: comfy.cldm.cldm.ControlNet(**NETWORK, hint_channels=3,
                                                  operations=comfy.ops.disable_weight_init)
                 for name in (*SCENE, "identity")}
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    file = cache / f"small-world-{digest}.safetensors"
    if not file.is_file():
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(0)
            _train(networks, model.model.model_sampling.sigmas, report)
        cache.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{id(networks)}")
        save_file({f"{name}.{key}": value for name, network in networks.items()
                   for key, value in network.state_dict().items()}, part)
        part.replace(file)
    state = load_file(file)
    for name, network in networks.items():
        network.load_state_dict({key.removeprefix(f"{name}."): value for key, value in state.items()
                                 if key.startswith(f"{name}.")})
        network.eval().requires_grad_(False)
    nets = {name: comfy.controlnet.ControlNet(networks[name], load_device=cpu) for name in (*SCENE, "identity")}
    return World(model, nets, networks["recogniser"])


def _model() -> Any:
    import comfy.model_base
    import comfy.supported_models

    shape = {**NETWORK, "out_channels": 4, "use_checkpoint": False, "transformer_depth_output": [1, 1, 1, 0, 0, 0],
             "legacy": False, "use_linear_in_transformer": False, "use_temporal_attention": False,
             "adm_in_channels": None}
    config = comfy.supported_models.SD15(shape)
    config.unet_config["num_heads"] = NETWORK["num_heads"]
    return comfy.model_base.BaseModel(config, comfy.model_base.ModelType.V_PREDICTION, torch.device("cpu"))


def _train(networks: dict[str, Any], sigmas: torch.Tensor, report: Callable[[str], None]) -> None:
    unet, generator = networks["unet"], torch.Generator().manual_seed(1)
    _initialise(unet, ("out.2", "out_layers.3", "proj_out"))

    def loss_of(net: Any, kind: str, count: int) -> torch.Tensor:
        drawn = draw(count, generator)
        texts = drawn.texts.clone()
        texts[torch.rand(count, generator=generator) < (1.0 if kind == "identity" else 0.2)] = EMPTY
        latents, context = drawn.latents, embedding(texts)
        timesteps = torch.randint(1000, (count,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        sigma = sigmas[timesteps].view(-1, 1, 1, 1)
        scale = (sigma**2 + 1).sqrt()
        x, wanted = (latents + sigma * noise) / scale, (noise - sigma * latents) / scale
        control = None
        if net is not None:
            hint = drawn.pictures if kind == "identity" else drawn.maps()[kind]
            control = net(x=x, hint=hint.movedim(-1, 1), timesteps=timesteps.float(), context=context)
        return (unet(x, timesteps.float(), context=context, control=control) - wanted).square().mean()

    report("small world: " + _fit("UNet", unet, lambda: loss_of(None, "", 32), STEPS["unet"], 1e-3))
    unet.requires_grad_(False)
    for kind in (*SCENE, "identity"):
        net = networks[kind]
        _initialise(net, ("zero_convs", "middle_block_out"))
        net.load_state_dict(unet.state_dict(), strict=False)
        steps = STEPS["identity" if kind == "identity" else "scene"]
        report("small world: " + _fit(kind, net, lambda net=net, kind=kind: loss_of(net, kind, 16), steps, 2e-3))

    recogniser = networks["recogniser"]

    def code_loss() -> torch.Tensor:
        drawn = draw(128, generator, clean=True)
        seen = drawn.latents + 0.3 * torch.randn(drawn.latents.shape, generator=generator)
        return (recogniser(seen) - torch.nn.functional.normalize(drawn.codes, dim=-1)).square().sum(-1).mean()

    report("small world: " + _fit("recogniser", recogniser, code_loss, STEPS["recogniser"], 3e-3))


def _fit(name: str, network: Any, loss_of: Callable[[], torch.Tensor], steps: int, rate: float) -> str:
    """Trains with AdamW and a falling rate; a line that says how far the loss fell."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        loss = loss_of()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        falling.step()
        losses.append(float(loss.detach()))
    tenth = max(1, steps // 10)
    return f"{name}, loss {sum(losses[:tenth]) / tenth:.3f} -> {sum(losses[-tenth:]) / tenth:.3f} in {steps} steps"


def _initialise(network: torch.nn.Module, zero: Sequence[str]) -> None:
    """The host leaves weights as they lie in memory."""
    for name, parameter in network.named_parameters():
        if any(part in name for part in zero):
            torch.nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            gain = 1.7 if "input_hint_block" in name else 1.0  # of SiLU
            torch.nn.init.normal_(parameter, std=gain * parameter[0].numel()**-0.5)
        else:
            torch.nn.init.constant_(parameter, float(name.endswith("weight")))
