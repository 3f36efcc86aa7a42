"""Redaction: what is left inside of a head, what is touched outside of it, and boxes of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from camouflage.errors import CamouflageError
from camouflage.verification import redaction
from camouflage.verification.redaction import CELLS, MODES, Region, changed, filled, head, redact

SIZE = (120, 160)
EDGE = 1.12  # outer end of the soft edge, in radii
SIDE = st.floats(3, 150)
BOXES = st.builds(lambda x, y, width, height: (x - width / 2, y - height / 2, x + width / 2, y + height / 2),
                  st.floats(-20, 180), st.floats(-20, 140), SIDE, SIDE)
NOISE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def reach(box, grow=1.0, shape=SIZE) -> np.ndarray:
    """Distance of every pixel from the centre of the head, in its radii."""
    x, y, radius_x, radius_y = head(box, grow)
    rows, columns = np.mgrid[:shape[0], :shape[1]] + 0.5
    return np.cbrt(np.abs((columns - x) / radius_x) ** 3 + np.abs((rows - y) / radius_y) ** 3)


def cell_numbers(box, shape=SIZE) -> np.ndarray:
    """Number of the mosaic's cell of every pixel: squares, the outer end of the edge is at most CELLS wide."""
    x, y, radius_x, radius_y = head(box)
    side = max(2 * EDGE * max(radius_x, radius_y) / CELLS, 4)
    rows, columns = np.mgrid[:shape[0], :shape[1]] + 0.5
    column, row = (columns - (x - EDGE * radius_x)) / side, (rows - (y - EDGE * radius_y)) / side
    for place in (column, row):
        assume(np.abs(place - np.rint(place)).min() > 1e-9)  # a pixel on a border may go either way
    return (np.floor(row).astype(int) + 5000) * 10000 + np.floor(column).astype(int) + 5000


def same_means(pixels: np.ndarray, box, seed: int) -> np.ndarray:
    """Another picture with the same cell means: within every cell, and outside of it all, pixels trade places."""
    chance = np.random.default_rng(seed)
    cells, distance = cell_numbers(box, pixels.shape[:2]).ravel(), reach(box, shape=pixels.shape[:2]).ravel()
    result = pixels.reshape(-1, 3).copy()
    x, y, radius_x, radius_y = head(box)
    rows, columns = (axis.ravel() for axis in np.mgrid[:pixels.shape[0], :pixels.shape[1]])
    window = ((columns >= np.floor(x - EDGE * radius_x)) & (columns < np.ceil(x + EDGE * radius_x))
              & (rows >= np.floor(y - EDGE * radius_y)) & (rows < np.ceil(y + EDGE * radius_y)))
    for cell in np.unique(cells[window & (distance < EDGE)]):
        members = np.flatnonzero(window & (cells == cell))
        result[members] = result[chance.permutation(members)]
    return result.reshape(pixels.shape)


@pytest.mark.parametrize("mode", ["mosaic", "blur"])
@settings(max_examples=40)
@given(box=BOXES, seed=st.integers(0, 2**32 - 1))
def test_inside_only_the_means_of_at_most_8_x_8_cells_are_left(mode, box, seed) -> None:
    inside = reach(box) <= 1
    cells = cell_numbers(box)[reach(box) < EDGE]
    assert len(np.unique(cells // 10000)) <= CELLS
    assert len(np.unique(cells % 10000)) <= CELLS
    a = redact(NOISE, [Region(box, mode)])
    b = redact(same_means(NOISE, box, seed), [Region(box, mode)])
    assert np.array_equal(a[inside], b[inside])


@settings(max_examples=40)
@given(box=BOXES)
def test_a_mosaic_shows_the_means(box) -> None:
    inside, cells = reach(box) <= 1, cell_numbers(box)
    result = redact(NOISE, [Region(box, "mosaic")])
    for cell in np.unique(cells[inside]):
        shown = result[inside & (cells == cell)]
        assert (shown == shown[0]).all()
        if (reach(box)[cells == cell] < 1).all():  # a cell in the middle: all its pixels are in the window
            assert np.abs(shown[0] - NOISE[cells == cell].mean(axis=0)).max() <= 0.51


@settings(max_examples=40)
@given(box=BOXES, grow=st.floats(1, 2))
def test_solid_leaves_nothing(box, grow) -> None:
    inside = reach(box, grow) <= 1
    assert (redact(NOISE, [Region(box, "solid", grow)])[inside] == 128).all()


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40)
@given(box=BOXES, grow=st.floats(1, 2))
def test_outside_everything_stays_and_the_input_too(mode, box, grow) -> None:
    pixels = NOISE.copy()
    result = redact(pixels, [Region(box, mode, grow)])
    outside = reach(box, grow) >= EDGE
    assert result.dtype == np.uint8 and result.shape == pixels.shape
    assert np.array_equal(result[outside], NOISE[outside])
    assert np.array_equal(pixels, NOISE)


def test_the_edge_is_soft() -> None:
    box = (50, 30, 110, 100)
    result = redact(np.zeros((*SIZE, 3), np.uint8), [Region(box)])[..., 0]
    distance = reach(box)
    edge = (distance > 1) & (distance < EDGE)
    assert np.abs(result[edge] - 128 * (EDGE - distance[edge]) / 0.12).max() <= 0.51


def test_inside_is_exact_whatever_was_there() -> None:
    """One cell of 400 px, of mean 101.5 less a hair: no pixel of it may decide how the mean is rounded."""
    cell = 400
    side = CELLS / 2 * cell / EDGE / 0.85  # of a square box whose head, edge included, is CELLS cells wide
    top = cell * -3 + EDGE * 0.775 * side - 0.425 * side
    box = (cell - side / 2, top, cell + side / 2, top + side)  # the picture is its cell (2, 3)
    pixels = np.tile(np.uint8([75, 76, 0, 255]), cell * cell // 4).reshape(cell, cell, 1).repeat(3, axis=-1)
    pixels[0, 0] -= 1
    assert (redact(pixels, [Region(box, "mosaic")]) == 101).all()


@pytest.mark.parametrize("box", [(70.2, 50.1, 70.9, 51.0), (70, 50, 72, 52), (-500, -500, 700, 700),
                                 (0, 0, 160, 120), (60, 0, 61, 120), (0, 60, 160, 61), (150, 100, 400, 300),
                                 (-60, 20, -20, 60), (-1000, -1000, -900, -900), (500, 20, 560, 90)])
@pytest.mark.parametrize("mode", MODES)
def test_boxes_of_every_kind(mode, box) -> None:
    inside, outside = reach(box) <= 1, reach(box) >= EDGE
    result = redact(NOISE, [Region(box, mode)])
    assert np.array_equal(result[outside], NOISE[outside])
    if inside.sum() > 100:
        assert not np.array_equal(result[inside], NOISE[inside])
        assert result[inside].std() < 0.5 * NOISE[inside].std()


@pytest.mark.parametrize("width", [20, 60, 100])
def test_the_head_is_larger_than_the_face_whatever_its_aspect(width) -> None:
    """Also of a face that lies on its side: all corners of the box are inside, and above it there is room for hair."""
    box = (80 - width / 2, 30, 80 + width / 2, 90)
    x, y, radius_x, radius_y = head(box)
    for corner in ((box[0], box[1]), (box[2], box[3])):
        assert abs((corner[0] - x) / radius_x) ** 3 + abs((corner[1] - y) / radius_y) ** 3 < 1
    assert y - radius_y < 30 - 0.3 * 60
    assert head(box, 1.5) == (x, y, pytest.approx(1.5 * radius_x), pytest.approx(1.5 * radius_y))


def test_every_fill_is_made_from_the_original() -> None:
    first, second = (30, 30, 70, 80), (60, 30, 100, 80)
    result = redact(NOISE, [Region(first, "solid"), Region(second, "mosaic")])
    alone = redact(NOISE, [Region(second, "mosaic")])
    only_second = (reach(second) <= 1) & (reach(first) >= EDGE)
    assert np.array_equal(result[only_second], alone[only_second])
    for order in ([0, 1], [1, 0]):
        regions = [Region(first, "solid"), Region(second, "mosaic")]
        result = redact(NOISE, [regions[i] for i in order])
        assert (result[reach(first) <= 1] == 128).all(), "what leaves less counts, whatever the order"


@pytest.mark.parametrize(("quarters", "turn"), [(1, 90), (2, 180), (2, -180), (3, -90)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("box", [(43.3, 31.7, 91.8, 88.9), (-20.2, 40.1, 25.3, 99.7)])
def test_a_turned_head_is_the_upright_one_of_the_picture_turned_back(box, mode, quarters, turn) -> None:
    """Hair, chin and the cells of the mosaic turn with it."""
    lying = np.ascontiguousarray(np.rot90(NOISE, quarters))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    width, height = SIZE[1], SIZE[0]
    x, y = {1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[quarters]
    half_x, half_y = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    region = Region((x - half_x, y - half_y, x + half_x, y + half_y), mode, 1.1, turn)
    wanted = np.rot90(redact(NOISE, [Region(box, mode, 1.1)]), quarters)
    assert np.abs(redact(lying, [region]).astype(int) - wanted).max() <= 1, "rounding"
    assert np.array_equal(changed(lying.shape, [region]), np.rot90(changed(NOISE.shape, [Region(box, mode, 1.1)]),
                                                                   quarters))


@pytest.mark.parametrize("turn", [0, 20, 45, 90, -135])
def test_a_turned_head_is_turned_counter_clockwise_about_the_face(turn) -> None:
    box = (60, 40, 100, 90)
    x, y, radius_x, radius_y = head(box)
    angle = np.radians(turn)
    result = redact(NOISE, [Region(box, turn=turn)])
    for across, down in ((0, 0), (0, -0.95), (0.9, 0), (-0.9, 0), (0, 0.95)):  # along the head's own axes
        right, low = across * radius_x + x - 80, down * radius_y + y - 65
        column = 80 + right * np.cos(angle) + low * np.sin(angle)
        row = 65 - right * np.sin(angle) + low * np.cos(angle)
        assert (result[int(row), int(column)] == 128).all(), (across, down)
    assert (result == 128).all(axis=2).sum() == pytest.approx((redact(NOISE, [Region(box)]) == 128).all(axis=2).sum(),
                                                              rel=0.02)


@settings(max_examples=30)
@given(box=BOXES, turn=st.floats(-180, 180), grow=st.floats(1, 2))
def test_what_is_changed_is_known_and_what_is_filled_is_proved(box, turn, grow) -> None:
    region = Region(box, "solid", grow, turn)
    result = redact(NOISE, [region])
    touched = changed(NOISE.shape, [region])
    assert np.array_equal(result[~touched], NOISE[~touched])
    assert filled(result, box, turn)
    left, top, right, bottom = box
    inner = (3 * left + right) / 4, (3 * top + bottom) / 4, (left + 3 * right) / 4, (top + 3 * bottom) / 4
    if (redact(NOISE, [Region(inner, turn=turn)]) != NOISE).any(axis=2).sum() > 20:  # it is in the picture
        assert not filled(NOISE, box, turn)


@pytest.mark.parametrize("turn", [0, 30])
def test_bands_change_nothing(turn, monkeypatch) -> None:
    """Of pictures of 100 megapixels a few rows are worked on at once."""
    regions = [Region((40, 30, 110, 100), "solid", 1.2, turn), Region((100, 60, 140, 110), "mosaic", 1, turn)]
    whole, touched = redact(NOISE, regions), changed(NOISE.shape, regions)
    monkeypatch.setattr(redaction, "_BAND", 300)
    assert np.array_equal(redact(NOISE, regions), whole)
    assert np.array_equal(changed(NOISE.shape, regions), touched)
    assert filled(whole, regions[0].box_ltrb, turn)
    whole[65, 75] = 255
    assert not filled(whole, regions[0].box_ltrb, turn), "every band is looked at"


def test_an_area_is_filled_to_its_hard_edge_whatever_else_is_there() -> None:
    area = np.zeros(SIZE, bool)
    area[20:70, 30:90] = True
    region = Region((70, 50, 110, 100), "mosaic")
    kept = area.copy()
    result = redact(NOISE, [region], area)
    assert (result[area] == 128).all()
    assert np.array_equal(result[~area], redact(NOISE, [region])[~area])
    assert np.array_equal(changed(NOISE.shape, [region], area), changed(NOISE.shape, [region]) | area)
    assert np.array_equal(area, kept), "the area itself stays"


def test_nothing_to_do_is_a_copy() -> None:
    result = redact(NOISE, [])
    assert np.array_equal(result, NOISE) and result is not NOISE


def test_errors_name_what_was_wanted() -> None:
    with pytest.raises(CamouflageError, match="solid, mosaic, blur, not 'Solid'"):
        redact(NOISE, [Region((1, 1, 5, 5), "Solid")])
    for box in ((5, 1, 5, 9), (9, 1, 5, 9), (1, 9, 5, 9), (1, 9, 5, 3), (1, float("nan"), 5, 9)):
        with pytest.raises(CamouflageError, match="left < right and top < bottom"):
            redact(NOISE, [Region(box)])
