"""ICC profiles (version 2) written by hand, whose colours can be computed on paper."""

from __future__ import annotations

import struct

import numpy as np

PRIMARIES = {"r": (0.4360, 0.2225, 0.0139), "g": (0.3851, 0.7169, 0.0971), "b": (0.1431, 0.0606, 0.7141)}
"""Of sRGB, adapted to D50."""
_LINEAR = b"curv" + bytes(8)  # a curve without entries: light is proportional to the value


def rgb(order: str = "rgb") -> bytes:
    """Linear light; "grb" says that the first channel is green light, and the second red."""
    tags = {f"{channel}XYZ": b"XYZ " + bytes(4) + _fixed(*PRIMARIES[light])
            for channel, light in zip("rgb", order, strict=True)}
    return _profile(b"mntrRGB XYZ ", {**tags, **{f"{channel}TRC": _LINEAR for channel in "rgb"}})


def grey() -> bytes:
    """Linear light."""
    return _profile(b"mntrGRAYXYZ ", {"kTRC": _LINEAR})


def inks() -> bytes:
    """CMYK: no ink is white, with black ink it is black, and any other full ink is L* = 50.2, which sRGB calls 119.

    That is its perceptual table. In the colorimetric one any other full ink is white.
    """
    ramp = bytes(range(256))
    white, middle, black = (bytes((light, 128, 128)) for light in (255, 128, 0))
    head = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4
    tables = {f"A2B{intent}": head + white + black + (other + black) * 7 + ramp * 3
              for intent, other in enumerate((middle, white))}
    return _profile(b"prtrCMYKLab ", tables)


def in_srgb(linear: np.ndarray) -> np.ndarray:
    """What sRGB calls linear light: 0..255 to 0..255, float."""
    light = np.asarray(linear) / 255
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _profile(kind: bytes, tags: dict[str, bytes]) -> bytes:
    tags = {"wtpt": b"XYZ " + bytes(4) + _fixed(0.9642, 1.0, 0.8249), **tags}
    place = 132 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name.encode(), place + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = (struct.pack(">I4xI", place + len(data), 0x02400000) + kind + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
            + b"acsp" + bytes(28) + _fixed(0.9642, 1.0, 0.8249) + bytes(48))
    assert len(head) == 128
    return head + table + data
