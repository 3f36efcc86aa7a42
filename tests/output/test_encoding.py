"""Saving: nothing but pixels in a file, only what is vouched for, and a manifest that says so."""

import copy
import dataclasses
import hashlib
import io
import json
import tracemalloc
import warnings

import jsonschema
import numpy as np
import pytest
from PIL import Image

from camouflage import images
from camouflage.errors import CamouflageError
from camouflage.output import encoding
from camouflage.verification import report as reports
from sampled import sampled
from saved import judged, report_of, traces

SCHEMA = json.loads(encoding.MANIFEST_SCHEMA.read_text(encoding="utf-8"))
LOSSLESS = [("PNG", 95), ("WebP", 100)]
LOSSY = [("JPEG", 95), ("JPEG", 100), ("WebP", 95), ("WebP", 99)]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


# --- the files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "quality"), LOSSLESS + LOSSY)
def test_a_file_holds_nothing_but_pixels(pixels, format, quality):
    data = encoding.encode(pixels, format, quality)
    assert traces(data) == []
    assert Image.open(io.BytesIO(data)).format == format.upper()
    shown = encoding.decode(data)
    assert shown.dtype == np.uint8 and shown.shape == pixels.shape
    assert np.array_equal(shown, pixels) == ((format, quality) in LOSSLESS)


@pytest.mark.parametrize("format", encoding.FORMATS)
def test_the_check_for_traces_sees_traces(pixels, format):
    exif = Image.Exif()
    exif.get_ifd(0x8825)[29] = "2024:05:17"  # GPSDateStamp
    exif[0x010E] = "jane.jpg"
    for options in ({"icc_profile": b"profile"}, {} if format == "PNG" else {"xmp": b"<x:xmpmeta/>"}):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format, **options)
        assert bool(traces(file.getvalue())) == bool(options)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, exif=exif)
    assert {"secret '2024:05:17'", "secret 'jane.jpg'"} <= set(traces(file.getvalue(), "2024:05:17", "jane.jpg"))
    assert traces(encoding.encode(pixels, format) + b"more")


def test_jpeg_keeps_the_full_resolution_of_colours(pixels):
    with Image.open(io.BytesIO(encoding.encode(pixels, "JPEG", 30))) as picture:
        assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3


@pytest.mark.parametrize(("shape", "format", "quality", "text"), [
    ((1, 16384, 3), "WebP", 95, "16384 x 1 px, but WebP ends at 16383 px"),
    ((65501, 1, 3), "JPEG", 95, "1 x 65501 px, but JPEG ends at 65500 px"),
    ((10_001, 10_000, 3), "PNG", 95, r"10000 x 10001 px, 100\.0 megapixels, but at most 100 are saved"),
    ((8, 8, 3), "GIF", 95, "'format' is 'GIF'.*PNG, JPEG, WebP"),
    ((8, 8, 3), "JPEG", 0, "'quality' is 0"), ((8, 8, 3), "PNG", 101, "'quality' is 101"),
    ((8, 8, 4), "PNG", 95, "height x width x 3"), ((0, 8, 3), "PNG", 95, "height x width x 3")])
def test_what_a_format_cannot_hold(shape, format, quality, text):
    with pytest.raises(CamouflageError, match=text):
        encoding.encode(np.broadcast_to(np.uint8(0), shape), format, quality)


def test_the_limits_themselves_can_be_saved():
    for shape, format in (((1, 16383, 3), "WebP"), ((65500, 1, 3), "JPEG"), ((1, 65600, 3), "PNG")):
        assert encoding.decode(encoding.encode(np.zeros(shape, np.uint8), format)).shape == shape


@pytest.mark.parametrize(("format", "quality"), sampled([("PNG", 95), ("JPEG", 95), ("WebP", 100)], 1))
def test_100_megapixels_come_back_without_a_warning(format, quality):
    before, large = Image.MAX_IMAGE_PIXELS, np.zeros((10_000, 10_000, 3), np.uint8)
    large[-1, -1] = 255
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = encoding.decode(encoding.encode(large, format, quality))
    assert shown.shape == large.shape and shown[-1, -1].min() > 100 and shown[:-8].max() == 0
    assert before == Image.MAX_IMAGE_PIXELS, "Pillow's own protection stays as it is for everybody else"


@pytest.mark.parametrize("format", encoding.FORMATS)
def test_what_cannot_be_read_again_is_said(monkeypatch, pixels, format):
    data = encoding.encode(pixels, format)
    for broken in (data[:40], data[:8], b"nothing", b""):
        with pytest.raises(CamouflageError, match="cannot be read again"):
            encoding.decode(broken)
    monkeypatch.setattr(encoding, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(CamouflageError, match="cannot be read again .*64 x 48 px"):
        encoding.decode(data)


@pytest.mark.parametrize("format", encoding.FORMATS)
def test_a_file_is_read_as_pillow_reads_it(monkeypatch, pixels, format):
    data = encoding.encode(pixels, format, 50)
    monkeypatch.setattr(images, "BAND", 64 * 5)
    assert np.array_equal(encoding.decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


# --- only what is vouched for -----------------------------------------------------------------------------------


def test_a_good_report_vouches(pixels):
    for verdicts in (("safe",), ("redacted", "safe", "redacted")):
        made = report_of(reports, [pixels, 255 - pixels], verdicts)
        assert encoding.vouch(made, [pixels, 255 - pixels]) is made
    assert encoding.vouch(report_of(reports, [pixels], (), nobody_passed=True), [pixels])


@pytest.mark.parametrize("other", [None, {}, "safe", 1])
def test_no_report_no_picture(pixels, other):
    with pytest.raises(CamouflageError, match="'report' must be the report of .*not verified is not saved"):
        encoding.vouch(other, [pixels])


def test_a_report_of_other_pixels_is_refused(pixels):
    made = report_of(reports, [pixels, 255 - pixels])
    changed = pixels.copy()
    changed[20, 30, 1] ^= 1
    for batch in ([changed, 255 - pixels], [255 - pixels, pixels], [pixels.swapaxes(0, 1), 255 - pixels]):
        with pytest.raises(CamouflageError, match=r"not of picture 0 .* pixels were changed"):
            encoding.vouch(made, batch)
    for batch in ([pixels], [pixels, 255 - pixels, pixels]):
        with pytest.raises(CamouflageError, match=f"'image' has {len(batch)} pictures, but 'report' is of 2"):
            encoding.vouch(made, batch)


def test_an_edited_report_is_refused(pixels):
    made = report_of(reports, [pixels], ("recognisable",))
    whitewashed = judged(reports, pixels, ("safe",))
    for edited in (dataclasses.replace(made, pictures=(whitewashed,)),
                   dataclasses.replace(report_of(reports, [pixels]), threshold=reports.Threshold(0.1, "dlib ResNet")),
                   dataclasses.replace(report_of(reports, [pixels]), seal="")):
        with pytest.raises(CamouflageError, match="report was changed after the verification"):
            encoding.vouch(edited, [pixels])


@pytest.mark.parametrize("verdict", ["unverifiable", "recognisable"])
def test_whoever_is_not_settled_is_named_by_number_and_box(pixels, verdict):
    with pytest.raises(CamouflageError, match=r"Nothing was saved.*person 1 \(16 x 20 px at 24, 5\): " + verdict) as e:
        encoding.vouch(report_of(reports, [pixels], ("safe", verdict)), [pixels])
    assert "person 0" not in str(e.value)
    for verdicts in ((), ("new redacted",)):
        with pytest.raises(CamouflageError, match="No face was found in the original"):
            encoding.vouch(report_of(reports, [pixels], verdicts), [pixels])


def test_a_moved_picture_is_refused_whatever_its_persons_are(pixels):
    with pytest.raises(CamouflageError, match="Nothing was saved.*shows the original upside down; connect an"):
        encoding.vouch(report_of(reports, [pixels], ("safe",), moved="upside down"), [pixels])


@pytest.mark.parametrize(("format", "quality"), LOSSY)
def test_a_lossy_file_is_verified_again(pixels, format, quality):
    made = report_of(reports, [pixels, 255 - pixels], after=("redacted", "safe"))
    ready = encoding.encoded(made, 1, 255 - pixels, format, quality)
    shown = encoding.decode(ready.data)
    assert ready.checked.pixels_sha256 == reports.pixels_sha256(shown) != reports.pixels_sha256(255 - pixels)
    assert [str(person.verdict) for person in ready.checked.persons] == ["redacted", "safe"]
    written = encoding.manifest(made, 1, ready, "x_00001.jpg")
    assert written["checked"] == ready.checked.to_json() and written["checked"]["pixels_sha256"] == (
        written["file"]["pixels_sha256"])

    worse = report_of(reports, [pixels], after=("safe", "recognisable"))
    with pytest.raises(CamouflageError, match=rf"{format} at quality {quality} .*person 1 \(16 x 20 px.*Choose PNG"):
        encoding.encoded(worse, 0, pixels, format, quality)
    with pytest.raises(CamouflageError, match="cannot verify the changed ones. Choose PNG"):
        encoding.encoded(report_of(reports, [pixels]), 0, pixels, format, quality)


def test_the_second_look_has_to_be_at_the_file(pixels):
    other = report_of(reports, [pixels])
    other = dataclasses.replace(other, recheck=lambda _, now: judged(reports, pixels, ("safe", "safe")))
    short, more, area, covered = (report_of(reports, [pixels], after=("safe", *besides)) for besides in (
        (), ("safe", "safe"), ("area redacted",), ("safe", "new redacted")))
    for made in (other, short, more, area, covered):
        with pytest.raises(CamouflageError, match="second look was at another picture"):
            encoding.encoded(made, 0, pixels, "JPEG", 95)


@pytest.mark.parametrize("verdict", ["unverifiable", "recognisable"])
def test_a_face_that_the_encoder_brought_to_light_is_named(pixels, verdict):
    before = ("safe", "new redacted", "area redacted")
    made = report_of(reports, [pixels], before, after=("safe", "new redacted", f"new {verdict}", "area redacted"))
    with pytest.raises(CamouflageError, match=rf"JPEG at quality 95 changes picture 0 .*new face 2 .*: {verdict}, "
                                              r"nothing to compare; a reason\. Choose PNG"):
        encoding.encoded(made, 0, pixels, "JPEG", 95)
    assert encoding.encoded(report_of(reports, [pixels], before, after=before), 0, pixels, "JPEG", 95).checked.passes


def test_a_large_picture_is_compared_in_little_memory(monkeypatch):
    large = np.zeros((4096, 4096, 3), np.uint8)
    decoded = large.copy()
    made = report_of(reports, [large], after=("safe", "recognisable"))
    monkeypatch.setattr(encoding, "decode", lambda data: decoded)
    monkeypatch.setattr(encoding, "encode", lambda *_: b"")
    tracemalloc.start()
    try:
        assert encoding.encoded(made, 0, large, "PNG", 95).checked == made.pictures[0]
        assert tracemalloc.get_traced_memory()[1] < large.nbytes / 4
    finally:
        tracemalloc.stop()
    decoded[-1, -1, 2] = 1
    with pytest.raises(CamouflageError, match="does not pass any more"):
        encoding.encoded(made, 0, large, "PNG", 95)


@pytest.mark.parametrize(("format", "quality"), LOSSLESS)
def test_a_lossless_file_needs_no_second_look(pixels, format, quality):
    made = report_of(reports, [pixels])
    assert encoding.encoded(made, 0, pixels, format, quality).checked == made.pictures[0]


# --- the manifest -----------------------------------------------------------------------------------------------


def a_manifest(pixels: np.ndarray, **fields) -> dict:
    made = report_of(reports, [pixels], **fields)
    ready = encoding.encoded(made, 0, pixels, "PNG", 95)
    return encoding.manifest(made, 0, ready, "camouflage_00001.png", [("model.safetensors", "a" * 64)])


def objects(value):
    """All dictionaries in plain data."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(child)


def test_the_manifest_fits_its_schema(pixels):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for fields in ({}, {"verdicts": (), "nobody_passed": True}, {"verdicts": ("new redacted",), "nobody_passed": True},
                   {"verdicts": ("safe", "new redacted", "area redacted")}, {"verdicts": ("area redacted",)}):
        written = a_manifest(pixels, **fields)
        assert json.loads(json.dumps(written, allow_nan=False)) == written
        jsonschema.validate(written, SCHEMA)
    made = report_of(reports, [pixels])
    assert {key: value for key, value in a_manifest(pixels).items() if key not in ("file", "models")} == made.to_json(0)
    data = encoding.encode(pixels, "PNG")
    assert a_manifest(pixels)["file"] == {
        "name": "camouflage_00001.png", "format": "PNG", "quality": None,
        "pixels_sha256": reports.pixels_sha256(pixels), "file_sha256": hashlib.sha256(data).hexdigest()}


def test_the_schema_takes_nothing_more_and_nothing_less(pixels):
    written = a_manifest(pixels)
    for i, one in enumerate(objects(written)):
        for key in (*one, None):
            changed = copy.deepcopy(written)
            target = list(objects(changed))[i]
            if key is None:
                target["source_name"] = "jane.jpg"
            else:
                del target[key]
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(changed, SCHEMA)
    for verdicts in (("recognisable",), ("unverifiable",), (), ("new redacted",), ("safe", "new unverifiable")):
        changed = {**written, "checked": judged(reports, pixels, verdicts).to_json()}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed, SCHEMA)
    moved = {**written, "checked": judged(reports, pixels, ("safe",), moved="mirrored").to_json()}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(moved, SCHEMA)


def test_there_is_room_for_what_other_tools_find(pixels):
    jsonschema.validate({**a_manifest(pixels), "more": {"bodies": {"verdict": "safe", "count": [1]}}}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**a_manifest(pixels), "more": []}, SCHEMA)


def test_every_field_of_the_schema_is_closed_and_described():
    more = SCHEMA["properties"]["more"]
    assert more["additionalProperties"] is True
    for one in objects(SCHEMA):
        if one.get("type") == "object" and one is not more:
            assert one["additionalProperties"] is False
            assert set(one["properties"]) - set(one["required"]) <= {"more" if one is SCHEMA else "batch"}
            assert all("$ref" in field or field["description"] for field in one["properties"].values())
