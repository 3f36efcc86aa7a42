"""One step of an image prompt in the host beside diffusers', and who attends to what in it."""

from __future__ import annotations

from types import SimpleNamespace

import torch

import narrow
from light_weights import UNET
from testing.miniature.diffusion import diffusers_configs

TIMESTEP = 600
MARK = "camouflage_identity_branch"
KEYS = ("image_proj", "ip_adapter")


def diffusers_unet():
    """diffusers' UNet with the weights of the narrow one, by its own converter."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    net = UNet2DConditionModel(**{**diffusers_configs()["unet"], "block_out_channels": UNET})
    net.load_state_dict(convert_ldm_unet_checkpoint(narrow.unet_state(), dict(net.config)))
    return net.eval().requires_grad_(False)


class Watch:
    """A clone of a model that records, with the host's own hooks, each call's predictions and attentions.

    Args:
        tokens: of a picture, by which attention to the image is told from that to text and cells.
    """

    def __init__(self, model, tokens: int = 4):
        self.model, self.tokens = model.clone(), tokens
        self.predictions: dict[tuple[int, bool], torch.Tensor] = {}
        self.attentions: list[SimpleNamespace] = []
        self.model.set_model_unet_function_wrapper(self._predict)
        self.model.model_options["transformer_options"]["optimized_attention_override"] = self._attend

    def __deepcopy__(self, memo):
        return self

    def _predict(self, apply_model, args):
        result = apply_model(args["input"], args["timestep"], **args["c"])
        identity = bool(args["c"]["transformer_options"].get(MARK))
        for branch, part in zip(args["cond_or_uncond"], result.chunk(len(args["cond_or_uncond"])), strict=True):
            self.predictions[branch, identity] = part.clone()
        return result

    def _attend(self, attention, q, k, v, *args, **kwargs):
        options = kwargs["transformer_options"]
        self.attentions.append(SimpleNamespace(
            tokens=k.shape[1], cells=q.shape[1], branches=tuple(options["cond_or_uncond"]), block=options["block"],
            identity=bool(options.get(MARK)), keys=k.clone() if k.shape[1] == self.tokens else None))
        return attention(q, k, v, *args, **kwargs)

    def image(self):
        return [call for call in self.attentions if call.tokens == self.tokens]


def one_step(host, sd):
    """step(guider, batch) -> the denoised prediction of one Euler step, its input x and its sigma."""

    def run(guider, batch=1):
        sigma = float(sd.model.get_model_object("model_sampling").sigma(torch.tensor(TIMESTEP)))
        noise, = host.run("RandomNoise", noise_seed=3)
        euler, = host.run("KSamplerSelect", sampler_name="euler")
        empty = {"samples": torch.zeros(batch, 4, 8, 8)}
        result = host.run("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=euler,
                          sigmas=torch.tensor([sigma, 0.0]), latent_image=empty)[0]["samples"]
        return result * 0.18215, noise.generate_noise(empty) * sigma, sigma

    return run


@torch.no_grad()
def reference(unet, states, weights, embeds, x, sigma, text, masks=None):
    """diffusers: D of one step with these IP-Adapters; embeds: what each projects, one row a picture."""
    nested = [{key: {k.removeprefix(f"{key}."): v for k, v in state.items() if k.startswith(f"{key}.")}
               for key in KEYS} for state in states]
    unet._load_ip_adapter_weights(nested)
    for processor in unet.attn_processors.values():
        if hasattr(processor, "to_k_ip"):
            processor.scale = list(weights)
    masked = {"cross_attention_kwargs": {"ip_adapter_masks": masks}} if masks else {}
    noise = unet(x / (sigma**2 + 1) ** 0.5, TIMESTEP, text.expand(len(x), -1, -1),
                 added_cond_kwargs={"image_embeds": [e[:, None] for e in embeds]}, return_dict=False, **masked)[0]
    return x - sigma * noise


