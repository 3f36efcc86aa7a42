"""Makes a real ComfyUI importable, and small helpers for tests that sample with it."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SIZE = 64  # px of the pictures that tests sample; latents are 8 x 8

NETS = {"depth": "control_v11f1p_sd15_depth_fp16", "normal": "control_v11p_sd15_normalbae_fp16",
        "segmentation": "control_v11p_sd15_seg_fp16", "pose": "control_v11p_sd15_openpose_fp16",
        "lineart": "control_v11p_sd15_lineart_fp16", "tile": "control_v11f1e_sd15_tile_fp16",
        "identity4": "camouflage_identity_sd15"}

FACE_FILES = {"detector": "faces/mobilenet0.25_Final.pth", "attributes": "faces/face_attribute.farl.celeba.pt",
              "landmarks": "faces/face_alignment.farl.ibug300w.main_ema_jit.pt"}
"""What reads faces, below models/camouflage."""


def host_folder() -> Path:
    """Folder of a real ComfyUI."""
    path = os.environ.get("CAMOUFLAGE_COMFYUI") or os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.exit("run the tests with `python run.py test`: it finds or gets a ComfyUI", returncode=2)
    return Path(path)


def enter_host() -> None:
    """Puts the host first on the module path (it has its own `nodes`) and keeps it on the CPU."""
    path = str(host_folder())
    if sys.path[0] != path:
        sys.path.insert(0, path)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True


def pictures(seed: int, batch: int = 1, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    """Smooth random pictures, B x H x W x 3."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1).movedim(1, -1)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest absolute difference; both must be finite."""
    assert torch.isfinite(a).all() and torch.isfinite(b).all()
    assert a.shape == b.shape
    return float((a - b).abs().max())


class Calls:
    """Counts the evaluations of a network while it is entered."""

    def __init__(self, module: torch.nn.Module):
        self.module, self.count = module, 0

    def __enter__(self) -> Calls:
        self.handle = self.module.register_forward_hook(lambda *_: setattr(self, "count", self.count + 1))
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


class Attended:
    """How many pictures each call of the first self-attention of networks has, while it is entered."""

    def __init__(self, *networks: Any):
        self.modules = [network.input_blocks[1][1].transformer_blocks[0].attn1 for network in networks]
        self.seen: list[int] = []

    def __enter__(self) -> list[int]:
        kind = type(self.modules[0])
        forward = self.forward = kind.forward

        def counted(attention: torch.nn.Module, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            if any(attention is module for module in self.modules):
                self.seen.append(len(x))
            return forward(attention, x, *args, **kwargs)

        kind.forward = counted  # not a hook, with which nothing would be shared
        return self.seen

    def __exit__(self, *_: object) -> None:
        type(self.modules[0]).forward = self.forward


def spoil(path: Path, content: bytes) -> None:
    """Replaces a (hard-linked) file."""
    path.unlink()
    path.write_bytes(content)


def only_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host sees no other folder of our weights."""
    import folder_paths

    _, extensions = folder_paths.folder_names_and_paths["camouflage"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "camouflage", ([str(folder)], extensions))


def vouch_for(folder: Path, *files: str) -> None:
    """Adds the digests of files to SHA256SUMS, as an administrator would who trusts them."""
    sums = folder / "SHA256SUMS"
    text = sums.read_text(encoding="utf-8") if sums.is_file() else ""
    sums.unlink(missing_ok=True)  # it may be a hard link into the cache
    lines = [f"{hashlib.sha256((folder / file).read_bytes()).hexdigest()}  {file}\n" for file in files]
    sums.write_text(text + "".join(lines), encoding="utf-8")
