"""IP-Adapter for SD 1.5: image tokens in the UNet's cross-attention, decoupled from the text (arXiv 2308.06721)."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP

from ..errors import CamouflageError
from ..images import ASPECT_TOLERANCE
from .acceleration import accelerate
from .image_prompt_net import ImagePromptAdapter, ImagePromptNet, load, tokens_of
from .transformer_options import GIVEN, IDENTITY_BRANCH, noise_level, with_options

__all__ = ["apply", "load"]

_MODELS = "camouflage_image_prompt"

@dataclass(frozen=True)
class Layer:
    """A cross-attention layer: the host's name of its block, the block's number, the place in it, its two widths."""

    block: str
    number: int
    index: int
    width: int
    context: int

    @property
    def whole(self) -> tuple[str, int]:
        """The host's key of the block."""
        return self.block, self.number

    @property
    def exact(self) -> tuple[str, int, int]:
        """The host's key of this transformer in the block; the host looks for it first, then for the block's."""
        return self.block, self.number, self.index


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """One application: tokens of the pictures (the last row are those of no picture, for uncond), and how they act.

    Attributes:
        tokens: (pictures + 1) x tokens x context.
        sigmas: first and last noise level at which it acts; None is always. :meth:`decide` says so once a call.
        mask: B x 1 x H x W in picture space, 0..1; None is everywhere.
    """

    net: ImagePromptNet
    tokens: torch.Tensor
    weight: float
    sigmas: tuple[float, float] | None
    mask: torch.Tensor | None
    key: str = field(default_factory=lambda: f"{_MODELS}_{uuid.uuid4().hex}")
    _made: dict = field(default_factory=dict, repr=False)

    def attend(self, q: torch.Tensor, layer: int, options: dict) -> torch.Tensor | None:
        """What the image adds to the attention's result, shaped like q ((conds * pictures) x cells x width).

        Branch 0 of the host's ``cond_or_uncond`` gets the pictures' tokens, every other one those of no picture. None:
        nothing, because the identity is evaluated or the noise level lies outside.
        """
        if not self.acts(options):
            return None
        given = options.get(GIVEN, {})
        if (self.key, layer) in given:
            keys, values = given[self.key, layer]
        else:
            keys, values = self.keys_and_values(q, layer, options)
        out = _attention(q, keys, values, options) * self.weight
        if self.mask is None:
            return out
        _check_batch(len(self.mask), q.shape[0] // len(options.get("cond_or_uncond", [0])), "mask")
        height, width = _cells(options, q.shape[1])
        whole = self.mask
        mask = self._once((height, width, q.device, q.dtype), lambda: _small_mask(whole, height, width).to(q))
        return out * mask.repeat(q.shape[0] // len(mask), 1, 1)

    def decide(self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, model_options: dict | None = None,
               seed: int | None = None) -> torch.Tensor:
        """The host's ``PREDICT_NOISE`` wrapper: decides for all layers of a call whether the image acts."""
        options = (model_options or {}).get("transformer_options", {})
        acts = {self.key: self._within(noise_level(options, timestep))}
        return executor(x, timestep, with_options(model_options, **acts), seed)

    def forget(self, *_: Any) -> None:
        """Frees what lies on the model's device; the host's call after sampling."""
        self._made.clear()

    def of_pictures(self, rows: Callable[[torch.Tensor], torch.Tensor]) -> ImagePrompt:
        """The same for some of the pictures; ``rows`` takes theirs out of a tensor with a row a picture."""
        return replace(self, tokens=torch.cat([rows(self.tokens[:-1]), self.tokens[-1:]]),
                       mask=None if self.mask is None else rows(self.mask), _made={})

    def acts(self, options: dict) -> bool:
        """Whether the image acts in a call: not on the identity, and not at other noise levels."""
        if options.get(IDENTITY_BRANCH):
            return False
        if self.sigmas is None:
            return True
        return options[self.key] if self.key in options else self._within(noise_level(options, options["sigmas"]))

    def _within(self, sigma: float) -> bool:
        return self.sigmas is None or self.sigmas[1] <= sigma <= self.sigmas[0]

    def keys_and_values(self, like: torch.Tensor, layer: int, options: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Of every branch and picture, each (conds * pictures) x tokens x width; made once a sampling.

        Args:
            like: (conds * pictures) x ..., of the device and dtype wanted.
            layer: number of the layer.
            options: of the call.
        """
        branches = tuple(options.get("cond_or_uncond", [0]))
        pictures = like.shape[0] // len(branches)

        def each(rows: torch.Tensor) -> torch.Tensor:
            cond, uncond = rows[:-1], rows[-1:]
            return torch.cat([cond.repeat(pictures // len(cond), 1, 1) if branch == 0
                              else uncond.expand(pictures, -1, -1) for branch in branches])

        def make() -> tuple[torch.Tensor, torch.Tensor]:
            tokens = self._once(("tokens", like.device, like.dtype), lambda: self.tokens.to(like))
            _check_batch(len(tokens) - 1, pictures, "clip_vision_output")
            return each(self.net.to_k[layer](tokens)), each(self.net.to_v[layer](tokens))

        return self._once((layer, branches, pictures, like.device, like.dtype), make)

    def _once(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What does not change during a sampling, made once; bounded (layers by branches by sizes)."""
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= 256:  # other threads, of other GPUs, may be at it
                self._made.clear()
            self._made[key] = made = make()
        return made


@dataclass(eq=False)
class LayerPatch:
    """The host's ``attn2`` replacement of one layer: text attention, or whatever stood there before, plus the image.

    Nodes that patch the layer later and add to what stands there (IPAdapter_plus and its relatives) call :meth:`add`.
    Every copy of a MODEL has patches of its own, so that what is added to one is not added to the others; tensors and
    networks are shared.
    """

    prompt: ImagePrompt
    layer: int
    previous: Callable | None = None
    added: tuple[tuple[Callable, dict[str, Any]], ...] = ()

    def __deepcopy__(self, memo: dict) -> LayerPatch:
        return replace(self)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"The image prompt replaces this cross-attention and has no {name!r}. A node that "
                             "needs it must be applied before the image prompt.")

    def add(self, callback: Callable, **settings: Any) -> None:
        """Adds what another node's attention returns.

        Args:
            callback: called with the result so far, q, k, v, the host's options and ``settings``; returns what is
                added.
            settings: of the callback; ``sigma_start`` and ``sigma_end`` are the first and last noise level at which
                it is called, without them at all.
        """
        self.added = (*self.added, (callback, settings))

    def to(self, target: torch.device | torch.dtype) -> LayerPatch:
        """The host's call when it moves patches; ours follow the queries, an older foreign one may hold tensors."""
        move = getattr(self.previous, "to", None)
        moved = self.previous if move is None else move(target)
        return self if moved is self.previous else replace(self, previous=moved)

    def reads(self, options: dict, x: torch.Tensor) -> tuple[tuple, dict] | None:
        """What a recorded call of the UNet must know of this patch.

        Args:
            options: of the call.
            x: what the UNet gets.

        Returns:
            What decides how it acts, and the tensors that it reads, by the names under which it finds them in
            ``options[GIVEN]``; None where calls cannot be recorded: with a mask, or with what other nodes added.
        """
        before = ((), {}) if self.previous is None else getattr(self.previous, "reads", lambda *_: None)(options, x)
        if before is None or self.added or self.prompt.mask is not None:
            return None
        if not self.prompt.acts(options):
            return (*before[0], None), before[1]
        given = {(self.prompt.key, self.layer): self.prompt.keys_and_values(x, self.layer, options)}
        return (*before[0], self.prompt.weight), {**before[1], **given}

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict) -> torch.Tensor:
        out = (self.previous or _attention)(q, k, v, options)
        image = self.prompt.attend(q, self.layer, options)
        if image is not None:
            out = out + image
        for callback, settings in self.added:
            bounded = "sigmas" in options and not settings.keys().isdisjoint(("sigma_start", "sigma_end"))
            sigma = noise_level(options, options["sigmas"]) if bounded else math.inf
            if settings.get("sigma_end", -math.inf) <= sigma <= settings.get("sigma_start", math.inf):
                out = (out + callback(out, q, k, v, options, **settings)).to(q.dtype)
        return out


def cross_attention_layers(unet: torch.nn.Module) -> Iterator[Layer]:
    """The UNet's cross-attention layers in the order of the published IP-Adapters: input, output, middle."""
    for name in ("input", "output", "middle"):
        found: Any = getattr(unet, f"{name}_block" if name == "middle" else f"{name}_blocks", None)
        blocks = [] if found is None else [found] if name == "middle" else list(found)
        for number, block in enumerate(blocks):
            for transformer in (module for module in block if isinstance(module, SpatialTransformer)):
                for index, inner in enumerate(transformer.transformer_blocks):
                    if inner.attn2 is not None:
                        to_k = inner.attn2.to_k
                        yield Layer(name, number, index, to_k.out_features, to_k.in_features)


def apply(model: ModelPatcher, adapter: ImagePromptAdapter, clip_vision_output: Any, weight: float,
          start_percent: float = 0.0, end_percent: float = 1.0, mask: torch.Tensor | None = None,
          clip_vision: Any = None) -> ModelPatcher:
    """A clone of ``model`` whose cross-attention also sees the pictures; applications add up.

    Args:
        clip_vision_output: of the stock CLIP Vision Encode, a picture or a batch; a batch must divide the pictures
            sampled, and each sampled picture gets its own.
        weight: of the image attention; 0 is the model as it is.
        start_percent, end_percent: part of the sampling, 0..1, in which the image acts, on the model's present noise
            schedule.
        mask: H x W or B x H x W in picture space, 0..1: where the image acts.
        clip_vision: the encoder, or its hidden states of a zero tensor; see :func:`.image_prompt_net.tokens_of`.
    """
    layers = list(cross_attention_layers(model.get_model_object("diffusion_model")))
    found, wanted = [(layer.width, layer.context) for layer in layers], adapter.layout
    if found != [(width, wanted.context) for width in wanted.layers]:
        raise CamouflageError(
            f"'adapter' is for {len(wanted.layers)} cross-attention layers of widths {list(wanted.layers)} and text "
            f"width {wanted.context}, but 'model' has {len(found)}: {[w for w, _ in found]}, text width "
            f"{', '.join(str(c) for c in sorted({c for _, c in found})) or 'none'}. Use a model and an IP-Adapter of "
            "one family (SD 1.5: 16 layers, 768).")
    tokens = tokens_of(adapter, clip_vision_output, clip_vision)
    model = accelerate.attach(model.clone())
    if weight == 0 or start_percent >= end_percent:
        return model
    sampling = model.get_model_object("model_sampling")
    always = start_percent <= 0 and end_percent >= 1
    sigmas = None if always else (float(sampling.percent_to_sigma(start_percent)),
                                  float(sampling.percent_to_sigma(end_percent)))
    prompt = ImagePrompt(adapter.net, tokens, weight, sigmas, _mask(mask))
    _attach(model, prompt, layers)
    if sigmas is not None:
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, _MODELS, prompt.decide)
    model.add_callback_with_key(CallbacksMP.ON_CLEANUP, _MODELS, prompt.forget)
    loaded = model.get_additional_models_with_key(_MODELS)
    if not any(patcher.is_clone(adapter.patcher) for patcher in loaded):
        model.set_additional_models(_MODELS, [*loaded, adapter.patcher])
    return model


def _attach(model: ModelPatcher, prompt: ImagePrompt, layers: list[Layer]) -> None:
    """Puts a patch where the host looks for each layer.

    That is the block's key if the block has one transformer: other nodes use it and find ours there. Where something
    stands under the transformer's own key, which the host prefers, ours stands under both.
    """
    present, transformers = dict(_replacements(model)), Counter(layer.whole for layer in layers)
    for place, layer in enumerate(layers):
        patch = LayerPatch(prompt, place, _standing(present, layer))
        if transformers[layer.whole] == 1:
            model.set_model_attn2_replace(patch, *layer.whole)
        else:
            _replacements(model).pop(layer.whole, None)  # it acts as the previous one of every transformer
        if transformers[layer.whole] > 1 or layer.exact in present:
            model.set_model_attn2_replace(patch, *layer.exact)
    model.add_callback_with_key(CallbacksMP.ON_PRE_RUN, _MODELS, partial(_check_attached, prompt, layers))


def _check_attached(prompt: ImagePrompt, layers: list[Layer], model: ModelPatcher) -> None:
    """The host's call before sampling: a node applied later must not have pushed the image prompt aside."""
    present = _replacements(model)
    for layer in layers:
        patch = _standing(present, layer)
        while isinstance(patch, LayerPatch) and patch.prompt is not prompt:
            patch = patch.previous
        if not isinstance(patch, LayerPatch):
            raise CamouflageError(f"A node after the image prompt has replaced the cross-attention of {layer.block} "
                                  f"block {layer.number}, where the image would no longer act. Apply that node before "
                                  "the image prompt, or do without one of them.")


def _replacements(model: ModelPatcher) -> dict[tuple, Callable]:
    """What replaces cross-attention in a model, by the host's keys."""
    return model.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})


def _standing(present: Mapping[tuple, Callable], layer: Layer) -> Callable | None:
    """What the host calls for a layer; refuses two patches of which it would ignore one."""
    exact, whole = present.get(layer.exact), present.get(layer.whole)
    if exact is not None and whole is not None and exact is not whole:
        raise CamouflageError(f"Two nodes have replaced the cross-attention of {layer.block} block {layer.number} in "
                              "'model', and ComfyUI uses only one of them. Apply the image prompt after them, or do "
                              "without one of them.")
    return whole if exact is None else exact


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict) -> torch.Tensor:
    """The host's attention, as its cross-attention calls it."""
    return optimized_attention(q, k, v, options["n_heads"], attn_precision=options.get("attn_precision"),
                               transformer_options=options)


def _mask(mask: torch.Tensor | None) -> torch.Tensor | None:
    if mask is None:
        return None
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise CamouflageError(f"'mask' is {list(mask.shape)}, but a mask is [height, width] or [batch, height, width].")
    return mask.reshape(-1, 1, *mask.shape[-2:]).float()


def _small_mask(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Mean over every cell, B x cells x 1: masks that add up to one still do."""
    h, w = mask.shape[-2:]
    if abs((w / h) / (width / height) - 1) > ASPECT_TOLERANCE + 1 / min(width, height):
        raise CamouflageError(f"'mask' of the image prompt is {w} x {h} px, another shape than the sampled latent "
                              f"({width} x {height} at this layer). Make it from the prepared picture.")
    return torch.nn.functional.adaptive_avg_pool2d(mask, (height, width)).flatten(2).movedim(1, 2)


def _check_batch(have: int, pictures: int, socket: str) -> None:
    if pictures % have:
        raise CamouflageError(f"'{socket}' of the image prompt has {have} pictures, but {pictures} are sampled. Give "
                              "one for all, or make the latent batch as large.")


def _cells(options: dict, cells: int) -> tuple[int, int]:
    """Height and width of a layer's grid; every level of the UNet halves and rounds up."""
    height, width = options.get("activations_shape", options["original_shape"])[-2:]
    while height * width > cells:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != cells:
        raise CamouflageError(f"'mask' of the image prompt cannot be laid over {cells} cells of a latent of "
                              f"{options['original_shape']}; disconnect 'mask' for this model.")
    return height, width
