"""Anonymization guidance, as a GUIDER and as a MODEL patch, and how fast it is sampled."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.comfy.acceleration.accelerate import Acceleration, attach
from ..camouflage.comfy.guidance import IdentityGuidance
from ..camouflage.comfy.messages import warn
from ..camouflage.method.shortcuts import FAST, Shortcuts
from .common import GUIDE, schema

_FORMULA = "D = D_identity + a_s * (D_text - D_identity)"


def _knobs() -> list:
    return [
        io.Float.Input("anonymization_scale", default=1.25, min=0.0, max=3.0, step=0.05,
                       tooltip=f"a_s in {_FORMULA}, 0 to 3. 0 reconstructs the original (never safe), 1 is no guidance "
                               "and costs nothing, above 1 moves away from the original. 1.25 is the paper's value. "
                               "Some publications give a_s - 1 instead."),
        io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.01,
                       tooltip="Point of the noise schedule at which the guidance starts, 0 to 1; before it a_s is 1. "
                               "0: from the start, as in the paper."),
        io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.01,
                       tooltip="Point of the noise schedule at which the guidance ends, 0 to 1; after it a_s is 1. 1: "
                               "to the end, as in the paper; 0 is no guidance."),
        io.Mask.Input("mask", optional=True,
                      tooltip="Limits the guidance to a part of the picture: a_s where the mask is 1, no guidance "
                              "where it is 0, and accordingly between them. One mask for all pictures, or one for "
                              "each. Without it the guidance acts everywhere."),
    ]


def _identity_input() -> io.Conditioning.Input:
    return io.Conditioning.Input("identity", tooltip="What to move away from, from 'Identity Control'. Any "
                                                     "conditioning of this model works.")


def _guidance(identity: list, anonymization_scale: float, start_percent: float, end_percent: float,
              mask: io.Mask.Type | None) -> IdentityGuidance:
    if anonymization_scale < 1.0:
        warn(f"Anonymization scale {anonymization_scale:g} is below 1: the result moves TOWARDS the original, persons "
             "can be recognised. Use more than 1 (the paper: 1.25).")
    return IdentityGuidance(identity, anonymization_scale, start_percent, end_percent, mask)


class CamouflageGuider(io.ComfyNode):
    """Guider for SamplerCustomAdvanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageGuider", display_name="CAMOUFLaGE Guider", category=GUIDE,
            search_aliases=["anonymize", "anonymization guidance", "de-identify", "negative identity", "CFG guider"],
            advanced=["start_percent", "end_percent"],
            description="Classifier-free guidance plus guidance away from the original, for SamplerCustomAdvanced: "
                        f"{_FORMULA}. Works with any model of the host; nothing in it assumes SD 1.5.",
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model, with all its patches and LoRAs."),
                io.Conditioning.Input("positive", tooltip="What to show, from 'Scene Control'."),
                io.Conditioning.Input("negative", tooltip="What to avoid, from 'Scene Control'."),
                _identity_input(),
                io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, round=0.01,
                               tooltip="Classifier-free guidance between negative and positive, 0 to 100; 1 leaves "
                                       "the negative out. 7 is our choice."),
                *_knobs(),
            ],
            outputs=[io.Guider.Output("GUIDER", display_name="guider", tooltip="For SamplerCustomAdvanced.")])

    @classmethod
    def execute(cls, model: io.Model.Type, positive: io.Conditioning.Type, negative: io.Conditioning.Type,
                identity: io.Conditioning.Type, cfg: float, anonymization_scale: float, start_percent: float,
                end_percent: float, mask: io.Mask.Type | None = None) -> io.NodeOutput:
        guidance = _guidance(identity, anonymization_scale, start_percent, end_percent, mask)
        return io.NodeOutput(guidance.guider(model, positive, negative, cfg))


class CamouflageGuidance(io.ComfyNode):
    """The same guidance as a MODEL patch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageGuidance", display_name="CAMOUFLaGE Guidance", category=GUIDE,
            search_aliases=["anonymize", "anonymization guidance", "de-identify", "model patch"],
            advanced=["start_percent", "end_percent"],
            description="The guidance away from the original as a model patch, for KSampler and any other sampler or "
                        f"guider: {_FORMULA}, where D_text is what that sampler predicts by itself.",
            inputs=[io.Model.Input("model", tooltip="The diffusion model; it is cloned, never changed."),
                    _identity_input(), *_knobs()],
            outputs=[io.Model.Output("MODEL", display_name="model", tooltip="The model with the guidance.")])

    @classmethod
    def execute(cls, model: io.Model.Type, identity: io.Conditioning.Type, anonymization_scale: float,
                start_percent: float, end_percent: float, mask: io.Mask.Type | None = None) -> io.NodeOutput:
        guidance = _guidance(identity, anonymization_scale, start_percent, end_percent, mask)
        return io.NodeOutput(guidance.attach(model))


class CamouflageAccelerate(io.ComfyNode):
    """Faster sampling."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        until = "From 0 to 1; 1 keeps it to the end. Only in mode 'fast'."
        return schema(
            node_id="CamouflageAccelerate", display_name="Accelerate", category=GUIDE,
            search_aliases=["speed", "faster", "CUDA graphs", "DeepCache", "optimize"],
            advanced=["reuse_scene", "reuse_deep", "negative_until", "identity_until"],
            description="Samples faster. In mode 'exact' the result stays the same: on an NVIDIA GPU the calls of the "
                        "UNet and of the scene's ControlNets are recorded as CUDA graphs and played back, each with "
                        "one launch. Mode 'fast' also leaves out work that changes the result a little. Where "
                        "something is not possible, it samples as before, and the log says why.",
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model, with all its patches and LoRAs; it is cloned, "
                                                "never changed."),
                io.Combo.Input("mode", options=["exact", "fast"], default="exact",
                               tooltip="'exact' computes everything. 'fast' leaves out what the settings below "
                                       "say, more than half of Base's operations; the result differs, and 'Verify' "
                                       "judges it like any other. Our choice, no part of the paper."),
                io.Combo.Input("graphs", options=["auto", "off"], default="auto",
                               tooltip="'auto' records CUDA graphs on an NVIDIA GPU that holds the whole model; they "
                                       "take some GPU memory until the model is unloaded. 'off': never. With "
                                       "ComfyUI's node 'TorchCompileModel' there are no graphs; the ControlNets are "
                                       "compiled, too."),
                io.Boolean.Input("reuse_scene", default=FAST.reuse_scene,
                                 tooltip="Every second model call takes the scene ControlNets' output from the calls "
                                         "before: it goes on in a line through what the last two gave. Only in mode "
                                         "'fast'."),
                io.Boolean.Input("reuse_deep", default=FAST.reuse_deep,
                                 tooltip="Every second model call takes the UNet's deep levels from the calls before, "
                                         "in the same way (after DeepCache, which takes the last). Only in mode "
                                         "'fast'."),
                io.Float.Input("negative_until", default=FAST.negative_until, min=0.0, max=1.0, step=0.05,
                               tooltip="Point of the noise schedule after which the negative prompt is left out. "
                                       + until),
                io.Float.Input("identity_until", default=FAST.identity_until, min=0.0, max=1.0, step=0.05,
                               tooltip="Point of the noise schedule after which there is no guidance away from the "
                                       "original; with less than 1 results come nearer to it. " + until),
            ],
            outputs=[io.Model.Output("MODEL", display_name="model", tooltip="The model, for guider or sampler.")])

    @classmethod
    def execute(cls, model: io.Model.Type, mode: str, graphs: str, reuse_scene: bool, reuse_deep: bool,
                negative_until: float, identity_until: float) -> io.NodeOutput:
        parts = Shortcuts(reuse_scene, reuse_deep, negative_until, identity_until)
        acceleration = Acceleration(graphs == "auto", parts if mode == "fast" else None)
        return io.NodeOutput(attach(model.clone(), acceleration))


NODES = [CamouflageGuider, CamouflageGuidance, CamouflageAccelerate]
