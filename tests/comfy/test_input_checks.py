"""What no schema allows, no node takes: on every host, and called in process."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from node_ids import NODE_IDS

OUTSIDE = {"COMBO": ("nowhere to be found", 3, None), "STRING": (7, None),
           "INT": ("too small", "too large", 1.5, math.nan, "many", None),
           "FLOAT": ("too small", "too large", math.inf, -math.inf, math.nan, "much", None)}


@pytest.fixture(params=NODE_IDS)
def node(host: SimpleNamespace, request: pytest.FixtureRequest) -> Any:
    return host.nodes[request.param]


def allowed(node: Any) -> dict[str, Any]:
    """Inputs that the schema allows: every widget's default, or its first choice."""
    schema = node.GET_SCHEMA()
    values = {}
    for socket in schema.inputs:
        default = getattr(socket, "default", None)
        value = socket.options[0] if socket.io_type == "COMBO" and default is None else default
        if value is None:
            value = {"IMAGE": torch.zeros(1, 64, 64, 3), "STRING": ""}.get(socket.io_type)
        if value is not None or not socket.optional:
            values[socket.id] = [value] if schema.is_input_list else value
    return values


def outside(socket: Any) -> list[Any]:
    """Values that a widget does not allow."""
    limits = {"too small": lambda: socket.min - socket.step, "too large": lambda: socket.max + socket.step}
    values = [limits[value]() if value in limits else value for value in OUTSIDE.get(socket.io_type, ())]
    return [value for value in values if value is not None or not socket.optional]


def test_a_value_outside_its_range_is_refused_in_a_sentence(host: SimpleNamespace, node: Any) -> None:
    schema, error = node.GET_SCHEMA(), host.module("camouflage.errors").CamouflageError
    for socket in schema.inputs:
        for value in outside(socket):
            with pytest.raises(error) as refusal:
                node.execute(**{**allowed(node), socket.id: [value] if schema.is_input_list else value})
            said = str(refusal.value)
            assert said.startswith(f"{schema.display_name}: ") and said.endswith("."), said
            assert f"'{socket.id}'" in said or "model folder" in said, said
            assert str(value) in said, said


def test_what_a_schema_allows_passes(host: SimpleNamespace, node: Any) -> None:
    check, schema = host.module("nodes.common").check_inputs, node.GET_SCHEMA()
    check(schema, allowed(node))
    for socket in schema.inputs:
        if socket.io_type in ("INT", "FLOAT"):
            for limit in (socket.min, socket.max):
                check(schema, {socket.id: limit})


def test_a_large_value_is_not_spelled_out(host: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"Prepare Image: 'size' is a Tensor, but must be a whole number\.$"):
        host.run("CamouflagePrepareImage", image=torch.zeros(1, 64, 64, 3), size=torch.ones(3))


def test_every_error_of_a_node_begins_with_its_name(host: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="^Prepare Image: 'image' has NaN"):
        host.run("CamouflagePrepareImage", image=torch.full((1, 64, 64, 3), math.nan))


def test_the_hosts_copies_of_a_node_check_too(host: SimpleNamespace) -> None:
    """The host runs a locked copy of the class, which refuses every assignment."""
    from comfy_api.internal import make_locked_method_func

    node = host.nodes["CamouflagePrepareImage"]
    run = make_locked_method_func(node, "EXECUTE_NORMALIZED", node.PREPARE_CLASS_CLONE({}))
    image = torch.zeros(1, 64, 128, 3)
    assert run(image=image, size=128, fit="crop").result[1:] == (128, 64, 1)
    with pytest.raises(ValueError, match="Prepare Image: 'fit' is 'bend', but must be one of: crop, stretch."):
        run(image=image, size=128, fit="bend")
