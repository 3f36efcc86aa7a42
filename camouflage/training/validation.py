"""Validation through ComfyUI's own sampler, with the nodes' code, on an exported file."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ..method.attribute_map import ENCODINGS, AttributeMap, as_picture
from . import export
from .config import Identity, Light
from .dataset import DatasetInfo, Sample
from .randomness import deterministic

SAMPLER, SCHEDULER = "dpmpp_2m_sde", "karras"  # paper: DPM++ SDE Karras, as the authors' code means it


class Sampler:
    """A ComfyUI in this process, entered at the first use; its models leave the device after every validation.

    Args:
        base_model, vae, image_prompt: files; without a VAE the base model's own is used.
        options: of the command: ``models`` and ``cpu``.
    """

    def __init__(self, base_model: Path, vae: Path | None, image_prompt: Path | None, options: argparse.Namespace):
        self._files = base_model, vae, image_prompt
        self._options = options
        self._loaded: SimpleNamespace | None = None

    def light(self, adapter: Path, samples: Sequence[Sample], maps: Sequence[AttributeMap], info: DatasetInfo,
              config: Light, image_prompt: Path | None = None) -> list[np.ndarray]:
        """Paints pictures with an exported Light adapter.

        Args:
            adapter: its file.
            image_prompt: file of an IP-Adapter that is trained as well; None: the one that this was made with.
            samples: what to paint.
            maps: one for each.
            info: of their dataset.

        Returns:
            For each a picture of three side by side, H x 3 W x 3, uint8: the original (through the VAE), its map, and
            what was painted from noise of config.validation.seed.
        """
        with self._host() as host:
            from ..comfy import image_prompt as prompt_module
            from ..comfy import light_adapter as adapter_module

            net = adapter_module.load(adapter, ENCODINGS[config.map.encoding])
            prompt = host.image_prompt if image_prompt is None else prompt_module.load(image_prompt)
            pictures = []
            for sample, attribute_map in zip(samples, maps, strict=True):
                model = host.model
                if prompt is not None:
                    seen = SimpleNamespace(image_embeds=sample.image[None],
                                           penultimate_hidden_states=sample.image[None])
                    model = prompt_module.apply(model, prompt, seen, config.image_prompt.scale,
                                                clip_vision=info.empty_image[None].float())
                positive, negative = (adapter_module.apply([[text[None].float(), {}]], net, attribute_map, 1.0)
                                      for text in (sample.text, info.empty_text))
                painted = self._sample(host, model, positive, negative, sample, config, config.validation.cfg)
                shown = [self._decode(host, sample.latent[None]), as_picture(attribute_map)[0],
                         self._decode(host, painted)]
                pictures.append(_as_bytes(torch.cat(shown, dim=1)))
        return pictures

    def identity(self, control_net: Path, samples: Sequence[Sample], empty_text: torch.Tensor,
                 config: Identity) -> list[torch.Tensor]:
        """Reconstructs latents with an exported identity ControlNet alone: what the guidance gives at a_s = 0.

        Returns:
            For each sample 4 x h x w, as the UNet sees latents.
        """
        with self._host() as host:
            import comfy.controlnet

            import nodes

            net = comfy.controlnet.load_controlnet(str(control_net))
            found = []
            for sample in samples:
                hint = sample.latent[None].movedim(1, -1)  # the host enlarges it x8, nearest
                identity, _ = nodes.ControlNetApplyAdvanced().apply_controlnet([[empty_text[None].float(), {}]], [],
                                                                               net, hint, 1.0, 0.0, 1.0)
                found.append(self._sample(host, host.model, identity, identity, sample, config, cfg=1.0)[0])
        return found

    def decode(self, latents: Sequence[torch.Tensor]) -> list[np.ndarray]:
        """Latents (4 x h x w, as the UNet sees them) as pictures, H x W x 3, uint8."""
        with self._host() as host:
            return [_as_bytes(self._decode(host, latent[None])) for latent in latents]

    @contextlib.contextmanager
    def _host(self) -> Iterator[SimpleNamespace]:
        from ..comfy.in_process import enter

        if self._loaded is None:
            enter(models=self._options.models, cpu=self._options.cpu or None)
        import comfy.model_management as mm

        with torch.inference_mode(), deterministic(False):  # the host's, as it is elsewhere
            if self._loaded is None:
                self._loaded = self._load()
            try:
                yield self._loaded
            finally:
                mm.unload_all_models()
                mm.soft_empty_cache()

    def _load(self) -> SimpleNamespace:
        import comfy.sd
        import comfy.utils

        from ..comfy.image_prompt import load

        base_model, vae, image_prompt = self._files
        model, _, own_vae, _ = comfy.sd.load_checkpoint_guess_config(str(base_model), output_vae=vae is None,
                                                                     output_clip=False)
        chosen = own_vae if vae is None else comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(vae), safe_load=True))
        prompt = None if image_prompt is None else load(image_prompt)
        return SimpleNamespace(model=model, vae=chosen, image_prompt=prompt)

    @staticmethod
    def _sample(host: SimpleNamespace, model: Any, positive: list, negative: list, sample: Sample,
                config: Light | Identity, cfg: float) -> torch.Tensor:
        """1 x 4 x h x w, as the UNet sees latents."""
        import comfy.sample

        chosen, empty = config.validation, torch.zeros_like(sample.latent)[None]
        noise = comfy.sample.prepare_noise(empty, chosen.seed)
        latent = comfy.sample.sample(model, noise, chosen.sampler_steps, cfg, SAMPLER, SCHEDULER, positive, negative,
                                     empty, disable_pbar=True, seed=chosen.seed)
        return host.model.model.process_latent_in(latent.cpu()).float()

    @staticmethod
    def _decode(host: SimpleNamespace, latents: torch.Tensor) -> torch.Tensor:
        """1 x 4 x h x w to H x W x 3, 0..1."""
        return host.vae.decode(host.model.model.process_latent_out(latents))[0].cpu().float()


def _as_bytes(picture: torch.Tensor) -> np.ndarray:
    """H x W x 3, 0..1, as uint8."""
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


@contextlib.contextmanager
def exported(tensors: Mapping[str, torch.Tensor]) -> Iterator[Path]:
    """Tensors as a temporary file, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="camouflage-") as folder:
        path = Path(folder) / "weights.safetensors"
        export.write(tensors, path, {})
        yield path
