"""Reading manifests: both versions, what is filled in, and that nothing else is taken."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from camouflage.errors import CamouflageError
from camouflage.output import encoding, manifests
from camouflage.output.manifests import SCHEMAS, read
from camouflage.verification import report as reports
from camouflage.verification.recognition import Threshold
from saved import report_of

SCHEMA = {version: json.loads(path.read_text(encoding="utf-8")) for version, path in SCHEMAS.items()}
SHA = "0123456789abcdef" * 4
TOOL = {"name": "dlib ResNet", "version": "dlib 20", "licence": "CC0-1.0", "sha256": [SHA]}
FIRST: dict[str, Any] = {  # as version 1 wrote it
    "format": "camouflage-manifest", "version": 1, "software": "camouflage 0.1.0",
    "checked": {
        "width": 64, "height": 48, "pixels_sha256": SHA, "verdict": "redacted",
        "persons": [
            {"number": 0, "box_ltrb": [4.0, 5.0, 20.0, 25.5], "verdict": "safe", "distance": 0.71, "nearest": 0,
             "reason": "a reason", "detectors": ["CenterFace"], "redaction": None},
            {"number": 1, "box_ltrb": [24, 5, 40, 25], "verdict": "redacted", "distance": None, "nearest": None,
             "reason": "a reason", "detectors": [], "redaction": "solid"}],
        "faces": {"lost": 0, "new": 1, "elsewhere": 0}, "nobody_passed": False, "policy": "redact",
        "tries": [{"seed": 2**64 - 1, "anonymization_scale": 1.25, "verdicts": ["safe", "recognisable"],
                   "distance": None, "kept": True}]},
    "threshold": {"distance": 0.6, "recogniser": "dlib ResNet", "false_accept_rate": 0.001, "source": "calibrated"},
    "recogniser": TOOL, "detectors": [{**TOOL, "name": "CenterFace", "sha256": []}],
    "sampling": {"seed": 2**64 - 1, "anonymization_scale": 1.25},
    "file": {"name": "camouflage_00001.jpg", "format": "JPEG", "quality": 95, "pixels_sha256": SHA,
             "file_sha256": SHA},
    "models": [{"file": "model.safetensors", "sha256": SHA}]}


def written(*verdicts: str, **changed) -> dict[str, Any]:
    """A manifest as it is saved now."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    made = report_of(reports, [pixels], verdicts or ("safe", "redacted"), **changed)
    return encoding.manifest(made, 0, encoding.encoded(made, 0, pixels, "PNG", 95), "camouflage_00001.png",
                           [("model.safetensors", SHA)])


SECOND = read(json.dumps(FIRST))


def edited(manifest: dict[str, Any], path: str, *value: Any) -> str:
    """The text of a manifest with one field changed, or left out where there is no value."""
    changed = copy.deepcopy(manifest)
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    target: Any = changed
    for part in parents:
        target = target[part]
    if value:
        target[last] = value[0]
    else:
        del target[last]
    return json.dumps(changed)


def fields(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Path and value of everything in plain data."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inside = [(f"{path}.{key}" if path else str(key), child) for key, child in children]
    return [one for where, child in inside for one in [(where, child), *fields(child, where)]]


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verdicts", "changed"), [
    ((), {}), (("safe", "new redacted", "area redacted"), {}), (("new redacted",), {"nobody_passed": True}),
    (("area redacted",), {})])
def test_what_is_saved_is_read_as_it_is(verdicts, changed):
    manifest = written(*verdicts, **changed)
    assert read(json.dumps(manifest)) == manifest
    jsonschema.validate(manifest, SCHEMA[2])


def test_a_picture_with_nobody_in_it_is_read():
    pixels = np.zeros((8, 8, 3), np.uint8)
    made = report_of(reports, [pixels], (), nobody_passed=True)
    manifest = encoding.manifest(made, 0, encoding.encoded(made, 0, pixels, "PNG", 95), "a_00001.png")
    assert read(json.dumps(manifest))["checked"]["verdict"] == "nobody"
    with pytest.raises(CamouflageError, match="names nobody of the original, and nobody chose"):
        read(edited(manifest, "checked.nobody_passed", False))


def test_version_1_is_read_in_the_form_of_version_2():
    jsonschema.validate(FIRST, SCHEMA[1])
    jsonschema.validate(SECOND, SCHEMA[2])
    assert SECOND["version"] == 2 and (SECOND["notes"], SECOND["second_recognisers"]) == ([], [])
    assert SECOND["threshold"] == {**FIRST["threshold"], "laxer_than_advised": False}
    assert SECOND["checked"]["moved"] is None
    assert SECOND["checked"]["persons"] == [{**person, "kind": "original", "likeness": None}
                                            for person in FIRST["checked"]["persons"]]
    new = {"version", "notes", "second_recognisers", "checked", "threshold"}
    assert {key: SECOND[key] for key in SECOND.keys() - new} == {key: FIRST[key] for key in FIRST.keys() - new}
    assert read(json.dumps(SECOND)) == SECOND


def test_where_in_a_batch_a_picture_was_sampled_is_read():
    attempt = {**SECOND["checked"]["tries"][0], "batch": {"place": 1, "together": [1, 4]}}
    text = edited(SECOND, "checked.tries.0", attempt)
    jsonschema.validate(json.loads(text), SCHEMA[2])
    assert read(text)["checked"]["tries"] == [attempt]


def test_each_schema_takes_its_version_only():
    for schema in SCHEMA.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for manifest, version in ((FIRST, 2), (SECOND, 1), ({**SECOND, "version": 1}, 1), ({**FIRST, "version": 2}, 2)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(manifest, SCHEMA[version])


def test_notes_second_recognisers_and_more_come_through():
    manifest = written()
    pixels = np.zeros((8, 8, 3), np.uint8)
    made = report_of(reports, [pixels], ("safe",))
    laxer = Threshold(0.5, made.threshold.recogniser, advised=0.6)
    manifest.update({key: value for key, value in reports.Report(
        made.pictures, laxer, made.recogniser, made.detectors, second=(made.recogniser,)).to_json(0).items()
        if key in ("notes", "second_recognisers", "threshold")}, more={"bodies": {"count": 1}})
    found = read(json.dumps(manifest))
    jsonschema.validate(found, SCHEMA[2])
    assert found["notes"] == ["The threshold is laxer than advised (0.600)."]
    assert found["threshold"]["laxer_than_advised"] is True
    assert [info["name"] for info in found["second_recognisers"]] == ["dlib ResNet"]
    assert found["more"] == {"bodies": {"count": 1}}


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 2**60])
def test_a_newer_version_is_refused(version):
    with pytest.raises(CamouflageError, match=rf"must have version 1 or 2, but got {version}. It was made by a newer "
                                              "version of this pack: update the pack"):
        read(edited(SECOND, "version", version))


@pytest.mark.parametrize("version", [0, -1, True, 2.0, "2", None, [2]])
def test_what_is_no_version_is_refused(version):
    with pytest.raises(CamouflageError, match="must have version 1 or 2, but got .* was changed after it was written"):
        read(edited(SECOND, "version", version))


@pytest.mark.parametrize(("text", "error"), [
    (b"{}", "must be a text, but got a bytes"), ("", "no valid JSON"), ("{", "no valid JSON"),
    ("[]", r"format 'camouflage-manifest', but got \[\]"), ("null", "but got None"),
    ("{}", "but got the format None"), ('{"format": "camouflage-faces"}', "the format 'camouflage-faces'"),
    ('{"format": {"a": []}}', "the format {'a'"), ("[" * 100_000, "nested too deep"),
    (json.dumps(SECOND).replace('"lost": 0', '"lost": 0, "lost": 0'), "the key 'lost' twice"),
    (json.dumps(SECOND).replace("0.71", "NaN"), "contains NaN"),
    (json.dumps(SECOND).replace("0.71", "1e999"), r"persons\[0\].distance must be a number from 0 on, but got inf"),
    (json.dumps(SECOND).replace('"lost": 0', f'"lost": {"9" * 5000}'), "integers of at most 20 digits")])
def test_hostile_text_is_refused(text, error):
    with pytest.raises(CamouflageError, match=error):
        read(text)


def test_a_text_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(manifests, "MAX_JSON", 100)
    with pytest.raises(CamouflageError, match="at most 100 are accepted"):
        read(json.dumps(SECOND))


@pytest.mark.parametrize("first", [True, False])
def test_whatever_the_schema_refuses_the_reader_refuses(first):
    """Every field left out, and put to values of every type: the reader never takes what the schema does not."""
    manifest, version = (FIRST, 1) if first else (SECOND, 2)
    validator, refused, taken = jsonschema.Draft202012Validator(SCHEMA[version]), 0, 0
    for path, value in fields(manifest):
        others = [(), *((other,) for other in (None, True, -1, 0, 10**9, 0.5, -0.5, "", "x", "a/b_00001.png", [], {},
                                                 [value], {"a": value}))]
        for other in others:
            if not other and path.rsplit(".", 1)[-1].isdigit():
                continue
            text = edited(manifest, path, *other)
            allowed = validator.is_valid(json.loads(text))
            try:
                read(text)
                taken += 1
                assert allowed, f"{path} = {other}"
            except CamouflageError as error:
                refused += 1
                assert "must " in str(error) or "save the picture again" in str(error).lower(), f"{path}: {error}"
                contradicts = path.endswith(("verdict", "pixels_sha256", "persons"))
                assert not allowed or contradicts, f"{path} = {other}: {error}"
    assert refused > 500 and taken > 50


@pytest.mark.parametrize(("manifest", "path", "value", "error"), [
    (SECOND, "checked.verdict", "safe", "verdict is 'safe', but the worst of its persons is 'redacted'"),
    (SECOND, "checked.persons", [], "verdict is 'redacted', but the worst of its persons is 'nobody'"),
    (SECOND, "file.pixels_sha256", "f" * 64, "checked on other pixels than those of its file"),
    (SECOND, "checked.persons.0.verdict", "recognisable",
     r"persons\[0\].verdict must be one of safe, redacted, exempt, but "),
    (SECOND, "checked.persons.1.kind", "dog", r"persons\[1\].kind must be one of original, new, area, but got 'dog'"),
    (SECOND, "checked.tries.0.batch", None, r"tries\[0\].batch must be an object with exactly the keys place, toget"),
    (SECOND, "checked.tries.0.batch", {"place": 0, "together": []}, r"together must have at least 1 entries"),
    (SECOND, "checked.tries.0.batch", {"place": -1, "together": [0]}, r"tries\[0\].batch.place must be"),
    (SECOND, "checked.moved", "mirrored", "checked.moved must be null, but got 'mirrored'"),
    (SECOND, "file.name", "../a_00001.png", "file.name must be a picture's name without a folder"),
    (SECOND, "file.name", "a_00001.png\n", "file.name must be a picture's name"),
    (SECOND, "more", [], r"The manifest.more must be an object, but got \[\]"),
    (SECOND, "source", "jane.jpg", "The manifest must be an object with exactly the keys"),
    (FIRST, "more", {}, "is of version 1, which has no 'more'"),
    (FIRST, "checked.tries.0.batch", {"place": 0, "together": [0]}, r"tries\[0\] is of version 1, which has no 'batch"),
    (FIRST, "notes", ["x"], "The manifest is of version 1, which has no notes"),
    (FIRST, "checked.persons.0.kind", "new", r"persons\[0\] is of version 1, which has no kind"),
    (FIRST, "threshold.laxer_than_advised", True, "threshold is of version 1, which has no laxer_than_advised"),
    (FIRST, "checked", None, "checked must be an object, but got None"),
    (FIRST, "checked.persons", {}, "persons must be a list"), (FIRST, "threshold", [], "threshold must be an object")])
def test_the_error_names_the_place(manifest, path, value, error):
    with pytest.raises(CamouflageError, match=error):
        read(edited(manifest, path, value))
