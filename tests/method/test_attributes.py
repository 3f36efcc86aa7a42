"""Keeping, setting and forgetting attributes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camouflage.errors import CamouflageError
from camouflage.method.attributes import DEMOGRAPHICS, EXPRESSION, PRESETS, STAND_INS, edit
from camouflage.method.faces import ATTRIBUTES, Face, Faces, Picture

READ = tuple((i + 1) / 100 for i in range(40))


def person(left: float) -> Face:
    return Face((left, 10.0, left + 20, 40.0), 0.9, ((left, 20.0),) * 5, None, READ)


# Stored from right to left: person 0 is the last of the list.
FACES = Faces((Picture(100, 200, (person(150), person(80), person(10))), Picture(100, 200),
               Picture(100, 200, (person(30),))))


def edited(edits: dict, faces: Faces = FACES) -> list[list[dict]]:
    """Every person's attributes by name, per picture, from left to right."""
    result = edit(faces, json.dumps(edits))
    return [[dict(zip(ATTRIBUTES, picture.faces[i].attributes, strict=True)) for i in picture.persons()]
            for picture in result.pictures]


AS_READ = dict(zip(ATTRIBUTES, READ, strict=True))


@pytest.mark.parametrize("nothing", ["", " \n", "{}", '{"preset": "all"}', '{"preset": "paper", "persons": {}}',
                                     '{"persons": {"all": {}}}', '{"persons": {"all": {"Male": "keep"}}}'])
def test_no_edit_changes_nothing(nothing):
    assert edit(FACES, nothing) == FACES


def test_one_person_is_set_and_forgotten_and_the_rest_stays():
    persons = edited({"persons": {"1": {"Smiling": 0.9, "Young": "forget"}}})
    assert persons[0][1] == {**AS_READ, "Smiling": 0.9, "Young": None}
    assert persons[0][0] == persons[0][2] == persons[2][0] == AS_READ


def test_person_numbers_go_from_left_to_right_and_boxes_stay():
    result = edit(FACES, '{"persons": {"0:0": {"Bald": 1}}}')
    assert [face.attributes[4] for face in result.pictures[0].faces] == [READ[4], READ[4], 1.0]
    assert [[face.box_ltrb for face in picture.faces] for picture in result.pictures] == [
        [face.box_ltrb for face in picture.faces] for picture in FACES.pictures]
    assert result.pictures[1:] == FACES.pictures[1:]


def test_the_narrowest_entry_wins_wherever_it_stands():
    entries = {"0:1": {"Male": 0.4}, "1": {"Male": 0.3, "Bald": 0.3}, "0:all": {"Male": 0.2, "Bald": 0.2, "Bangs": 0.2},
               "all": {"Male": 0.1, "Bald": 0.1, "Bangs": 0.1, "Young": 0.1}}
    for persons in (entries, dict(reversed(entries.items()))):
        found = edited({"persons": persons})
        assert [found[0][1][name] for name in ("Male", "Bald", "Bangs", "Young")] == [0.4, 0.3, 0.2, 0.1]
        assert [found[0][0][name] for name in ("Male", "Bald", "Bangs", "Young")] == [0.2, 0.2, 0.2, 0.1]
        assert [found[2][0][name] for name in ("Male", "Bald", "Bangs", "Young")] == [0.1] * 4


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_keeps_its_attributes_and_forgets_the_others(preset):
    kept = {name: value if name in PRESETS[preset] else None for name, value in AS_READ.items()}
    assert edited({"preset": preset}) == [[kept] * 3, [], [kept]]


def test_presets_are_what_their_names_say():
    assert PRESETS["all"] == PRESETS["paper"] == set(ATTRIBUTES)
    assert {"Male", "Young", "Pale_Skin", "Gray_Hair"} <= PRESETS["demographics only"]
    assert not PRESETS["no demographics"] & (DEMOGRAPHICS | STAND_INS)
    assert not {"Male", "Young", "Mustache", "No_Beard", "Wearing_Lipstick"} & PRESETS["no demographics"]
    assert PRESETS["expression only"] == {"Smiling", "Mouth_Slightly_Open"} <= PRESETS["no demographics"]
    assert not DEMOGRAPHICS & STAND_INS and set(ATTRIBUTES) >= DEMOGRAPHICS | STAND_INS | EXPRESSION


def test_keep_brings_back_what_was_read():
    found = edited({"preset": "expression only", "persons": {"all": {"Male": "forget", "Smiling": 1}, "0": {
        "Male": "keep", "Smiling": "keep", "Bald": "keep"}}})
    assert (found[0][0]["Male"], found[0][0]["Smiling"], found[0][0]["Bald"]) == (
        AS_READ["Male"], AS_READ["Smiling"], AS_READ["Bald"])
    assert (found[0][1]["Male"], found[0][1]["Smiling"], found[0][1]["Bald"]) == (None, 1.0, None)


def test_no_face_is_no_error_for_all():
    nobody = Faces((Picture(10, 10),))
    assert edit(nobody, '{"preset": "paper", "persons": {"all": {"Male": 0}, "0:all": {"Male": 1}}}') == nobody


@pytest.mark.parametrize(("text", "message"), [
    ('{"persons": {"all": {"Smilling": 1}}}', r"persons\['all'\].*'Smilling'.*nearest known ones are Smiling, "),
    ('{"persons": {"all": {"oval face": 1}}}', "nearest known ones are Oval_Face"),
    ('{"persons": {"all": {"male": 1}}}', "nearest known ones are Male"),
    ('{"persons": {"all": {"": 1}}}', "nearest known ones are "),
    ('{"persons": {"3": {"Male": 1}}}', "person 3, but every picture has at most 3"),
    ('{"persons": {"2:1": {"Male": 1}}}', "person 1, but picture 2 has 1"),
    ('{"persons": {"1:0": {"Male": 1}}}', "person 0, but picture 1 has 0"),
    ('{"persons": {"3:all": {"Male": 1}}}', "picture 3, but there are only 3"),
    *((f'{{"persons": {{"{who}": {{}}}}}}', "is no person") for who in (
        "-1", "01", "1.0", "+1", "", "ALL", "all:0", "0:", ":0", "0:0:0", "1 ", "٣", "1\\n", "9" * 50)),
    ('{"persons": {"all": {"Male": 1.5}}}', r"persons\['all'\]\['Male'\] must be a number from 0 to 1, but got 1.5"),
    ('{"persons": {"all": {"Male": -0.1}}}', "from 0 to 1"),
    ('{"persons": {"all": {"Male": NaN}}}', "NaN"),
    ('{"persons": {"all": {"Male": 1e999}}}', "from 0 to 1"),
    ('{"persons": {"all": {"Male": true}}}', '"keep", "forget" or a probability from 0 to 1, but got True'),
    *((f'{{"persons": {{"all": {{"Male": {value}}}}}}}', '"keep", "forget" or a probability') for value in (
        "null", '"Keep"', '"0.5"', "[]", "{}", "[0.5]")),
    ('{"persons": {"all": {"Male": 1, "Male": 0}}}', "'Male' twice"),
    ('{"persons": {"0": {}, "0": {}}}', "'0' twice"),
    ('{"persons": {"all": 0.5}}', r"persons\['all'\] must be an object"),
    ('{"persons": [{}]}', "persons must be an object"),
    ('{"preset": "none"}', "preset 'none' is unknown; known: all, paper, demographics only"),
    ('{"preset": ["all"]}', "is unknown"), ('{"preset": null}', "None is unknown"),
    ('{"person": {}}', "has the key 'person'"),
    ("[]", "the top must be an object"), ("all", "no valid JSON"), ("{'preset': 'all'}", "no valid JSON"),
    ("[" * 100_000, "nested too deep"),
    ('{"persons": ' * 50_000, "nested too deep"),
    (" " * 1_000_001, "1000001 characters long; at most 1000000"),
    (json.dumps({"persons": {"all": {"x" * 900_000: 1}}}), "unknown attribute"),
    (5, "must be a text, but got a int"), (None, "must be a text"),
], ids=lambda value: str(value)[:40])
def test_bad_edits_say_where(text, message):
    with pytest.raises(CamouflageError, match=message) as caught:
        edit(FACES, text)
    assert str(caught.value).startswith("The text of the edits") and len(str(caught.value)) < 1000


WORDS = st.sampled_from(["preset", "persons", "all", "0", "1", "0:1", "0:all", "9", "Male", "Smiling", "keep", "forget",
                         "paper", "no demographics"]) | st.text(max_size=4)
JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | WORDS,
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
                    max_leaves=12)
NEAR = st.fixed_dictionaries({}, optional={
    "preset": st.sampled_from([*PRESETS]) | JSON,
    "persons": st.dictionaries(WORDS, st.dictionaries(st.sampled_from(ATTRIBUTES) | WORDS,
                                                      st.sampled_from(["keep", "forget"]) | st.floats(0, 1) | JSON,
                                                      max_size=3), max_size=3)})


@given(st.text() | JSON.map(json.dumps) | NEAR.map(json.dumps))
@settings(max_examples=400)
def test_fuzzed_edits_raise_nothing_else(text):
    try:
        result = edit(FACES, text)
    except CamouflageError:
        return
    assert [len(picture.faces) for picture in result.pictures] == [3, 0, 1]
