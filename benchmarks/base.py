"""Times CAMOUFLaGE-Base beside the stock graph that says the same (DualCFGGuider, nested), in one process.

    python -m benchmarks.base [--full] [--size 768] [--steps 30] [--runs 3]

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set. Weights are random: ``--full`` has SD 1.5's real
shapes (six ControlNets, about 6 GB in half precision; wants a GPU), otherwise a UNet of two levels. The graphs take
turns, so that a machine that slows down slows all; the first round warms up and is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.host import (
    CFG,
    Host,
    arguments,
    compare,
    random_model,
    random_state,
    random_text,
    shapes_in,
    unet_config,
)

SCENE = {"depth": 0.5, "normal": 0.3, "segmentation": 0.5, "pose": 0.8, "lineart": 0.3}


def control_nets(shape: dict[str, Any]) -> dict[str, Any]:
    """The five of the scene and that of the identity, by the host's own loader."""
    import comfy.cldm.cldm
    import comfy.controlnet

    shapes = shapes_in(comfy.cldm.cldm.ControlNet(**unet_config(shape), hint_channels=3))
    return {name: comfy.controlnet.load_controlnet_state_dict(random_state(shapes, "control_model."))
            for name in (*SCENE, "identity")}


def conditionings(host: Host, nets: Mapping[str, Any], size: int, photos: int = 1) -> dict[str, Any]:
    """Positive, negative and identity of the shipped workflow, for so many photos."""
    scene: dict[str, Any] = {"positive": random_text(), "negative": random_text(), "lineart_end_percent": 0.5}
    for name, strength in SCENE.items():
        scene |= {f"{name}_map": torch.rand(photos, size, size, 3), f"{name}_strength": strength,
                  f"{name}_control_net": nets[name]}
    positive, negative = host.run("CamouflageSceneControl", **scene)
    identity, = host.run("CamouflageIdentityControl", conditioning=random_text(), control_net=nets["identity"],
                         strength=1.0, image=torch.rand(photos, size, size, 3))
    return {"positive": positive, "negative": negative, "identity": identity}


def guided(host: Host, model: Any, conds: Mapping[str, Any]) -> Any:
    """Our guider with a_s = 1.25."""
    return host.run("CamouflageGuider", model=model, **conds, cfg=CFG, anonymization_scale=1.25, start_percent=0.0,
                    end_percent=1.0)[0]


def stock(host: Host, model: Any, conds: Mapping[str, Any]) -> Any:
    """The host's own guider that says the same."""
    return host.run("DualCFGGuider", model=model, cond1=conds["positive"], cond2=conds["negative"],
                    negative=conds["identity"], cfg_conds=CFG, cfg_cond2_negative=1.25, style="nested")[0]


def main() -> None:
    """Builds the graphs, runs them in turn and prints medians."""
    options = arguments(__doc__)
    host = Host()
    model = random_model(options.shape)
    conds = conditionings(host, control_nets(options.shape), options.size)
    compare(host, model, {
        "CAMOUFLaGE, a_s = 1.25": guided(host, model, conds),
        "stock nested DualCFG": stock(host, model, conds),
        "stock CFG, no guidance": host.run("CFGGuider", model=model, positive=conds["positive"],
                                           negative=conds["negative"], cfg=CFG)[0],
    }, options)


if __name__ == "__main__":
    main()
