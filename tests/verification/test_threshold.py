"""Thresholds with a floor: nobody gets below the publishers' advice by accident, and who wants to is told so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from camouflage.commands import calibrate
from camouflage.errors import CamouflageError
from camouflage.verification import names
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.recognition import ADVICE, DlibRecogniser, Threshold, demand_recogniser, held_to
from pairs import pairs_of

DLIB, SFACE = ADVICE["dlib ResNet"], ADVICE["SFace"]


def test_the_advice_is_known_without_a_network_and_never_laxer_than_itself():
    assert [(advice.recogniser, advice.distance, advice.source) for advice in ADVICE.values()] == [
        ("dlib ResNet", 0.6, "dlib's advice"), ("SFace", 1 - 0.363, "OpenCV's advice")]
    for name, advice in ADVICE.items():
        assert (advice.recogniser, advice.advised, advice.laxer) == (name, advice.distance, False)
        assert held_to(advice, advice, False) == advice
    assert DlibRecogniser().threshold == DLIB


@pytest.mark.parametrize(("advice", "distance"), [(DLIB, 0.01), (DLIB, 0.599), (SFACE, 0.6), (DLIB, 0.6 - 2e-6)])
def test_a_threshold_below_the_advice_is_refused(advice, distance):
    wanted = Threshold(distance, advice.recogniser)
    with pytest.raises(CamouflageError) as told:
        held_to(wanted, advice, False)
    text = str(told.value)
    assert text.startswith(f"The threshold must be at least {advice.distance:.6g} ({advice.source}), but got "
                           f"{distance:.6g} (set by hand). A smaller distance lets more results through")
    assert f"at least {0.6 if advice is DLIB else 0.637:g} " in text
    for way_out in ("set 'threshold' to 0", "at 'auto' or a higher false-accept rate", "turn 'laxer_threshold' on"):
        assert way_out in text


def test_allowed_it_is_marked_wherever_it_is_printed_or_written():
    held = held_to(Threshold(0.01, "dlib ResNet", 0.001, "calibrated"), DLIB, True)
    assert held == Threshold(0.01, "dlib ResNet", 0.001, "calibrated", advised=0.6) and held.laxer
    assert str(held) == "0.010 (false-accept rate 0.001; calibrated); LAXER THAN ADVISED (0.600)"
    assert held.to_json() == {"distance": 0.01, "recogniser": "dlib ResNet", "false_accept_rate": 0.001,
                              "source": "calibrated", "laxer_than_advised": True}


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("distance", [0.6, 0.6 - 5e-7, float(np.nextafter(np.float32(0.6), np.float32(0))), 0.61, 2.0])
def test_the_advice_itself_and_stricter_ones_pass_unmarked(distance, allowed):
    held = held_to(Threshold(distance, "dlib ResNet"), DLIB, allowed)
    assert (held.distance, held.advised, held.laxer) == (distance, 0.6, False)
    assert str(held) == f"{distance:.3f} (false-accept rate unknown: never calibrated; set by hand)"
    assert held.to_json()["laxer_than_advised"] is False


def test_what_a_threshold_says_of_the_advice_itself_does_not_count():
    for claimed in (0.0, 0.001):
        with pytest.raises(CamouflageError, match=r"must be at least 0\.6 "):
            held_to(Threshold(0.01, "dlib ResNet", advised=claimed), DLIB, False)


def test_a_threshold_of_another_recogniser_is_refused_as_such_even_if_lax_ones_are_allowed():
    for allowed in (False, True):
        with pytest.raises(CamouflageError, match="for distances of 'dlib ResNet', but 'SFace' compares"):
            held_to(Threshold(0.01, "dlib ResNet"), SFACE, allowed)
    demand_recogniser(DLIB, "dlib ResNet")


def test_where_no_advice_is_known_nothing_is_laxer():
    assert not Threshold(1e-9, "R").laxer
    assert held_to(Threshold(0.01, "R"), Threshold(0.5, "R", source="tests"), True).laxer


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_an_advice_is_a_distance(bad):
    with pytest.raises(CamouflageError, match="An advised distance must be 0"):
        replace(DLIB, advised=bad)


def test_the_calibrate_command_marks_distances_below_the_advice():
    info = ModelInfo("dlib ResNet", "1", "CC0-1.0")
    impostor = np.linspace(0.55, 1.05, 300, dtype=np.float32)
    calibration = calibrate.measure(pairs_of(np.full(10, 0.3), impostor), recogniser=info, metric="Euclidean",
                                    persons=12, photos=100)
    _, tenth, hundredth, *rest = calibrate.table(calibration, (0.6, calibrate.ErrorRate(30, 300), None))
    assert "0.6002" in tenth and "LAXER" not in tenth
    assert "0.5550" in hundredth and hundredth.endswith("LAXER THAN ADVISED")
    assert not any("LAXER" in line for line in rest)


def test_the_registry_of_names_is_what_the_models_call_themselves():
    assert set(names.RECOGNISERS) == set(ADVICE) and names.RECOGNISER_CHOICES[:2] == names.RECOGNISERS
    assert [names.of_choice(choice) for choice in names.RECOGNISER_CHOICES] == [
        ["dlib ResNet"], ["SFace"], ["dlib ResNet", "SFace"]]
    named = {name for choice in names.DETECTOR_CHOICES[:-1] for name in names.of_choice(choice)}
    assert named == set(names.DETECTORS), "every detector can be chosen"
    assert DlibRecogniser().info.name == names.DLIB_RESNET
