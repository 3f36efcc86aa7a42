"""What stands in a plot: names that can be read, and bars where there is a value."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from camouflage.evaluation import plots


@pytest.fixture
def figures(monkeypatch):
    """Plots give their figures."""
    monkeypatch.setattr(plots, "_png", lambda figure: figure)


def mean(value, width=0.1):
    return {"value": value, "interval_95": [max(0, value - width), min(1, value + width)]}


CROWD = {"original": (mean(0.02), mean(1, 0)), "weak blur": (mean(0.05), mean(0.99, 0.01)), "mosaic, 16 cells": (
    mean(0.06), mean(0.985, 0.01)), "solid": (mean(0), mean(1, 0)), "Base": (mean(0.9), mean(0.6)),
    "Light": (mean(0.91), mean(0.61)), "alone": ({"value": 0.5, "interval_95": None},) * 2}


def test_every_way_is_named_on_the_plane_and_no_name_covers_another(figures):
    figure = plots.plane(CROWD, "Plane", "protected", "kept")
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == list(CROWD)
    assert [text.xy for text in axes.texts] == [(x["value"], y["value"]) for x, y in CROWD.values()]
    boxes = [letters(text, canvas) for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


def letters(text, canvas):
    """Of the letters alone, without the line to the point."""
    return Text.get_window_extent(text, canvas.get_renderer())


def test_intervals_are_lines_through_the_point(figures):
    figure = plots.plane({"a": (mean(0.5, 0.2), mean(0.7, 0.1))}, "Plane", "x", "y")
    across, up, point = (line.get_xydata().tolist() for line in figure.axes[0].lines)
    assert across == [[0.3, 0.7], [0.7, 0.7]] and point == [[0.5, 0.7]]
    assert up == [pytest.approx([0.5, 0.6]), pytest.approx([0.5, 0.8])]
    assert plots.plane({}, "Plane", "x", "y") is None


def test_bars_of_several_parts_say_where_there_is_no_value(figures):
    figure = plots.bars({"a": [mean(0.25), None], "b": [mean(0.5), mean(0.75)], "none": [None, None], "zero": [
        mean(0, 0), mean(0)]}, "T", "share", line=(1.5, "limit"), parts=["first", "second"])
    axes = figure.axes[0]
    assert [round(bar.get_width(), 3) for bar in axes.patches] == [
        0.25, 0.5, 0, 0, 0, 0.75, 0, 0]
    assert [text.get_text().strip() for text in axes.texts] == ["no value", "0", "no value", "no value"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "none", "zero"]
    assert {text.get_text() for text in figure.legends[0].texts} == {"first", "second", "limit"}
    assert axes.get_xlim()[1] > 1.5
    assert plots.bars({"none": None, "nothing": [None]}, "T", "share") is None


def test_bars_of_one_part_are_as_before(figures):
    axes = plots.bars({"a": mean(0.25), "gone": None}, "T", "share", chance=0.5).axes[0]
    assert len(axes.patches) == 1 and axes.lines[-1].get_xdata()[0] == 0.5
    assert not axes.figure.legends[0].texts[1:], "one entry: chance"


LONG = "the same ones for all, with demographics"
NOTE = "Untrained miniature networks: it shows that everything runs, and nothing else."


@pytest.mark.parametrize("make", [
    lambda: plots.bars({LONG: mean(0.5), "kept": mean(0.4)}, "What is kept", "mean", NOTE),
    lambda: plots.stacked({LONG: {"judged": 0.5, "undetected": 0.5}}, "What is kept", NOTE),
    lambda: plots.curves({LONG: [(0.0, mean(0.5)), (1.0, mean(0.4))]}, "What is kept", "scale", NOTE),
    lambda: plots.plane({LONG: (mean(0.5), mean(0.4))}, "What is kept", "protected", "kept", NOTE)])
def test_beside_long_names_nothing_is_cut(figures, make):
    figure = make()
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    ticks = {id(label) for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()}
    texts = [text for text in figure.findobj(Text) if text.get_text() and (text.get_text() == LONG
                                                                           or id(text) not in ticks)]
    assert any(NOTE in text.get_text() for text in texts)
    for box in (Text.get_window_extent(text) for text in texts):
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1
