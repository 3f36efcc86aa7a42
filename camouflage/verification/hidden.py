"""What was destroyed in a picture: whose heads, where and how, and what of it can be proved by the pixels alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..method.faces import Box, clip_box
from .fills import GREY_FILL, Fill
from .places import Place, bounds
from .redaction import NEAR, Covering, Region, changed, filled, inside

_OURS = 0.8  # share of a found face that must be the fill, so that it is no face


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """Heads and areas that were replaced.

    Attributes:
        persons: of the original, by number: how they were hidden, see :meth:`.fills.Fill.named`.
        places: their regions, by number; without them nothing is proved by pixels.
        new: regions of faces that stand at no place of the original; always solid.
        area: H x W, bool: what was filled besides.
        encoded: whether the pixels went through a lossy file since they were verified: then only faces of which a
            detector is confident, and again in a crop of their own, count as new, for an encoder makes no faces, but
            moves scores a little.
        others: rectangles that were replaced besides, whatever they showed.
        fill: of all that is solid.
    """

    persons: Mapping[int, str] = field(default_factory=dict)
    places: Mapping[int, tuple[Region, ...]] = field(default_factory=dict)
    new: tuple[tuple[Region, ...], ...] = ()
    area: np.ndarray | None = None
    encoded: bool = False
    others: tuple[Region, ...] = ()
    fill: Fill = GREY_FILL

    @classmethod
    def of(cls, given: Mapping[int, str] | Hidden | None) -> Hidden:
        """From persons by number and how they were hidden, where nothing else is known."""
        return given if isinstance(given, Hidden) else cls(dict(given or {}))

    @property
    def begun(self) -> bool:
        """Whether anybody was hidden."""
        return bool(self.persons or self.new) or self.area is not None

    @property
    def regions(self) -> list[Region]:
        """All regions, those of persons first."""
        return [*(region for _, regions in sorted(self.places.items()) for region in regions),
                *(region for regions in self.new for region in regions), *self.others]

    @property
    def covering(self) -> Covering:
        """What is solid."""
        return Covering(self.fill, [region for region in self.regions if region.mode == "solid"], self.area,
                        self.encoded)

    def with_person(self, number: int, mode: str, regions: Sequence[Region]) -> Hidden:
        """One person more, or hidden once more: what was hidden stays so, in the mode and size of now."""
        now = [replace(region, mode=mode, grow=regions[0].grow) for region in self.places.get(number, ())]
        together = tuple(dict.fromkeys([*now, *regions]))
        return replace(self, persons={**self.persons, number: self.fill.named(mode)},
                       places={**self.places, number: together})

    def with_new(self, regions: Sequence[Region]) -> Hidden:
        """One face more that stands at no place of the original."""
        return replace(self, new=(*self.new, tuple(regions)))

    def with_area(self, area: np.ndarray) -> Hidden:
        """More of the area."""
        return replace(self, area=area if self.area is None else self.area | area)

    def proves(self, pixels: np.ndarray, number: int, place: Place) -> bool:
        """Whether person ``number`` is hidden for certain: their face is the solid fill and nothing else."""
        return self.needs_proof(number) and filled(pixels, *place, self.encoded, self.covering)

    def needs_proof(self, number: int) -> bool:
        """Whether person ``number`` is said to be hidden by the solid fill at places that are known."""
        return self.persons.get(number) == self.fill.named("solid") and bool(self.places.get(number))

    def holds(self, number: int, x: float, y: float) -> bool:
        """Whether a point (px) lies where person ``number`` was hidden."""
        return any(inside(region, x, y) for region in self.places.get(number, ()))

    def is_fill(self, pixels: np.ndarray, box_ltrb: Box, turn: float) -> bool:
        """Whether what was found at a place is, for the most part, our own solid fill."""
        covering = self.covering
        box = clip_box(bounds(box_ltrb, turn), *pixels.shape[:2])
        if box is None or not (covering.regions or self.area is not None):
            return False
        left, top, right, bottom = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
        same = covering.off(pixels, slice(top, bottom), slice(left, right)) <= NEAR
        if same.mean() < _OURS:
            return False
        moved = [replace(region, box_ltrb=(region.box_ltrb[0] - left, region.box_ltrb[1] - top,
                                           region.box_ltrb[2] - left, region.box_ltrb[3] - top))
                 for region in covering.regions]
        ours = changed(same.shape, moved, None if self.area is None else self.area[top:bottom, left:right])
        return bool((same & ours).mean() >= _OURS)

    def covers(self, shape: Sequence[int]) -> np.ndarray:
        """What is replaced in a picture of this height and width: H x W, bool."""
        return changed(tuple(shape), self.regions, self.area)
