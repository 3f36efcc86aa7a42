"""What the policy makes of painted pictures, with a verification that only plays its part."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from camouflage.evaluation.pairing import MISSING, Pair
from camouflage.evaluation.seeing import WITHHELD
from camouflage.evaluation.treated import FOLDER, REDACTED, UNCHANGED, shipped, treated
from camouflage.verification.detection import DlibHog, FoundFace
from camouflage.verification.redaction import Region
from camouflage.verification.verify import Blocked, Originals


class Played:
    """Covers what is dark, blocks what is white, and lets the rest go."""

    def __init__(self, faces=()):
        self.looked, self.hidden, self.faces = [], [], faces

    def originals(self, pixels):
        self.looked.append(pixels.shape[:2])
        return Originals(*pixels.shape[:2], self.faces, np.zeros((len(self.faces), 128)))

    def settle(self, originals, pixels, policy, hidden):
        self.hidden.append(hidden)
        assert policy.unsettled == "redact" and policy.redaction == "solid" and policy.no_face == "block"
        if pixels.mean() > 250:
            raise Blocked("white")
        return (np.full_like(pixels, 7) if pixels.mean() < 50 else pixels), None


@pytest.fixture
def pairs(tmp_path):
    """A photo and its picture in five ways, the last one not painted."""
    def picture(name, size, level):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), level, np.uint8)).save(path)
        return path

    photo = picture("photos/a.png", (80, 120), 90)
    painted = [("plain", (80, 120), 100), ("dark", (80, 120), 20), ("white", (80, 120), 255), ("cut", (64, 64), 100)]
    made = [Pair("a.png", photo, picture(f"work/{name}/a.png.png", size, level)) for name, size, level in painted]
    return [(pair, ()) for pair in [*made, Pair("a.png", photo, None, MISSING)]]


def test_each_fate_and_the_photo_is_looked_at_once_for_each_size(pairs, tmp_path):
    work, player = tmp_path / "work", Played()
    found = treated(pairs, work, player)
    assert [fate for _, fate in found] == [UNCHANGED, REDACTED, WITHHELD, UNCHANGED, ""]
    assert player.looked == [(80, 120), (64, 64)], "in the painted picture's frame"
    left, covered, withheld, _, missing = (pair for pair, _ in found)
    assert left == pairs[0][0] and missing == pairs[4][0]
    assert covered.anonymized == work / FOLDER / "dark" / "a.png.png"
    assert (np.array(Image.open(covered.anonymized)) == 7).all()
    assert withheld.anonymized is None and withheld.state == WITHHELD
    again = Played()
    assert treated(pairs, work, again) == found and not again.hidden, "what was treated stays"


def test_a_picture_that_cannot_be_read_may_not_leave(pairs, tmp_path):
    broken = pairs[0][0].anonymized
    broken.write_bytes(b"no picture")
    assert treated(pairs[:1], tmp_path / "work", Played())[0][1] == WITHHELD


def test_our_own_redactions_say_whom_they_covered(pairs, tmp_path):
    faces = tuple(FoundFace(box, ("d",), ()) for box in ((10.0, 10.0, 30.0, 40.0), (60.0, 20.0, 80.0, 50.0)))
    player = Played(faces)
    regions = [Region((61.0, 21.0, 81.0, 51.0), "mosaic"), Region((100.0, 0.0, 110.0, 10.0), "mosaic")]
    treated([(pairs[0][0], regions), (pairs[1][0], ())], tmp_path / "work", player)
    ours, painted = player.hidden
    assert ours.persons == {1: "mosaic"} and ours.places == {1: (regions[0],)}, "the second region is nobody's place"
    assert not painted.begun


def test_the_settings_are_those_of_the_shipped_workflows():
    verifier = shipped((DlibHog(),))
    assert (verifier.threshold.distance, verifier.smallest_face, verifier.second) == (0.6, 32, None)
    assert verifier.recogniser.info.name == "dlib ResNet"
