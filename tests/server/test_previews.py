"""What a browser sees while a shipped workflow samples; the served host is started with latent previews."""

from __future__ import annotations

import json
import struct
import time
import uuid

import pytest
import skimage.data
import websocket

from sampled import sampled
from served import change
from shipped import queueable, stock_sampling, upload

PREVIEWS = {1, 4}  # the host's binary events with a picture: plain, and with metadata
TEXT = 3  # the binary event of a line on a node


@pytest.fixture(scope="module")
def base(server, tmp_path_factory) -> dict:
    photo = upload(server, tmp_path_factory.mktemp("photo"), "portrait.png", skimage.data.astronaut()[:, 96:352])
    return queueable(server, "base", photo)


def watched(server, prompt: dict, metadata: bool) -> tuple[set[int], set[str]]:
    """Runs a workflow as a browser does: kinds of the binary events, and the classes of nodes that counted steps."""
    client = uuid.uuid4().hex
    stream = websocket.create_connection(f"ws://{server.address}/ws?clientId={client}", timeout=5,
                                         http_no_proxy=["127.0.0.1"])
    binary, counted = set(), set()
    try:
        stream.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": metadata}}))
        prompt_id, deadline = server.queue(prompt, client), time.monotonic() + 300
        while True:
            assert time.monotonic() < deadline, "the workflow did not end"
            try:
                message = stream.recv()
            except websocket.WebSocketTimeoutException:
                server.check_alive()
                continue
            if isinstance(message, bytes):
                binary.add(struct.unpack(">I", message[:4])[0])
                continue
            event = json.loads(message)
            data = event.get("data") or {}
            if data.get("prompt_id") != prompt_id:
                continue
            if event["type"] == "progress" and data["value"] >= 1:
                counted.add(prompt[data["node"]]["class_type"])
            if event["type"] == "executing" and data["node"] is None:
                break
    finally:
        stream.close()
    assert server.history(prompt_id)["status"]["status_str"] == "success"
    return binary, counted


@pytest.mark.parametrize(("metadata", "kind"), sampled([(False, 1), (True, 4)], 1))
def test_the_shipped_workflow_sends_no_preview_and_the_stock_sampler_does(server, base, metadata, kind):
    change(base, "RandomNoise", noise_seed=kind)  # nothing comes from the cache
    binary, counted = watched(server, base, metadata)
    assert "CamouflageSafeSampler" in counted, "it sampled and counted its steps"
    assert TEXT in binary, "the verdict on the node"
    assert not binary & PREVIEWS
    binary, counted = watched(server, stock_sampling(base), metadata)
    assert "SamplerCustomAdvanced" in counted
    assert binary & PREVIEWS == {kind}
