"""Base for commercial use on a real ComfyUI over HTTP: other weights, and the whole way to a saved picture."""

from __future__ import annotations

import skimage.data

from served import change, pictures
from shipped import queueable, texts, upload


def test_the_whole_workflow_paints_with_its_own_weights(server, tmp_path):
    photo = upload(server, tmp_path, "portrait.png", skimage.data.astronaut())
    api = queueable(server, "base_commercial", photo)
    entry = server.run(api)
    shown = pictures(server, api, entry)
    assert shown["Anonymized"].std() > 1 and shown["Pose map"].shape == shown["Depth map"].shape
    assert "person 0 " in texts(api, entry)["Verdict"]
    change(api, "CamouflagePoseMap", network="OpenPose")
    other = pictures(server, api, server.run(api))
    assert (other["Pose map"] != shown["Pose map"]).any(), "the other network draws another pose"
