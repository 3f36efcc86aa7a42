"""The graphs that the benchmarks of speed let take turns: the stock ones and ours, with what makes ours faster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.base import guided
from benchmarks.base import stock as stock_base
from benchmarks.host import CFG, Host, Sampling
from benchmarks.light import Light
from camouflage.method.shortcuts import FAST

BASE, LIGHT = "Base, stock nested DualCFG", "Light without Accelerate"
LIGHT_STOCK = "Light, stock CFG and T2I-Adapter"
FEW_STEPS = "Base exact, 8 steps of ddim"
ALL_OFF = {"reuse_scene": False, "reuse_deep": False, "negative_until": 1.0, "identity_until": 1.0}
PARTS = {name: getattr(FAST, name) for name in ALL_OFF}
USED = tuple(name for name in ALL_OFF if PARTS[name] != ALL_OFF[name])


@dataclass(frozen=True)
class Graph:
    """A way to sample.

    Attributes:
        guider: for the host's SamplerCustomAdvanced.
        like: the name of the graph with whose result its own is compared.
    """

    guider: Any
    like: str | None = None


def accelerated(host: Host, model: Any, mode: str, recordings: str = "auto", **parts: Any) -> Any:
    """The MODEL with the node *Accelerate*; in mode "fast" with all parts, or with those that are given."""
    return host.run("CamouflageAccelerate", model=model, mode=mode, graphs=recordings, **(parts or PARTS))[0]


def modes(host: Host, model: Any, recordings: str, alone: Iterable[str]) -> dict[str, Any]:
    """The MODEL without the node *Accelerate*, in mode exact, with these parts of mode fast alone, and with all."""
    models = {"without Accelerate": model, "exact": accelerated(host, model, "exact", recordings)}
    for name in alone:
        value = PARTS[name]
        shown = name if isinstance(value, bool) else f"{name} {value:g}"
        models[f"exact + {shown}"] = accelerated(host, model, "fast", recordings, **{**ALL_OFF, name: value})
    return {**models, "fast": accelerated(host, model, "fast", recordings)}


def base_graphs(host: Host, model: Any, conds: Mapping[str, Any], recordings: str = "auto", one_by_one: bool = False
                ) -> dict[str, Graph]:
    """Base: the stock graph, then ours.

    Args:
        conds: by benchmarks.base.
        recordings: "auto" or "off", of *Accelerate*.
        one_by_one: also every part of mode fast alone.
    """
    return {BASE: Graph(stock_base(host, model, conds)),
            **{f"Base {name}": Graph(guided(host, one, conds), BASE)
               for name, one in modes(host, model, recordings, USED if one_by_one else ()).items()}}


def light_graphs(host: Host, model: Any, light: Light, recordings: str = "auto", one_by_one: bool = False
                 ) -> dict[str, Graph]:
    """Light: stock graphs that cost about the same, then ours. No stock graph says the same, so ours are compared with
    ours without *Accelerate*."""
    def cfg(one: Any, conds: Mapping[str, Any]) -> Any:
        return host.run("CFGGuider", model=one, **conds, cfg=CFG)[0]

    parts = ("reuse_deep", "negative_until") if one_by_one else ()  # it has no ControlNets, and no identity
    stock = {"without adapters": light.texts, "and T2I-Adapter": light.stock}
    return {**{f"Light, stock CFG {name}": Graph(cfg(model, conds)) for name, conds in stock.items() if conds},
            **{f"Light {name}": Graph(cfg(one, light.steered), None if name == "without Accelerate" else LIGHT)
               for name, one in modes(host, light.prompted, recordings, parts).items()}}


def few_steps(host: Host, model: Any, size: int, batch: int = 1) -> Sampling:
    """As the workflow camouflage_base_few_steps samples. Its LoRA becomes part of the weights, and takes no time."""
    return Sampling(host, model, size, 8, batch, sampler="ddim", scheduler="sgm_uniform")


def compared(name: str, graphs: Mapping[str, Graph], latents: Mapping[str, torch.Tensor | None]) -> dict[str, Any]:
    """How a graph's result compares with that of the one it is like: ``equal`` to the last bit, ``max_difference``,
    and ``relative_rms``, the difference's share of the result."""
    like = graphs[name].like
    result, other = latents[name], latents.get(like or "")
    if result is None or other is None:
        return {"like": None}
    difference = (result - other).float()
    return {"like": like, "equal": torch.equal(result, other), "max_difference": float(difference.abs().max()),
            "relative_rms": float(difference.square().mean().sqrt() / other.float().square().mean().sqrt())}
