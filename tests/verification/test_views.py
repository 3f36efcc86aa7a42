"""Views of a picture and places in it: sweeps, tiles, orientations, the way back, turned boxes, upright crops, jobs."""

from __future__ import annotations

import itertools
import math
import threading
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camouflage.verification.places import bounds, box_around, centre, scaled, upright
from camouflage.verification.views import (
    QUARTERS,
    SHARED,
    TILE,
    UPRIGHT,
    Sweep,
    View,
    beyond,
    in_parallel,
    resized,
    views,
)
from transforms import turn_matrix

# --- sweeps and tiles ---------------------------------------------------------------------------------------------


@given(st.integers(1, 30_000))
def test_tiles_cover_every_pixel_share_enough_and_are_not_too_long(length) -> None:
    strip = np.broadcast_to(np.arange(length, dtype=np.int32)[None, :, None], (1, length, 3))
    for pixels in (strip, strip.transpose(1, 0, 2)):
        tiles = [(view.left + view.top, int(view.pixels.max()) + 1) for view in views(pixels, [Sweep(length, UPRIGHT)])]
        assert all(view.pixels.min() == view.left + view.top for view in views(pixels, [Sweep(length, UPRIGHT)]))
        assert tiles[0][0] == 0 and tiles[-1][1] == length
        assert all(end - start <= TILE for start, end in tiles) and len({end - start for start, end in tiles}) == 1
        assert all(before[1] - after[0] >= SHARED for before, after in itertools.pairwise(tiles))
        assert len(tiles) == (1 if length <= TILE else math.ceil((length - SHARED) / (TILE - SHARED)))


def test_a_picture_is_looked_at_in_every_sweep_tile_and_orientation() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 2000, 3), np.uint8)
    seen = list(views(pixels, [Sweep(500), Sweep(2000, (0, 3))]))
    assert [(view.sweep, view.left, view.top, view.factor, view.quarters) for view in seen] == [
        *((500, 0, 0, 0.25, quarters) for quarters in QUARTERS),
        *((2000, left, 0, 1.0, quarters) for left in (0, 904) for quarters in (0, 3))]
    small, _ = resized(pixels, 500)
    assert all(np.array_equal(view.pixels, small) for view in seen[:4]) and small.shape == (250, 500, 3)
    assert all(np.array_equal(view.pixels, pixels[:, view.left:view.left + 1096]) for view in seen[4:])


def test_beyond_is_full_size_then_a_third_until_a_picture_is_seen_whole() -> None:
    assert [[sweep.side for sweep in beyond(longer)] for longer in (64, 1600, 1601, 4096, 4803, 12_000, 45_000)] == [
        [], [], [1601], [4096], [4803, 1601], [12_000, 4000], [45_000, 15_000, 5000, 1667]]
    assert all(sweep.quarters == QUARTERS for sweep in beyond(45_000))


# --- orientations and the way back --------------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", QUARTERS)
def test_what_is_turned_by_a_views_turn_stands_upright_in_it(quarters) -> None:
    upright_one = np.random.default_rng(1).integers(0, 256, (5, 8, 3), np.uint8)
    view = View(8, np.rot90(upright_one, quarters), 0, 0, 1.0, quarters)  # counter-clockwise
    assert np.array_equal(view.turned(), upright_one) and view.turned().flags.c_contiguous
    assert view.turn == (0, 90, 180, -90)[quarters]


BOX = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def ends(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Box of the white pixels."""
    rows, columns = np.nonzero(pixels[..., 0])
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@given(BOX, st.integers(0, 20), st.integers(0, 20), st.sampled_from(QUARTERS), st.sampled_from((0.25, 0.5, 1.0, 2.0)),
       st.integers(0, 5000), st.integers(0, 5000))
def test_a_box_comes_back_from_every_orientation_tile_and_scale(box, right, below, quarters, factor, left, top) -> None:
    pixels = np.zeros((box[3] + below, box[2] + right, 3), np.uint8)
    pixels[box[1]:box[3], box[0]:box[2]] = 255
    view = View(100, pixels, left, top, factor, quarters)
    back = view.back(ends(view.turned()))
    there = tuple((value + start) / factor for value, start in zip(box, (left, top, left, top), strict=True))
    assert centre(back) == centre(there)
    size = (box[2] - box[0]) / factor, (box[3] - box[1]) / factor
    assert (back[2] - back[0], back[3] - back[1]) == (size[::-1] if quarters % 2 else size), "as it is in the view"
    assert bounds(back, view.turn) == pytest.approx(there)


def test_something_in_a_large_picture_comes_back_from_every_view_that_shows_it() -> None:
    pixels = np.zeros((1700, 3000, 3), np.uint8)
    box = (1410, 800, 1450, 860)  # in the columns 1404 to 1595, and in the rows 754 to 945, that two tiles share
    pixels[800:860, 1410:1450] = 255
    found = [bounds(view.back(ends(view.turned())), view.turn) for view in views(pixels, [Sweep(1000), *beyond(3000)])
             if view.pixels.any()]
    assert len(found) == 4 + 4 * 4
    assert all(place == pytest.approx(box, abs=3) for place in found[:4])
    assert all(place == pytest.approx(box, abs=1e-9) for place in found[4:])


# --- places -------------------------------------------------------------------------------------------------------


@given(BOX, st.floats(-180, 180))
def test_bounds_hold_the_corners_of_a_turned_box(box, turn) -> None:
    corners = np.array([(box[x], box[y]) for x in (0, 2) for y in (1, 3)])
    turned = (corners - centre(box)) @ turn_matrix(turn).T + centre(box)
    assert bounds(box, turn) == pytest.approx((*turned.min(axis=0), *turned.max(axis=0)))
    assert bounds(box, 0.0) is box


@given(BOX)
def test_a_box_is_the_one_about_its_centre(box) -> None:
    assert box_around(*centre(box), box[2] - box[0], box[3] - box[1]) == box


def test_a_box_is_scaled_in_both_directions() -> None:
    assert scaled((1, 2, 3, 4), 10, 100) == (10, 200, 30, 400)


# --- upright crops ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [40, 41])
@pytest.mark.parametrize("quarters", QUARTERS)
def test_a_picture_that_was_turned_comes_back_equal(size, quarters) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (size, size, 3), np.uint8)
    turned = np.ascontiguousarray(np.rot90(pixels, quarters))
    assert np.array_equal(upright(turned, size / 2, size / 2, 90 * quarters, size, size), pixels)
    assert np.array_equal(upright(turned, size / 2, size / 2, 90 * quarters, size, size, mirror=True), pixels[:, ::-1])
    levels = turned[..., 0].astype(np.float32) / 255
    assert np.allclose(upright(levels, size / 2, size / 2, 90 * quarters - 360, size, size), pixels[..., 0] / 255,
                       atol=1e-4)


def test_a_part_of_a_picture_is_cut_at_its_place() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (300, 400, 3), np.uint8)
    assert np.array_equal(upright(pixels, 210, 95, 0, 50, 50), pixels[70:120, 185:235])
    assert np.array_equal(upright(pixels, 210, 95, 90, 50, 50), np.rot90(pixels[70:120, 185:235], -1))
    assert np.array_equal(upright(pixels, 210, 95, -90, 50, 50), np.rot90(pixels[70:120, 185:235]))
    twice = upright(pixels, 210, 95, 180, 50, 100)
    enlarged = cv2.resize(pixels[70:120, 185:235][::-1, ::-1], (100, 100)).astype(int)
    assert np.abs(enlarged - twice)[4:-4, 4:-4].max() <= 8, "but for the rounding of places"


def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture without any symmetry, levels 0..255."""
    return 128 + 60 * np.sin(x / 11 + y / 31) + 60 * np.cos(y / 17 - x / 90)


@pytest.mark.parametrize("turn", [-170, -90, -37, 0, 20, 45, 100, 180])
@pytest.mark.parametrize("factor", [0.2, 0.6, 1.0, 2.0])
def test_a_turned_head_is_upright_at_every_angle_and_scale(turn, factor) -> None:
    y, x = np.mgrid[:400, :500] + 0.5
    place = np.array([230.0, 190.0])
    # What is upright at (dx, dy) about the place is at turn_matrix(turn) @ (dx, dy) in the picture.
    pixels = waves(*((np.stack([x, y], axis=-1) - place) @ turn_matrix(turn)).transpose(2, 0, 1))
    size = round(120 * factor)
    dy, dx = (np.mgrid[:size, :size] + 0.5 - size / 2) / factor
    seen = upright(np.rint(pixels).astype(np.uint8), *place, turn, size / factor, size)
    # Shrinking means over several pixels of a wave, which takes a little of its height.
    assert np.abs(seen - waves(dx, dy)).max() <= (4 if factor < 0.5 else 2)
    mirrored = upright(np.rint(pixels).astype(np.uint8), *place, turn, size / factor, size, mirror=True)
    assert np.abs(mirrored[:, ::-1].astype(int) - seen).max() <= 2


def test_the_border_goes_on_outside_of_the_picture() -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (60, 80, 3), np.uint8)
    around = np.pad(pixels, ((100, 100), (100, 100), (0, 0)), mode="edge")
    for x, y in ((0, 0), (-10, 30), (79, 60), (40, 75), (100, -30)):
        assert np.array_equal(upright(pixels, x, y, 0, 40, 40), around[y + 80:y + 120, x + 80:x + 120])
    assert (upright(pixels, -5000, -5000, 30, 40, 40) == pixels[0, 0]).all()
    assert (upright(pixels, 5000, 5000, 30, 40, 40) == pixels[-1, -1]).all()


@pytest.mark.parametrize("size", [8, 32, 64])
def test_shrinking_is_the_mean_over_areas(size) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (512, 512, 3), np.uint8)
    means = pixels.reshape(size, 512 // size, size, 512 // size, 3).mean(axis=(1, 3))
    assert np.abs(upright(pixels, 256, 256, 0, 512, size) - means).max() <= 2
    turned = upright(np.ascontiguousarray(np.rot90(pixels)), 256, 256, 90, 512, size)
    assert np.abs(turned - means).max() <= 2


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_results_come_in_the_jobs_order() -> None:
    def job(i: int) -> int:
        time.sleep(0.02 * (i % 3))
        return i

    assert in_parallel([lambda i=i: job(i) for i in range(12)]) == list(range(12))
    assert in_parallel([]) == []
    here = threading.get_ident()
    assert in_parallel([threading.get_ident]) == [here], "a single one needs no other thread"


def test_jobs_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)
    assert sorted(in_parallel([both.wait, both.wait])) == [0, 1]


class Jobs:
    """Jobs of a twentieth of a second; the third fails where that is wanted."""

    def __init__(self, fails: bool = False):
        self.begun, self.fails = [], fails

    def job(self, i: int) -> int:
        self.begun.append(i)
        time.sleep(0.05)
        if self.fails and i == 2:
            raise KeyError("the third")
        return i

    def all(self) -> list:
        return [lambda i=i: self.job(i) for i in range(100)]  # 2.5 s on two cores

    def nothing_begins_any_more(self) -> bool:
        count = len(self.begun)
        time.sleep(0.3)
        return len(self.begun) == count


def test_what_a_job_raises_is_raised_and_nothing_begins_afterwards() -> None:
    jobs = Jobs(fails=True)
    with pytest.raises(KeyError, match="the third"):
        in_parallel(jobs.all())
    assert len(jobs.begun) < 50 and jobs.nothing_begins_any_more()


def test_pause_is_asked_all_the_time_and_may_stop_everything_within_a_second() -> None:
    jobs, asked = Jobs(), []

    def pause() -> None:
        asked.append(threading.get_ident())
        if len(asked) == 4:
            raise InterruptedError

    before = time.monotonic()
    with pytest.raises(InterruptedError):
        in_parallel(jobs.all(), pause)
    assert time.monotonic() - before < 1 and set(asked) == {threading.get_ident()}
    assert 0 < len(jobs.begun) < 50 and jobs.nothing_begins_any_more()
    with pytest.raises(InterruptedError):  # before the only job, too
        asked[3:] = []
        in_parallel([lambda: pytest.fail("it began")], pause)
