"""The 41-channel attribute map that the Light adapter sees (paper section 3.2).

From the paper: 40 attributes and the keypoints as 41 channels of a matrix of the latent's size, "at each position
corresponding to a face". There are two encodings of them, and an adapter understands the one it was trained with. What
both have in common (our choice unless the authors' code is named):

* **Cells.** The whole picture lies on the whole latent.
* **Overlaps.** A cell that lies in several regions belongs to the face in front, alone: faces are painted over each
  other from far to near, the smaller region in front of the larger (in pixels; a child before the adult behind it; the
  authors' code paints from large to small, too), equal ones by ``box_ltrb`` and then by what else they hold, so that
  the order of the list does not matter.

``camouflage-signed`` 1, our choice:

* **Values.** Channels 0-39 hold 2p - 1 in the order of ``ATTRIBUTES``, so that -1 says "surely not", 1 "surely", and 0
  "nothing known": no face here, or the attribute is forgotten (p = 0.5 says as little). Channel 40 holds the keypoints.
* **Regions.** The centre of cell (row i, column j) is the picture's point ((j + 0.5) * width / w, (i + 0.5) * height /
  h). A cell belongs to a region if its centre does; left and top edges count, right and bottom ones do not. "box": the
  box. "grown": the box, scaled around its centre. "landmarks": the convex hull of the 68 landmarks (chin to eyebrows,
  without the forehead), or the box of a face that has none. A region without any cell's centre gets the one cell that
  holds its own centre (a hull's: that of its bounding box).
* **Keypoints.** Around each of a face's five keypoints a cone: 1 at the point itself, falling linearly to 0 at
  ``keypoint_radius`` cells; the highest of the five counts, and only in the face's own cells. So that no keypoint
  falls between the cells, the radius is at least one cell.

``camouflage-probabilities`` 1, the authors' Light code:

* **Values.** Channels 0-39 hold p, 0..1, and 0 where no face is. A forgotten attribute is 0.5 (our choice: there, 0
  says "surely not", and the authors forget nothing).
* **Regions.** The box of the detector, its four sides rounded down to whole cells. A box of less than a cell gets the
  cell that holds its centre (our choice, so that nobody is lost).
* **Keypoints.** 1 in the cell that holds a keypoint, whoever the cell belongs to, and 0 elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import torch

from ..errors import CamouflageError
from ..validation import number, show
from .faces import ATTRIBUTES, Box, Faces, Picture, Point

CHANNELS = len(ATTRIBUTES) + 1
REGIONS = ("box", "grown", "landmarks")
MAX_LATENT = 2048  # cells a side
MAX_GROW = 4.0
MAX_RADIUS = 64.0
_FLOORED = "box, rounded down to cells"


@dataclass(frozen=True)
class Encoding:
    """How the map's numbers are meant; an adapter only understands the encoding that it was trained with."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"

    @property
    def metadata(self) -> dict[str, str]:
        """What a file says of it."""
        return {"encoding": self.name, "encoding_version": str(self.version)}


SIGNED, PROBABILITIES = Encoding("camouflage-signed", 1), Encoding("camouflage-probabilities", 1)
ENCODINGS = {encoding.name: encoding for encoding in (SIGNED, PROBABILITIES)}


@dataclass(frozen=True, eq=False)
class AttributeMap:
    """Maps of a batch: ``values``, B x 41 x h x w, and their encoding."""

    values: torch.Tensor
    encoding: Encoding = SIGNED


def attribute_map(faces: Faces, latent_height: int, latent_width: int, region: str = "box", grow: float = 1.25,
                  keypoint_radius: float = 1.5, device: torch.device | str = "cpu",
                  dtype: torch.dtype = torch.float32, encoding: Encoding = SIGNED) -> torch.Tensor:
    """Draws the map of every picture.

    Args:
        faces: B pictures; their sizes may differ, each lies on the whole latent.
        latent_height: h, cells, 1..2048.
        latent_width: w, cells, 1..2048.
        region: "box", "grown" or "landmarks"; ``PROBABILITIES`` has the box alone.
        grow: 1..4, the factor on the box's sides; for "grown" alone.
        keypoint_radius: 1..64 cells; for ``SIGNED`` alone.
        device: of the result.
        dtype: of the result, floating.
        encoding: ``SIGNED`` or ``PROBABILITIES``.

    Returns:
        B x 41 x h x w, in -1..1 (channels 0-39 of ``SIGNED``) and 0..1.

    Raises:
        CamouflageError: an argument outside its range, or ``faces`` of another type.
    """
    if not isinstance(faces, Faces):
        raise CamouflageError(f"The attribute map is drawn from faces, but got {show(faces)}.")
    radius = number(keypoint_radius, 1.0, MAX_RADIUS, "keypoint_radius")
    if encoding == PROBABILITIES:
        if region != "box":
            raise CamouflageError(f"region is {show(region)}, but in the encoding {encoding} a face's region is its "
                                  "box. Choose box, or an adapter of another encoding.")
        region = _FLOORED
    maps = [_draw(picture, owners(picture, latent_height, latent_width, region, grow), encoding, radius, device,
                  dtype) for picture in faces.pictures]
    return torch.stack(maps)


def owners(picture: Picture, latent_height: int, latent_width: int, region: str = "box",
           grow: float = 1.25) -> np.ndarray:
    """Whose each cell is: h x w, int64, the face's position in ``picture.faces``, or -1 where there is no face.

    Arguments and errors as in :func:`attribute_map`.
    """
    for name, side in (("latent_height", latent_height), ("latent_width", latent_width)):
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MAX_LATENT:
            raise CamouflageError(f"{name} must be whole cells from 1 to {MAX_LATENT}, but got {show(side)}.")
    if region not in (*REGIONS, _FLOORED):
        raise CamouflageError(f"region must be one of {', '.join(REGIONS)}, but got {show(region)}.")
    grow = number(grow, 1.0, MAX_GROW, "grow") if region == "grown" else 1.0
    if not picture.faces:
        return np.full((latent_height, latent_width), -1)
    xs = (np.arange(latent_width) + 0.5) * picture.width / latent_width
    ys = (np.arange(latent_height) + 0.5) * picture.height / latent_height
    hulls = {i: _hull(face.landmarks) for i, face in enumerate(picture.faces)
             if face.landmarks is not None} if region == "landmarks" else {}
    boxes = np.array([_bounds(hulls[i]) if i in hulls else face.box_ltrb for i, face in enumerate(picture.faces)])
    left, top, right, bottom = boxes.T
    areas = ((right - left) * (bottom - top)).tolist()  # growing does not change their order
    areas = [_area(hulls[i]) if i in hulls else area for i, area in enumerate(areas)]
    centre_x, centre_y, half_w, half_h = (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
    if grow > 1.0:
        left, right = centre_x - half_w * grow, centre_x + half_w * grow
        top, bottom = centre_y - half_h * grow, centre_y + half_h * grow
    if region == _FLOORED:
        rows, columns = (np.floor(np.stack(sides, 1) * cells / pixels).astype(int).tolist() for sides, cells, pixels in
                         (((top, bottom), latent_height, picture.height), ((left, right), latent_width, picture.width)))
    else:
        rows, columns = np.searchsorted(ys, (top, bottom)).T.tolist(), np.searchsorted(xs, (left, right)).T.tolist()
    owner = np.full((latent_height, latent_width), -1)
    for i in sorted(range(len(areas)), key=lambda i: (areas[i], picture.faces[i].key()))[::-1]:
        row, column = slice(*rows[i]), slice(*columns[i])
        own = owner[row, column]
        inside = _inside(hulls[i], xs[column], ys[row]) if i in hulls else slice(None)
        if own[inside].size:
            own[inside] = i
        else:
            owner[min(max(math.floor(centre_y[i] * latent_height / picture.height), 0), latent_height - 1),
                  min(max(math.floor(centre_x[i] * latent_width / picture.width), 0), latent_width - 1)] = i
    return owner


def as_picture(maps: AttributeMap, scale: int = 8) -> torch.Tensor:
    """A map for the eye: persons in colours that follow their attributes, keypoints white, nothing known black.

    Red, green and blue are the means of the first, second and third part of the 40 attributes, so that persons with
    different attributes differ (our choice; it cannot be read back).

    Args:
        scale: pixels a cell.

    Returns:
        B x (h * scale) x (w * scale) x 3, 0..1.
    """
    attributes, keypoints = maps.values[:, :-1].float(), maps.values[:, -1:].float().clamp(0.0, 1.0)
    probabilities = attributes if maps.encoding == PROBABILITIES else 0.5 + 0.5 * attributes
    parts = torch.stack([part.mean(dim=1) for part in probabilities.tensor_split(3, dim=1)], dim=1)
    colours = parts * (attributes != 0).any(dim=1, keepdim=True)
    shown = torch.maximum(colours, keypoints).clamp(0.0, 1.0)
    return shown.repeat_interleave(scale, 2).repeat_interleave(scale, 3).movedim(1, -1)


def _hull(points: tuple[Point, ...]) -> list[Point]:
    """Corners of the convex hull (Andrew's monotone chain); two or one where the points lie on a line."""
    ordered = sorted(set(points))
    corners: list[Point] = []
    for way in (ordered, ordered[::-1]):
        chain: list[Point] = []
        for x, y in way:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        corners += chain[:-1]
    return corners or ordered


def _area(hull: list[Point]) -> float:
    return abs(sum(ax * by - bx * ay for (ax, ay), (bx, by) in zip(hull, hull[1:] + hull[:1], strict=True))) / 2


def _bounds(hull: list[Point]) -> Box:
    (left, right), (top, bottom) = ((min(values), max(values)) for values in zip(*hull, strict=True))
    return left, top, right, bottom


def _inside(hull: list[Point], xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Which points (rows ys, columns xs) a convex polygon holds: each row's line crosses two of its edges, or none."""
    x0, y0, x1, y1 = np.array([(*min(a, b, key=itemgetter(1)), *max(a, b, key=itemgetter(1)))
                               for a, b in zip(hull, hull[1:] + hull[:1], strict=True)]).T[..., None]
    crossed = (y0 <= ys) & (ys < y1)
    x = x0 + np.where(crossed, ys - y0, 0.0) / np.where(y1 > y0, y1 - y0, 1.0) * (x1 - x0)
    first, last = np.where(crossed, x, np.inf).min(axis=0), np.where(crossed, x, -np.inf).max(axis=0)
    return (first[:, None] <= xs) & (xs < last[:, None])


def _draw(picture: Picture, owner: np.ndarray, encoding: Encoding, radius: float, device: torch.device | str,
          dtype: torch.dtype) -> torch.Tensor:
    """One picture's map: 41 x h x w."""
    h, w = owner.shape
    if not picture.faces:
        return torch.zeros(CHANNELS, h, w, device=device, dtype=dtype)
    known = np.array([[0.5 if p is None else p for p in face.attributes] for face in picture.faces]).T
    table = np.zeros((CHANNELS, len(picture.faces) + 1))  # the last column is what -1 picks: nobody
    table[:-1, :-1] = known if encoding == PROBABILITIES else known * 2 - 1
    who = torch.from_numpy(owner % table.shape[1]).flatten()
    values = torch.from_numpy(table).to(device=device, dtype=dtype)
    drawn = values.index_select(1, who.to(values.device)).view(CHANNELS, h, w)
    points = np.array([face.keypoints for face in picture.faces]) * (w / picture.width, h / picture.height)
    keypoints = _marks(points, h, w) if encoding == PROBABILITIES else _cones(points, owner, radius)
    drawn[-1] = torch.from_numpy(keypoints).to(drawn)
    return drawn


def _marks(points: np.ndarray, h: int, w: int) -> np.ndarray:
    """1 in the cells that hold points (faces x 5 x 2, in cells)."""
    columns, rows = np.moveaxis(np.floor(points).astype(int), -1, 0)
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    marks = np.zeros((h, w))
    marks[rows[inside], columns[inside]] = 1.0
    return marks


def _cones(points: np.ndarray, owner: np.ndarray, radius: float) -> np.ndarray:
    """Cones around the points (faces x 5 x 2, in cells) of each cell's own face."""
    rows, columns = np.nonzero(owner >= 0)
    cells = np.stack((columns + 0.5, rows + 0.5), axis=1)
    dx, dy = np.moveaxis(points[owner[rows, columns]] - cells[:, None], -1, 0)
    cones = np.zeros(owner.shape)
    cones[rows, columns] = np.maximum(1.0 - np.sqrt(dx * dx + dy * dy) / radius, 0.0).max(axis=1)
    return cones
