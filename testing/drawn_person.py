"""One drawn person: the pen, what the seed decides, and how every attribute is drawn (the table is in drawn_faces)."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

FINE = 4  # pixels are drawn so many times finer in both directions, then averaged
# A person's own frame: 0, 0 is the middle of the face, 1 is half its width, y down. All numbers below are our choice.
LEFT, TOP, RIGHT, BOTTOM = -1.85, -2.2, 1.85, 2.75  # everything that an attribute may change
RIM = np.array([(-1.1, 0.05), (1.1, 0.05), (-0.66, -0.58), (0.66, -0.58), (-0.3, 1.28), (0.3, 1.28), (0, 1.3)])
WHITE, INK = (255, 255, 255), (24, 18, 20)
SKINS = ((240, 200, 168), (228, 178, 138), (205, 150, 108), (164, 112, 76), (122, 80, 54), (92, 60, 44))
HAIR = {"Gray_Hair": (176, 178, 184), "Black_Hair": (30, 27, 34), "Brown_Hair": (104, 66, 38),
        "Blond_Hair": (232, 196, 108), "": (178, 74, 34)}
IRISES = ((110, 150, 190), (104, 150, 100), (140, 100, 60), (128, 134, 140))


def mix(a: Sequence[int], b: Sequence[int], share: float) -> Colour:
    """``a`` with ``share`` (0..1) of ``b``."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def hue(rng: random.Random, saturation: float, value: float) -> Colour:
    """A colour of random hue."""
    red, green, blue = (round(255 * x) for x in colorsys.hsv_to_rgb(rng.random(), saturation, value))
    return red, green, blue


def ring(x: float, y: float, across: float, down: float, start: float = 0.0, end: float = 360.0) -> np.ndarray:
    """Points on an ellipse with these half axes, from angle to angle (degrees; 0 right, 90 down)."""
    angle = np.radians(np.linspace(start, end, 29))
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)


def smooth(points: Any, closed: bool = True) -> np.ndarray:
    """A curve through all points (Catmull-Rom)."""
    p = np.asarray(points, dtype=float)
    p = np.concatenate([p[-1:], p, p[:2]] if closed else [p[:1], p, p[-1:]])
    a, b, c, d = (p[i:len(p) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, 7)[None, :-1, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([curve.reshape(-1, 2), p[-2:-1]])


def bow(left: Any, right: Any, middle: float) -> np.ndarray:
    """A parabola between two points whose middle lies at height ``middle``."""
    t = np.linspace(0, 1, 15)
    y = left[1] + (right[1] - left[1]) * t + 4 * t * (1 - t) * (middle - (left[1] + right[1]) / 2)
    return np.stack([left[0] + (right[0] - left[0]) * t, y], axis=1)


def both(points: Any) -> tuple[np.ndarray, np.ndarray]:
    """A shape and its mirror image."""
    p = np.asarray(points, dtype=float)
    return p, p * (-1, 1)


class Pen:
    """Draws a person's own frame into the fine picture; ``tilt`` in degrees, clockwise, about the frame's origin."""

    def __init__(self, image: Image.Image, x: float, y: float, scale: float, tilt: float = 0.0):
        self.draw, self.scale, self.origin = ImageDraw.Draw(image), scale, (x, y)
        c, s = math.cos(math.radians(tilt)) * scale, math.sin(math.radians(tilt)) * scale
        self.turn = np.array([(c, s), (-s, c)])

    def at(self, points: Any) -> np.ndarray:
        """Where points of the frame lie in the finished picture, px."""
        return np.asarray(points, dtype=float) @ self.turn + self.origin

    def fine(self, points: Any) -> list[float]:
        return np.round(self.at(points) * FINE - 0.5).ravel().tolist()

    def fill(self, colour: Colour, *shapes: Any) -> None:
        for shape in shapes:
            self.draw.polygon(self.fine(shape), fill=colour)

    def line(self, colour: Colour, width: float, *curves: Any) -> None:
        """Strokes with round ends, ``width`` in the frame's units."""
        wide = max(1, round(width * self.scale * FINE))
        for curve in curves:
            xy = self.fine(curve)
            self.draw.line(xy, fill=colour, width=wide, joint="curve")
            if wide > 3:
                for x, y in (xy[:2], xy[-2:]):
                    self.draw.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), fill=colour)


class Person:
    """Somebody: all that the seed decides. Nothing here depends on a look."""

    def __init__(self, rng: random.Random, x: float, y: float, scale: float, tilt: float):
        self.x, self.y, self.scale, self.tilt = x, y, scale, tilt
        tone = rng.uniform(0, len(SKINS) - 1.001)
        self.skin = mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
        self.eye, self.nose = (rng.uniform(0.38, 0.45), rng.uniform(-0.1, -0.03)), rng.uniform(0.34, 0.42)
        self.mouth = rng.uniform(0.27, 0.34), rng.uniform(0.74, 0.8)
        self.jaw, self.volume, self.part = rng.uniform(-0.04, 0.04), rng.uniform(0, 0.16), rng.uniform(-0.35, 0.35)
        self.iris, self.hair_shift = rng.choice(IRISES), rng.uniform(-0.12, 0.12)
        self.cloth, self.stripe = hue(rng, rng.uniform(0.3, 0.75), rng.uniform(0.4, 0.9)), hue(rng, 0.5, 0.8)
        self.pattern, self.beanie = rng.choice(("plain", "stripes", "yoke")), rng.random() < 0.4
        self.round = rng.random() < 0.5  # glasses
        self.hat, self.tie, self.shadow = hue(rng, 0.65, 0.6), hue(rng, 0.75, 0.55), hue(rng, 0.55, 0.65)
        self.lips, self.frame = rng.choice(((200, 24, 52), (168, 20, 84), (214, 52, 60))), hue(rng, 0.6, 0.28)

    def corners(self, smiling: bool) -> tuple[tuple[float, float], tuple[float, float]]:
        """The mouth's corners in the person's frame."""
        across, y = (self.mouth[0] + 0.1, self.mouth[1] - 0.09) if smiling else self.mouth
        return (-across, y), (across, y)

    def draw_body(self, image: Image.Image) -> None:
        """Shoulders down to the picture's lower edge; the head comes after."""
        pen = Pen(image, self.x, self.y, self.scale)
        end = max(3.0, (image.height / FINE - self.y) / self.scale + 0.1)

        def band(top: float, bottom: float) -> np.ndarray:
            y = np.linspace(top, bottom, 12) if top > 2.6 else np.append(np.linspace(top, min(2.7, bottom), 18), bottom)
            half = 0.5 + 1.42 * np.minimum(1, np.maximum(0, y - 1.62) / 0.95) ** 0.5
            return np.stack([np.append(half, -half[::-1]), np.append(y, y[::-1])], axis=1)

        pen.fill(mix(self.cloth, INK, 0.3), band(1.6, end) * (1.02, 1) - (0, 0.03))
        pen.fill(self.cloth, band(1.62, end))
        if self.pattern == "stripes":
            pen.fill(self.stripe, *(band(y, y + 0.16) for y in np.arange(2.0, min(end, 8), 0.4)))
        elif self.pattern == "yoke":
            pen.fill(self.stripe, band(1.62, 2.12))
        pen.line(mix(self.cloth, INK, 0.3), 0.04, *both([(1.42, 2.75), (1.38, end)]))  # arms

    def draw_head(self, image: Image.Image, look: dict[str, bool]) -> None:
        """Head, neck and what is worn on them."""
        pen, upright = Pen(image, self.x, self.y, self.scale, self.tilt), Pen(image, self.x, self.y, self.scale)
        skin = mix(self.skin, (253, 244, 242), 0.75) if look["Pale_Skin"] else self.skin
        shade = mix(skin, (64, 10, 12), 0.25)
        colour = next((HAIR[name] for name in HAIR if name and look[name]), HAIR[""])
        hair = mix(colour, WHITE if self.hair_shift > 0 else INK, abs(self.hair_shift))
        if not look["Bald"]:
            self._hair_behind(pen, look, hair)
        self._neck(upright, look, shade)
        outline = self._outline(look)
        self._skin(pen, look, skin, shade, outline)
        self._beard(pen, look, skin, hair, outline)
        self._nose(pen, look, skin, shade)
        self._mouth(pen, look, skin, shade)
        for side in (-1, 1):
            self._eye(pen, look, skin, hair, side)
        if not look["Bald"]:
            self._hair_before(pen, look, hair)
        self._brows(pen, look, hair)
        self._worn(pen, upright, look)
        if look["Blurry"]:
            self._blur(image)

    def _outline(self, look: dict[str, bool]) -> np.ndarray:
        strong = self.jaw + 0.05 * look["Male"] - 0.19 * look["Oval_Face"] + 0.22 * look["Chubby"]
        cheek = 0.95 + 0.14 * look["Chubby"] - 0.06 * look["Oval_Face"]
        half = [(0.62, -1.31), (0.93, -0.78), (1.0, -0.1), (cheek, 0.42), (0.76 + strong, 0.9), (0.37 + strong, 1.21)]
        return smooth([(0, -1.46), *half, (0, 1.3), *((-x, y) for x, y in half[::-1])])

    def _neck(self, pen: Pen, look: dict[str, bool], shade: Colour) -> None:
        half = 0.56 if look["Male"] else 0.42
        pen.fill(shade, smooth([(-half, 0.6), (half, 0.6), (half, 1.5), (half + 0.16, 1.72), (0.3, 1.96),
                                (-0.3, 1.96), (-half - 0.16, 1.72), (-half, 1.5)]))
        pen.fill(mix(shade, (70, 20, 20), 0.2), bow((-half, 1.1), (half, 1.1), 1.6))

    def _skin(self, pen: Pen, look: dict[str, bool], skin: Colour, shade: Colour, outline: np.ndarray) -> None:
        pen.fill(shade, *both(ring(1.0, 0.07, 0.14, 0.27)))
        pen.fill(skin, *both(ring(0.98, 0.06, 0.13, 0.24)))
        pen.fill(mix(skin, shade, 0.7), *both(ring(1.03, 0.07, 0.05, 0.14)))
        if look["Double_Chin"]:
            pen.fill(mix(shade, INK, 0.3), ring(0, 1.2, 0.74, 0.43))
            pen.fill(skin, ring(0, 1.19, 0.7, 0.38))
            pen.line(shade, 0.05, ring(0, 1.14, 0.55, 0.22, 25, 155))
        pen.fill(mix(skin, shade, 0.55), outline)
        pen.fill(skin, outline * (0.965, 0.985) - (0.012, 0.012))
        if look["High_Cheekbones"]:
            pen.fill(mix(skin, shade, 0.6), *both(smooth([(0.9, 0.3), (0.55, 0.6), (0.47, 0.86), (0.74, 0.74)])))
            pen.fill(mix(skin, WHITE, 0.28), *both(smooth([(0.88, 0.06), (0.66, 0.18), (0.42, 0.4), (0.72, 0.36)])))
        if look["Rosy_Cheeks"]:
            pen.fill(mix(skin, (236, 80, 96), 0.3), *both(ring(0.6, 0.4, 0.27, 0.2)))
            pen.fill(mix(skin, (236, 80, 96), 0.5), *both(ring(0.6, 0.4, 0.18, 0.13)))
        if look["Bald"]:
            pen.fill(mix(skin, WHITE, 0.45), smooth([(-0.66, -0.95), (-0.42, -1.2), (-0.08, -1.28), (-0.36, -1.08)]))
        if not look["Young"]:
            old = mix(skin, INK, 0.4)
            pen.line(old, 0.045, *(bow((-w, y), (w, y), y - 0.04) for w, y in ((0.5, -0.7), (0.42, -0.84))))
            pen.line(old, 0.045, *both(smooth([(0.2, 0.36), (0.36, 0.52), (0.44, 0.74)], closed=False)))
            for y in (-0.12, 0, 0.12):
                pen.line(old, 0.035, *both([(0.7, y * 0.5 - 0.05), (0.86, y - 0.05)]))

    def _beard(self, pen: Pen, look: dict[str, bool], skin: Colour, hair: Colour, outline: np.ndarray) -> None:
        if look["No_Beard"]:
            return
        dark = mix(hair, INK, 0.15)
        jaw = outline[outline[:, 1] > 0.3]  # from the right cheek over the chin to the left one
        if look["5_o_Clock_Shadow"]:
            pen.fill(mix(skin, mix(hair, (50, 50, 60), 0.6), 0.36), np.concatenate([
                jaw * 0.97, smooth([(-0.84, 0.32), (-0.5, 0.64), (-0.2, 0.5), (0.2, 0.5), (0.5, 0.64), (0.84, 0.32)],
                                   closed=False)]))
            for i in range(90):  # a sunflower's spiral spreads the dots evenly
                x, y = (0.72 * math.sqrt((i + 0.5) / 90) * f(2.39996 * i) for f in (math.cos, math.sin))
                if 0.6 + y > 0.9 - 0.35 * abs(x):
                    pen.fill(mix(skin, dark, 0.75), ring(x, 0.6 + y, 0.016, 0.016)[::7])
        if look["Goatee"]:
            pen.fill(dark, smooth([(-0.27, 1.02), (0, 0.95), (0.27, 1.02), (0.22, 1.3), (0, 1.52), (-0.22, 1.3)]))
        if not (look["5_o_Clock_Shadow"] or look["Goatee"]):
            inner = [(-0.8, 0.34), (-0.62, 0.7), (-0.45, 0.95), (0, 1.04), (0.45, 0.95), (0.62, 0.7), (0.8, 0.34)]
            pen.fill(dark, np.concatenate([jaw * (1.01, 1.05), smooth(inner, closed=False)]))
        if look["Sideburns"]:
            pen.fill(dark, *both(smooth([(1.0, -0.5), (0.98, 0.34), (0.72, 0.52), (0.8, -0.1), (0.86, -0.5)])))
        if look["Mustache"]:
            top = self.mouth[1] - 0.2
            pen.fill(dark, *both(smooth([(0, top - 0.02), (0.2, top), (0.45, top + 0.24), (0.2, top + 0.15),
                                         (0, top + 0.13)])))

    def _nose(self, pen: Pen, look: dict[str, bool], skin: Colour, shade: Colour) -> None:
        y, wide = self.nose, 1.9 if look["Big_Nose"] else 1.0
        size = (wide, 1.0)
        if look["Pointy_Nose"]:
            pen.fill(mix(skin, WHITE, 0.25), np.array([(0, -0.12), (-0.14, y), (0, y + 0.17)]) * size)
            pen.fill(mix(shade, INK, 0.15), np.array([(0, -0.12), (0.14, y), (0, y + 0.17)]) * size)
            return
        pen.fill(mix(skin, shade, 0.6), np.array([(0.05, -0.1), (0.1, y - 0.1), (-0.02, y)]) * size)
        pen.fill(mix(shade, INK, 0.12), ring(0, y + 0.02, 0.18 * wide, 0.105))
        pen.fill(mix(skin, WHITE, 0.2), ring(-0.01, y - 0.01, 0.12 * wide, 0.085))
        pen.fill(mix(shade, INK, 0.4), *both(ring(0.075 * wide, y + 0.07, 0.035 * wide, 0.022)))

    def _mouth(self, pen: Pen, look: dict[str, bool], skin: Colour, shade: Colour) -> None:
        left, right = self.corners(look["Smiling"])
        middle = self.mouth[1] + (0.07 if look["Smiling"] else 0.0)
        gap, thick = 0.15 * look["Mouth_Slightly_Open"], 0.15 if look["Big_Lips"] else 0.065
        above, below = bow(left, right, middle - 0.3 * gap), bow(left, right, middle + 0.7 * gap)
        lips = self.lips if look["Wearing_Lipstick"] else mix(skin, (186, 56, 66), 0.5)
        upper = bow(left, right, middle - 0.3 * gap - thick)
        upper[7, 1] += 0.3 * thick  # the cupid's bow
        pen.fill(lips, np.concatenate([upper, above[::-1]]))
        lower = bow(left, right, middle + 0.7 * gap + 1.2 * thick)
        pen.fill(mix(lips, WHITE, 0.1), np.concatenate([below, lower[::-1]]))
        if gap:
            pen.fill((92, 22, 30), np.concatenate([above, below[::-1]]))
            pen.fill((250, 248, 240), np.concatenate([above, (above * 0.45 + below * 0.55)[::-1]]) * (0.9, 1))
        else:
            pen.line(mix(lips, INK, 0.55), 0.035, above)
        if look["Smiling"]:
            pen.line(mix(shade, INK, 0.2), 0.04, *both(ring(right[0] - 0.03, right[1], 0.12, 0.13, -50, 50)))

    def _eye(self, pen: Pen, look: dict[str, bool], skin: Colour, hair: Colour, side: int) -> None:
        x, y = self.eye[0] * side, self.eye[1]
        high = 0.075 if look["Narrow_Eyes"] else 0.15
        if look["Bags_Under_Eyes"]:
            pen.fill(mix(skin, (70, 30, 80), 0.38), smooth([(x - 0.22, y + 0.1), (x, y + 0.12), (x + 0.22, y + 0.1),
                                                            (x + 0.12, y + 0.26), (x - 0.12, y + 0.26)]))
        if look["Heavy_Makeup"]:
            pen.fill(mix(skin, self.shadow, 0.75), smooth([(x - 0.25, y), (x - 0.14, y - 0.25), (x + 0.14, y - 0.25),
                                                           (x + 0.25, y)]))
        lid = smooth([(x - 0.23, y + 0.02), (x - 0.12, y - high * 0.85), (x, y - high), (x + 0.12, y - high * 0.85),
                      (x + 0.23, y + 0.02)], closed=False)
        pen.fill((250, 250, 250), np.concatenate([lid, bow(lid[-1], lid[0], y + high * 0.85)]))
        radius = 0.15 if look["Attractive"] else 0.115
        iris = mix(self.iris, (90, 220, 255), 0.45) if look["Attractive"] else self.iris
        pen.fill(mix(iris, INK, 0.45), ring(x, y, radius, min(radius, high)))
        pen.fill(iris, ring(x, y, radius * 0.82, min(radius * 0.82, high * 0.92)))
        pen.fill((6, 5, 8), ring(x, y, 0.058, 0.058))
        pen.fill(WHITE, ring(x + 0.075, y - 0.045, 0.024, 0.024))
        made = look["Heavy_Makeup"]
        pen.line(INK if made else mix(INK, skin, 0.15), 0.07 if made else 0.04, lid)
        if made:
            pen.fill(INK, [(x + 0.2 * side, y - 0.03), (x + 0.38 * side, y - 0.16), (x + 0.23 * side, y + 0.05)])
        if not look["Male"] or look["Attractive"]:
            for step in range(5 if look["Attractive"] else 2):
                at = x + side * (0.22 - 0.07 * step), y - high * (0.1 + 0.24 * step)
                pen.line(INK, 0.03, [at, np.add(at, (side * (0.08 - 0.015 * step), -0.07 - 0.01 * step))])
        if look["Attractive"] and side > 0:
            pen.fill((60, 30, 26), ring(0.5, 0.56, 0.035, 0.035))

    def _brows(self, pen: Pen, look: dict[str, bool], hair: Colour) -> None:
        x, y = self.eye[0], self.eye[1] - 0.36
        rise = [(x - 0.1, y - 0.11), (x + 0.06, y - 0.17)] if look["Arched_Eyebrows"] else [(x, y - 0.02)]
        brow = smooth([(x - 0.23, y), *rise, (x + 0.27, y + 0.05)], closed=False)
        thick = (0.075 if look["Male"] else 0.06) * (2.1 if look["Bushy_Eyebrows"] else 1)
        dark = mix(hair, INK, 0.3)
        pen.line(dark, thick, *both(brow))
        if look["Bushy_Eyebrows"]:
            for point in brow[::2]:
                pen.line(dark, 0.03, *both([point, np.add(point, (0.05, -0.14))]))

    def _side(self, look: dict[str, bool]) -> list[tuple[float, float]]:
        """The right outer edge of the hair, from the top down."""
        v = self.volume
        edge = [(0.68, -1.5 - v * 0.8), (1.08 + v * 0.5, -0.95), (1.13 + v * 0.5, -0.3)]
        if look["Male"]:
            return edge
        if look["Straight_Hair"]:
            return [*edge, (1.16, 0.5), (1.2, 1.3), (1.22, 1.85)]
        return [*edge, (1.24, 0.4), (1.3, 1.1), (1.18, 1.65)] if look["Wavy_Hair"] else \
            [*edge, (1.2, 0.3), (1.22, 0.9), (0.95, 1.3)]

    def _hair_behind(self, pen: Pen, look: dict[str, bool], hair: Colour) -> None:
        side = self._side(look)
        dark = mix(hair, INK, 0.25)
        whole = smooth([(0, -1.62 - self.volume), *side], closed=False)
        pen.fill(dark, np.concatenate([whole, whole[::-1] * (-1, 1)]))
        if look["Wavy_Hair"]:
            pen.fill(dark, *(curl for x, y in whole[::4] for curl in both(ring(x * 0.98, y * 0.98, 0.19, 0.19))))

    def _hair_before(self, pen: Pen, look: dict[str, bool], hair: Colour) -> None:
        light, dark = mix(hair, WHITE, 0.22), mix(hair, INK, 0.3)
        side, part = self._side(look), self.part
        line, middle = [(0.93, -0.28), (0.86, -0.68), (0.55, -0.92)], (part, -1.08)
        if look["Receding_Hairline"]:
            line, middle = [(0.97, -0.62), (0.86, -1.05), (0.58, -1.3), (0.25, -1.14)], (0, -1.1)
        crown = smooth([(-x, y) for x, y in side[2::-1]] + [(0, -1.62 - self.volume)] + side[:3], closed=False)
        hairline = smooth([*line, middle, *((-x, y) for x, y in line[::-1])], closed=False)
        pen.fill(hair, np.concatenate([crown, hairline]))
        if not look["Male"]:  # locks before the ears
            outer = smooth(side[2:], closed=False)
            inner = outer[::-1] * (0.3, 1) + (0.69, 0)
            pen.fill(hair, *both(np.concatenate([outer, inner])))
        edge = smooth([(0, -1.62 - self.volume), *side], closed=False)
        if look["Wavy_Hair"]:
            for k, (x, y) in enumerate(edge[2::5]):
                pen.fill(hair if k % 2 else light, *both(ring(x * 0.97, y * 0.97, 0.17, 0.17)))
                pen.line(dark, 0.04, *both(ring(x * 0.97, y * 0.97, 0.1, 0.1, 40, 270)))
        elif look["Straight_Hair"]:
            for share in (0.86, 0.91, 0.96):
                strand = edge * (share, 1)
                pen.line(dark if share < 0.9 else light, 0.035, *both(strand[6:]))
            for x in (-0.5, -0.25, 0.25, 0.5):
                pen.line(dark, 0.04, [(part + (x - part) * 0.3, -1.55), (x, -1.02)])
        else:
            pen.line(light, 0.09, ring(-0.05, -0.85, 0.8, 0.55 + self.volume / 2, 205, 275))
        if look["Bangs"]:
            tips = np.linspace(-0.88, 0.88, 9)
            lower = [(x, -0.53 - 0.1 * (i % 2) - 0.08 * x * x) for i, x in enumerate(tips)]
            pen.fill(hair, [(-0.95, -0.3), *lower, (0.95, -0.3), (0.9, -0.95), (0, -1.3), (-0.9, -0.95)])
            pen.line(dark, 0.035, *([(x, y), (x * 0.75, -1.05)] for x, y in lower[1::2]))

    def _worn(self, pen: Pen, upright: Pen, look: dict[str, bool]) -> None:
        gold = (240, 190, 60)
        if look["Eyeglasses"]:
            x, y = self.eye
            shape = ring(0, 0, 0.3, 0.27 if self.round else 0.22)
            if not self.round:
                shape = np.sign(shape) * np.abs(shape) ** 0.6 * (0.3 ** 0.4, 0.22 ** 0.4)
            pen.line(self.frame, 0.06, *both(np.add(shape, (x, y + 0.02))))
            pen.line(self.frame, 0.06, *both([(x + 0.3, y), (1.02, y - 0.05)]))
            pen.line(self.frame, 0.06, bow((0.3 - x, y), (x - 0.3, y), y - 0.05))
        if look["Wearing_Earrings"]:
            pen.fill(gold, *both(ring(1.08, 0.4, 0.07, 0.07)))
            pen.line(gold, 0.05, *both(ring(1.08, 0.6, 0.11, 0.14)))
        if look["Wearing_Necktie"]:
            dark = mix(self.tie, INK, 0.35)
            upright.fill((246, 246, 248), *both([(0, 1.86), (0.5, 1.52), (0.66, 1.76), (0.3, 2.12)]))
            upright.fill(self.tie, [(-0.1, 1.95), (0.1, 1.95), (0.2, 2.5), (0, 2.7), (-0.2, 2.5)])
            upright.line(dark, 0.07, [(-0.13, 2.22), (0.13, 2.1)], [(-0.16, 2.42), (0.17, 2.28)])
            upright.fill(dark, [(-0.16, 1.8), (0.16, 1.8), (0.1, 2.0), (-0.1, 2.0)])
        if look["Wearing_Necklace"]:
            beads = bow((-0.56, 1.6), (0.56, 1.6), 1.98)
            for x, y in beads:
                upright.fill((140, 96, 20), ring(x, y, 0.062, 0.062))
                upright.fill(gold, ring(x - 0.008, y - 0.008, 0.046, 0.046))
            upright.fill((60, 190, 200), ring(0, 2.08, 0.08, 0.1))
        if look["Wearing_Hat"]:
            dark, y = mix(self.hat, INK, 0.35), -0.84
            wide = 1.22 if self.beanie else 1.08
            crown = [(-wide, y), (-1.08, -1.45), (-0.62, -1.98), (0.62, -1.98), (1.08, -1.45), (wide, y)]
            pen.fill(self.hat, np.concatenate([smooth(crown, closed=False), bow((wide, y), (-wide, y), y - 0.08)]))
            if self.beanie:
                pen.line(dark, 0.3, bow((-1.12, y - 0.06), (1.12, y - 0.06), y - 0.18))
                pen.fill(mix(self.hat, WHITE, 0.6), ring(0, -1.98, 0.2, 0.18))
            else:
                pen.line(dark, 0.2, bow((-1.02, y - 0.24), (1.02, y - 0.24), y - 0.3))
                pen.fill(mix(self.hat, INK, 0.12), ring(0, y - 0.05, 1.5, 0.15))

    def _blur(self, image: Image.Image) -> None:
        x0, y0, x1, y1 = (round(v) for v in (
            max(0, self.x - 1.8 * self.scale), max(0, self.y - 2.15 * self.scale),
            min(image.width / FINE, self.x + 1.8 * self.scale), min(image.height / FINE, self.y + 1.75 * self.scale)))
        box = x0 * FINE, y0 * FINE, x1 * FINE, y1 * FINE
        head = image.crop(box).reduce(FINE).filter(ImageFilter.GaussianBlur(0.07 * self.scale))
        mask = Image.new("L", head.size)
        ImageDraw.Draw(mask).ellipse((self.x - x0 - 1.5 * self.scale, self.y - y0 - 1.95 * self.scale,
                                      self.x - x0 + 1.5 * self.scale, self.y - y0 + 1.6 * self.scale), fill=255)
        size = box[2] - box[0], box[3] - box[1]
        image.paste(head.resize(size, Image.Resampling.BILINEAR), box[:2], mask.resize(size))
