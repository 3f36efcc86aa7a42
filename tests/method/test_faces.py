"""The result types of face reading: checks, printing, JSON."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camouflage.errors import CamouflageError
from camouflage.method.faces import ATTRIBUTES, MAX_COORDINATE, Face, Faces, Picture, clip_box

POINTS = ((10.0, 20.0), (30.0, 20.0), (20.0, 30.0), (12.0, 40.0), (28.0, 40.0))
COORDINATES = st.floats(-MAX_COORDINATE, MAX_COORDINATE)
PROBABILITIES = st.one_of(st.none(), st.floats(0, 1))


def face(**fields) -> Face:
    return Face(**{"box_ltrb": (5.0, 10.0, 35.0, 50.0), "score": 0.75, "keypoints": POINTS, **fields})


def named(**probabilities) -> tuple:
    return tuple(probabilities.get(name) for name in ATTRIBUTES)


@st.composite
def any_faces(draw) -> Faces:
    def a_face(height: int, width: int) -> Face:
        left, right = sorted(draw(st.lists(st.floats(0, width), min_size=2, max_size=2, unique=True)))
        top, bottom = sorted(draw(st.lists(st.floats(0, height), min_size=2, max_size=2, unique=True)))

        def points(n: int) -> list:
            return draw(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=n, max_size=n))
        return Face((left, top, right, bottom), draw(st.floats(0, 1)), points(5),
                    points(68) if draw(st.booleans()) else None,
                    draw(st.lists(PROBABILITIES, min_size=40, max_size=40)))

    def a_picture() -> Picture:
        height, width = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
        return Picture(height, width, tuple(a_face(height, width) for _ in range(draw(st.integers(0, 2)))))
    return Faces(tuple(a_picture() for _ in range(draw(st.integers(1, 2)))))


def test_names_are_those_of_facer():
    attribute = pytest.importorskip("facer.face_attribute.farl")
    assert tuple(attribute.pretrain_settings["celeba/224"]["classes"]) == ATTRIBUTES
    assert len(ATTRIBUTES) == 40


def test_frozen_and_made_of_plain_floats():
    made = face(box_ltrb=np.float32([1, 2, 3, 4]).tolist(), score=np.float32(0.5), keypoints=[list(p) for p in POINTS])
    assert made.box_ltrb == (1.0, 2.0, 3.0, 4.0) and type(made.score) is float and made.keypoints == POINTS
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.score = 1.0
    assert hash(made) == hash(dataclasses.replace(made)) and pickle.loads(pickle.dumps(made)) == made  # noqa: S301
    assert made.attributes == (None,) * 40


@pytest.mark.parametrize(("fields", "message"), [
    ({"box_ltrb": (5, 10, 5, 50)}, "left < right"),
    ({"box_ltrb": (5, 50, 35, 10)}, "top < bottom"),
    ({"box_ltrb": (-1, 10, 35, 50)}, r"box_ltrb\[0\] must be a number from 0 to 65536, but got -1"),
    ({"box_ltrb": (0, 10, float("nan"), 50)}, r"box_ltrb\[2\].*nan"),
    ({"box_ltrb": (0, 10, 35)}, "must have 4 entries, but got 3"),
    ({"box_ltrb": "0123"}, "box_ltrb must be a list"),
    ({"score": 1.01}, "score must be a number from 0 to 1"),
    ({"score": True}, "score must be a number"),
    ({"score": 10**5000}, "score must be a number"),
    ({"keypoints": POINTS[:4]}, "keypoints must have 5 entries, but got 4"),
    ({"keypoints": (*POINTS[:4], (1, 2, 3))}, r"keypoints\[4\] must have 2 entries"),
    ({"keypoints": (*POINTS[:4], (1, float("inf")))}, r"keypoints\[4\] y"),
    ({"landmarks": POINTS}, "landmarks must have 68 entries, but got 5"),
    ({"attributes": (0.5,) * 39}, "attributes must have 40 entries, but got 39"),
    ({"attributes": (*(0.5,) * 39, -0.1)}, r"attributes\['Young'\] must be a number from 0 to 1, but got -0.1"),
    ({"attributes": (*(0.5,) * 39, "0.1")}, "Young"),
])
def test_a_face_checks_its_fields(fields, message):
    with pytest.raises(CamouflageError, match=message):
        face(**fields)


def test_a_picture_and_a_batch_check_theirs():
    for size in ((0, 5), (5, -1), (70000, 5), (5.0, 5), (True, 5)):
        with pytest.raises(CamouflageError, match="whole pixels from 1 to 65536"):
            Picture(*size)
    with pytest.raises(CamouflageError, match=r"faces\[0\].box_ltrb .* leaves the picture of 34 x 100 px"):
        Picture(100, 34, (face(),))
    with pytest.raises(CamouflageError, match=r"faces\[0\] must be a Face"):
        Picture(100, 100, ("face",))
    with pytest.raises(CamouflageError, match="at most 1000"):
        Picture(100, 100, (face(),) * 1001)
    with pytest.raises(CamouflageError, match="1 to 10000"):
        Faces(())
    with pytest.raises(CamouflageError, match=r"pictures\[0\] must be a Picture"):
        Faces((face(),))
    assert Picture(50, 35, [face()]).faces == (face(),)


def test_clip_box():
    assert clip_box((-5.5, 3, 20, 80), 40, 30) == (0.0, 3.0, 20.0, 40.0)
    assert clip_box(np.float32([1, 2, 3, 4]), 40, 30) == (1.0, 2.0, 3.0, 4.0)
    assert clip_box((31, 3, 50, 80), 40, 30) is None
    assert clip_box((-9, 3, 0, 80), 40, 30) is None


def test_prints_for_a_person():
    smiling = face(attributes=named(Smiling=0.93, Young=0.6, Male=0.97, Bald=0.01))
    faces = Faces((Picture(60, 40, (smiling,)), Picture(60, 40)))
    assert repr(smiling) == ("Face(30 x 40 px at (5, 10), score 0.75, no landmarks, 4 of 40 attributes: "
                             "Male 0.97, Smiling 0.93, Young 0.60)")
    assert repr(faces) == "Faces(pictures: 2, faces: 1)"
    assert str(faces) == (f"picture 0: 40 x 60 px, faces: 1\n  person 0: {smiling!r}\n"
                          "picture 1: 40 x 60 px, faces: 0")
    assert smiling.leading(1) == [("Male", 0.97)]
    assert len(repr(face(landmarks=POINTS * 13 + POINTS[:3]))) < 200


def test_persons_are_counted_from_left_to_right_whatever_the_order():
    boxes = [(50, 0, 60, 10), (0, 20, 20, 40), (2, 0, 18, 5), (0, 50, 90, 60)]
    faces = [face(box_ltrb=box) for box in boxes]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        picture = Picture(100, 100, tuple(faces[i] for i in order))
        assert [picture.faces[i].box_ltrb for i in picture.persons()] == [boxes[i] for i in (2, 1, 3, 0)]


@given(any_faces(), st.sampled_from([None, 1]))
@settings(max_examples=60)
def test_json_there_and_back_without_loss(faces, indent):
    text = faces.to_json(indent)
    back = Faces.from_json(text)
    assert back == faces and back.to_json(indent) == text
    assert [p.persons() for p in back.pictures] == [p.persons() for p in faces.pictures]


def test_json_layout():
    data = json.loads(Faces((Picture(60, 40, (face(attributes=named(Male=0.25)),)),)).to_json())
    assert data["format"] == "camouflage-faces" and data["version"] == 1
    entry = data["pictures"][0]["faces"][0]
    assert list(entry["attributes"]) == list(ATTRIBUTES)
    assert entry["attributes"]["Male"] == 0.25 and entry["attributes"]["Young"] is None
    assert entry["box_ltrb"] == [5, 10, 35, 50] and entry["landmarks"] is None


def good() -> dict:
    return json.loads(Faces((Picture(60, 40, (face(attributes=named(Male=0.25)),)),)).to_json())


def broken(path: list, value) -> str:
    data = inner = good()
    for key in path[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return json.dumps(data)


FACE = ["pictures", 0, "faces", 0]


@pytest.mark.parametrize(("text", "message"), [
    ("", "no valid JSON"), ("{", "no valid JSON"), ("[]", "must be an object"), ("null", "must be an object"),
    (b"{}", "must be a text, but got a bytes"), (None, "must be a text"),
    ("[" * 200_000, "nested too deep"), ('{"a":' * 100_000, "nested too deep"),
    ('{"format": 1, "format": 2}', "key 'format' twice"),
    (" " * (64 * 2**20 + 1), "characters long"),
    ("1" * 5000, "at most 20 digits"),
    (broken(["version"], 2), "version 1, but got 'camouflage-faces', 2"),
    (broken(["version"], True), "version 1, but got"),
    (broken(["format"], "other"), "format"),
    (broken(["extra"], 1), "exactly the keys"),
    (broken(["pictures"], []), "1 to 10000"),
    (broken(["pictures"], {}), "pictures must be a list"),
    (broken(["pictures", 0, "height"], -60),
     r"pictures\[0\]: height must be whole pixels from 1 to 65536, but got -60"),
    (broken(["pictures", 0, "width"], 10**12), "width must be whole pixels"),
    (broken(["pictures", 0, "width"], 10), "leaves the picture"),
    (broken(["pictures", 0, "width"], KeyError), "exactly the keys height, width, faces"),
    (broken([*FACE, "score"], None), r"pictures\[0\].faces\[0\]: score must be a number"),
    (broken([*FACE, "score"], float("nan")), "contains NaN"),
    (broken([*FACE, "score"], -float("inf")), "contains -Infinity"),
    (broken([*FACE, "box_ltrb", 2], 35).replace("35", "1e999", 1), r"box_ltrb\[2\].*inf"),
    (broken([*FACE, "keypoints", 0], [[[[[]]]]]), r"keypoints\[0\] must have 2 entries"),
    (broken([*FACE, "attributes", "Young"], KeyError), "attributes must be an object with exactly the keys"),
    (broken([*FACE, "attributes", "Younger"], 0.5), "attributes must be an object with exactly the keys"),
    (broken([*FACE, "attributes"], [0.5] * 40), "attributes must be an object"),
    (broken([*FACE, "attributes", "Young"], 1.5), r"faces\[0\]: attributes\['Young'\].*1.5"),
], ids=lambda value: str(value)[:40])
def test_malformed_json_is_refused_by_place(text, message):
    with pytest.raises(CamouflageError, match=message) as caught:
        Faces.from_json(text)
    assert len(str(caught.value)) < 1500


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
                    max_leaves=10)
PLACES = [["format"], ["version"], ["pictures"], ["pictures", 0], ["pictures", 0, "height"], ["pictures", 0, "faces"],
          FACE, *([*FACE, key] for key in Face.__slots__), [*FACE, "box_ltrb", 1], [*FACE, "keypoints", 4],
          [*FACE, "attributes", "Male"]]


@given(st.one_of(st.text(), JSON.map(json.dumps),
                 st.builds(broken, st.sampled_from(PLACES), JSON | st.just(KeyError)),
                 st.builds(lambda at, cut, put: (t := json.dumps(good()))[:at % len(t)] + put + t[at % len(t) + cut:],
                           st.integers(0, 10**6), st.integers(0, 40), st.text(max_size=10))))
@settings(max_examples=400)
def test_fuzzed_json_raises_nothing_else(text):
    try:
        faces = Faces.from_json(text)
    except CamouflageError:
        return
    assert Faces.from_json(faces.to_json()) == faces
