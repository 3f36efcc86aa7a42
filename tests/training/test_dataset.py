"""The prepared dataset: what is written is read, whatever happened to the file's end."""

import contextlib
import errno
import json
import os
import random
import re
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from camouflage.errors import CamouflageError
from camouflage.method.faces import Faces
from camouflage.training import shards
from camouflage.training.dataset import Dataset
from camouflage.training.shard_writer import ShardWriter
from camouflage.training.shards import ShardReader, shard_file
from sampled import sampled
from training_data import FARL_STATES, synthetic_dataset, synthetic_info, synthetic_sample

ROOT = Path(__file__).resolve().parents[2]


def small(seed: int):
    """A sample of few bytes, for tests that look at every one."""
    whole = synthetic_sample(seed, (1, 1), (1,))
    return replace(whole, text=whole.text[:, :1], image=whole.image[:1], picture=replace(whole.picture, faces=()))


def small_info():
    info = synthetic_info()
    return replace(info, text_width=1, image_shape=[1], empty_text=info.empty_text[:, :1].contiguous(),
                   empty_image=info.empty_image[:1])


def write(folder: Path, samples, info=None, shard: int = 0, num_shards: int = 1) -> Path:
    with ShardWriter(folder, shard, num_shards) as file:
        file.start(info or small_info())
        for sample in samples:
            if sample.source not in file.sources:
                file.add(sample)
    return file.path


def same(a, b) -> bool:
    return (a.source, a.caption, a.picture) == (b.source, b.caption, b.picture) and all(
        torch.equal(getattr(a, name), getattr(b, name)) for name in ("latent", "text", "image"))


@pytest.mark.parametrize("kind", [{}, FARL_STATES], ids=["embedding", "states"])
def test_what_is_written_is_read(tmp_path, kind):
    info = synthetic_info(resolution=40, **kind)
    samples = [synthetic_sample(i, (3, 5), (0, 1, 3), info.image_shape) for i in range(6)]
    write(tmp_path, samples[:4], info, 1, 2)
    write(tmp_path, samples[3:], info, 0, 2)  # one picture is in both
    dataset = Dataset.open(tmp_path)
    samples.sort(key=lambda sample: sample.source)
    assert dataset.sources == [sample.source for sample in samples]
    assert all(same(a, b) for a, b in zip(dataset, samples, strict=True))
    assert dataset.sizes == [(3, 5)] * 6 and {sample.picture.width for sample in samples} == {40}
    assert dataset.persons == [len(sample.picture.faces) for sample in samples] and len(set(dataset.persons)) > 1
    assert dataset[0].latent.dtype == torch.float32 and torch.equal(dataset.info.empty_text, info.empty_text)
    assert torch.equal(dataset.info.empty_image, info.empty_image) and bool(info.empty_image.any()) == bool(kind)
    assert dataset.info.settings() == info.settings() and dataset.info.settings()["faces threshold"] == 0.5
    with pytest.raises(IndexError):
        dataset[6]


@pytest.mark.parametrize("kind", [{}, FARL_STATES], ids=["embedding", "states"])
def test_the_layout_is_the_one_that_is_described(tmp_path, kind):
    """Read by hand, as somebody would who has only the description."""
    info = synthetic_info(resolution=40, **kind)
    sample = synthetic_sample(1, (3, 5), (2,), info.image_shape)
    content = write(tmp_path, [sample], info).read_bytes()
    found = []
    while content:
        magic, text, numbers, crc = struct.unpack("<4sIII", content[:16])
        frame, content = content[:16 + text + numbers], content[16 + text + numbers:]
        assert magic == b"CMFG" and crc == zlib.crc32(frame[4:12] + frame[16:])
        found += [json.loads(frame[16:16 + text]), torch.frombuffer(bytearray(frame[16 + text:]), dtype=torch.half)]
    header, empty, row, numbers = found
    assert (header["format"], header["version"], header["resolution"]) == ("camouflage-dataset", 3, 40)
    assert (header["fit"], header["image"], header["image_shape"]) == (
        ("square", "FaRL states", [5, 768]) if kind else ("crop", "CLIP embedding", [768]))
    size = 5 * 768 if kind else 768
    text, nothing = empty.split((77 * 768, size))
    assert torch.equal(text.view(77, 768), info.empty_text) and torch.equal(nothing, info.empty_image.flatten())
    assert (row["source"], row["height"], row["width"], row["persons"]) == (sample.source, 24, 40, 2)
    assert Faces.from_json(row["faces"]).pictures == (sample.picture,) and row["caption"] == "picture 1"
    parts = numbers.float().split((4 * 3 * 5, 77 * 768, size))
    for part, wanted in zip(parts, (sample.latent, sample.text, sample.image), strict=True):
        assert torch.equal(part, wanted.flatten())


def test_the_same_pictures_make_the_same_bytes(tmp_path):
    samples = [small(i) for i in range(3)]
    assert write(tmp_path / "a", samples).read_bytes() == write(tmp_path / "b", samples).read_bytes()


def test_a_file_cut_anywhere_keeps_its_whole_rows_and_goes_on(tmp_path):
    samples = [small(i) for i in range(2)]
    path = write(tmp_path, samples)
    whole = path.read_bytes()
    ends = [row.end for row in ShardReader(path).rows()]
    start = ShardReader(path).start
    borders = {start, start + 1, ends[0] - 1, ends[0], ends[0] + 1, len(whole) - 1, len(whole)}
    for cut in sorted(borders.union(sampled(range(start, len(whole)), 200))):
        for tail in (b"", bytes(8 * (cut % 3) + cut % 5)):  # a power cut leaves zeros
            content = whole[:cut] + tail
            path.write_bytes(content)
            kept = sum(content[:end] == whole[:end] for end in ends)  # a row may end in zeros itself
            with ShardWriter(tmp_path) as shard:
                assert shard.sources == {sample.source for sample in samples[:kept]}
                assert shard.cut_off == len(content) - (ends[kept - 1] if kept else ShardReader(path).start)
        if cut % 7 == 0 or cut in ends:
            assert write(tmp_path, samples).read_bytes() == whole


def test_rows_whose_bytes_never_came_onto_the_disk_are_cut_off(tmp_path):
    samples = [small(i) for i in range(3)]
    path = write(tmp_path, samples)
    whole = bytearray(path.read_bytes())
    _, _, end, _ = list(ShardReader(path).rows())[1]
    whole[end - 16:end] = bytes(16)  # the frame's head is there, and the end of its numbers is not
    assert path.read_bytes() != whole
    path.write_bytes(whole)
    assert write(tmp_path, samples).read_bytes() != whole and len(Dataset.open(tmp_path)) == 3


def test_the_reader_stops_at_the_last_whole_row_and_says_so(tmp_path):
    samples = [small(i) for i in range(3)]
    path = write(tmp_path, samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Dataset.open(tmp_path)) == 3
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="that are not whole"):
        dataset = Dataset.open(tmp_path)
    assert dataset.sources == sorted(sample.source for sample in samples[:2])


def test_a_damaged_middle_is_not_taken_for_a_torn_end(tmp_path, monkeypatch):
    path = write(tmp_path, [small(i) for i in range(3)])
    offset = next(ShardReader(path).rows()).start
    content = bytearray(path.read_bytes())
    content[offset:offset + 4] = b"torn"
    path.write_bytes(content)
    monkeypatch.setattr(shards, "_TAIL", 100)
    with pytest.raises(CamouflageError, match=f"damaged at byte {offset}"):
        Dataset.open(tmp_path)
    with pytest.raises(CamouflageError, match=f"damaged at byte {offset}"), ShardWriter(tmp_path):
        pass
    assert path.read_bytes() == content


def test_a_damaged_row_is_never_handed_on(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_TAIL", 0)
    path = write(tmp_path, [small(0)])
    content = bytearray(path.read_bytes())
    place = content.index(small(0).latent.half().numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CamouflageError, match="checksum"):
        Dataset.open(tmp_path)[0]


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(CamouflageError, match="no prepared dataset in"):
        Dataset.open(tmp_path / "nowhere")
    write(tmp_path / "empty", [])
    with pytest.raises(CamouflageError, match="holds no picture"):
        Dataset.open(tmp_path / "empty")
    for content in (b"", b"\0" * 100, b"photo" * 100, shards._frame({})):
        path = shard_file(tmp_path / "odd", 0, 1)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        with pytest.raises(CamouflageError, match="cannot be read as a part of a dataset|not a dataset of version 3"):
            Dataset.open(tmp_path / "odd")
        with pytest.raises(CamouflageError), ShardWriter(tmp_path / "odd"):
            pass
        assert path.read_bytes() == content


def outcome(folder: Path, *known) -> str:
    """"whole" if everything in the folder can be read, else the sentence that says why not; no traceback.

    What is read must be among ``known`` samples, where there are any.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a torn end
            found = list(Dataset.open(folder))
        assert not known or all(any(same(sample, other) for other in known) for sample in found)
        return "whole"
    except CamouflageError as error:
        return str(error)


def test_damaged_files_are_explained_in_a_sentence(tmp_path):
    """Seeded damage of every kind, half of it to the header: nothing but a sentence comes of it, and no wrong row."""
    samples = [replace(small(i), caption=f"picture {i}") for i in range(3)]
    path = write(tmp_path, samples)
    whole, start = path.read_bytes(), ShardReader(path).start
    rng, known, said = random.Random(0), {sample.source: sample for sample in samples}, set()
    for _ in range(1500):
        content = bytearray(whole)
        end = rng.choice((start, len(whole)))
        for _ in range(rng.choice((1, 1, 2, 8))):
            place, length = rng.randrange(end), rng.choice((1, 4, 40))
            kind = rng.randrange(5)
            if kind == 0:
                content[place % len(content)] ^= 1 << rng.randrange(8)
            elif kind == 1:
                content[place:place + length] = rng.randbytes(length)
            elif kind == 2:
                content[place:place + length] = rng.choice((b"\0", b"\xff")) * length
            elif kind == 3:
                del content[place:place + length]
            else:
                content[place:place] = content[rng.randrange(end):][:length]
        path.write_bytes(content)
        said.add(re.sub(r".*\(|\).*| at byte.*", "", outcome(tmp_path, *samples)))
        with contextlib.suppress(CamouflageError), ShardWriter(tmp_path) as shard:
            assert shard.sources <= known.keys()
    assert "whole" in said and {"it is cut short", "there is no frame", "its checksum does not match"} <= said


def refilled(frame: bytes, fields: object) -> bytes:
    """A frame with other JSON (bytes as they are), and a checksum that matches."""
    _, length, numbers, _ = struct.unpack("<4sIII", frame[:16])
    text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    rest = text + frame[16 + length:16 + length + numbers]
    lengths = struct.pack("<II", len(text), numbers)
    return b"CMFG" + lengths + struct.pack("<I", zlib.crc32(lengths + rest)) + rest


@pytest.mark.parametrize(("change", "value"), [
    ("text_width", "x"), ("text_width", -1), ("text_width", 2), ("text_width", 10**400),
    ("image_shape", [-1]), ("image_shape", [2]), ("image_shape", []), ("image_shape", [1, 1, 1]),
    ("image_shape", [True]), ("image_shape", ["x"]), ("image_shape", 1), ("image_shape", [10**400]),
    ("image", None), ("fit", 1), ("image_width", 1), ("resolution", None), ("resolution", True),
    ("caption", []), ("faces", "x"), ("base_model", 5), ("more", 1),
    ("vae", ...), ("version", 1), ("format", [])])
def test_a_header_that_lies_with_a_right_checksum_is_explained(tmp_path, change, value):
    path = write(tmp_path, [small(0)])
    content = path.read_bytes()
    header = content[:ShardReader(path).start]
    fields = json.loads(header[16:header.index(b"}", header.index(b'"vae"')) + 1])
    fields[change] = value
    if value is ...:
        del fields[change]
    for text in (fields, [], 7, b"[" * 100_000, b"\0", b"\xff"):
        path.write_bytes(refilled(header, text) + content[len(header):])
        assert re.match(f"{re.escape(str(path))} (cannot be read as a part of|is not a dataset)", outcome(tmp_path))


@pytest.mark.parametrize("change", [
    {"faces": "[]"}, {"faces": '{"version": 1, "pictures": []}'}, {"height": -8}, {"width": 2**31}, {"height": 16},
    {"width": 10**400}, {"height": None}, {"caption": None}, {"more": 1}, {"persons": -1}, {"source": 5},
    {"height": True}])
def test_a_row_that_lies_with_a_right_checksum_is_explained(tmp_path, monkeypatch, change):
    path = write(tmp_path, [small(0)])
    content = path.read_bytes()
    row, = ShardReader(path).rows()
    monkeypatch.setattr(shards, "_TAIL", 0)
    assert outcome(tmp_path) == "whole"
    for text in (row.fields | change, [], 7, b"[" * 100_000, b"\0", b"\xff"):
        path.write_bytes(content[:row.start] + refilled(content[row.start:], text))
        assert f"{path} is damaged at byte {row.start}" in outcome(tmp_path)


def test_a_dataset_of_the_first_version_is_refused(tmp_path):
    (tmp_path / "shard-00000-of-00001.arrow").write_bytes(b"ARROW1")
    for attempt in (Dataset.open, lambda folder: write(folder, [small(0)])):
        with pytest.raises(CamouflageError, match=r"00001\.arrow is of an earlier version .*Prepare the photos again"):
            attempt(tmp_path)


def test_another_version_is_refused(tmp_path, monkeypatch):
    for other in (2, 4):
        monkeypatch.setattr(shards, "VERSION", other)
        write(tmp_path / str(other), [small(0)])
        monkeypatch.undo()
        with pytest.raises(CamouflageError, match="version 3"):
            Dataset.open(tmp_path / str(other))


def test_other_settings_are_named_and_refused(tmp_path):
    write(tmp_path, [small(0)], small_info(), 0, 2)
    other = replace(small_info(), resolution=512, faces={"threshold": 0.8}, fit="square", image="FaRL states")
    for shard in (0, 1):  # the file itself, and one beside it
        with pytest.raises(CamouflageError, match="resolution: 512, not 64; fit: square, not crop; "
                           "image: FaRL states, not CLIP embedding; faces threshold: 0.8, not 0.5"):
            write(tmp_path, [small(1)], other, shard, 2)
    write(tmp_path / "elsewhere", [small(1)], other, 1, 2).rename(tmp_path / "shard-00001-of-00002.bin")
    with pytest.raises(CamouflageError, match="resolution: 512, not 64"):
        Dataset.open(tmp_path)


def test_another_number_of_shards_is_refused(tmp_path):
    write(tmp_path, [small(0)], num_shards=2)
    with pytest.raises(CamouflageError, match="shard-00000-of-00002.bin, but you asked for 3"):
        write(tmp_path, [small(0)], num_shards=3)


def test_one_process_writes_a_shard(tmp_path):
    code = ("import sys; from pathlib import Path; from camouflage.training.shard_writer import ShardWriter\n"
            "with ShardWriter(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"in\n"
        with pytest.raises(CamouflageError, match="Another process is writing"):
            write(tmp_path, [small(0)])
        other.kill()
    write(tmp_path, [small(0)])
    assert len(Dataset.open(tmp_path)) == 1


def test_a_full_disk_loses_nothing_that_was_whole(tmp_path, monkeypatch):
    samples, write_some, room = [small(i) for i in range(3)], os.write, [0]

    def write_until_full(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write_some(descriptor, data[:room[0]])
        room[0] -= count
        return count

    with ShardWriter(tmp_path) as shard:
        shard.start(small_info())
        monkeypatch.setattr(os, "write", write_until_full)
        room[0] = 1_000_000
        shard.add(samples[0])
        size = shard.path.stat().st_size
        for room[0] in (0, 1, 100):
            with pytest.raises(OSError, match="No space left"):
                shard.add(samples[1])
            assert len(Dataset.open(tmp_path)) == 1 and shard.sources == {samples[0].source}
            assert shard.path.stat().st_size == size
        room[0] = 1_000_000
        shard.add(samples[1])  # somebody made room
    monkeypatch.undo()
    assert write(tmp_path, samples).read_bytes() == write(tmp_path / "at once", samples).read_bytes()


def test_samples_that_do_not_fit_are_refused(tmp_path):
    sample = small(0)
    with ShardWriter(tmp_path) as shard:
        with pytest.raises(ValueError, match="started"):
            shard.add(sample)
        shard.start(small_info())
        for change in ({"latent": sample.latent * torch.nan}, {"latent": sample.latent * 1e6},
                       {"latent": torch.zeros(4, 2, 2)}, {"text": sample.text[:76]}, {"image": torch.zeros(2)},
                       {"image": sample.image[None]}):
            with pytest.raises(ValueError, match=f"{next(iter(change))} must"):
                shard.add(replace(sample, **change))
        shard.add(sample)
        with pytest.raises(ValueError, match="not in it"):
            shard.add(sample)
    assert len(Dataset.open(tmp_path)) == 1


def test_threads_may_read_at_once(tmp_path):
    dataset = synthetic_dataset(tmp_path, 8)
    expected, wrong = list(dataset), []

    def read() -> None:
        for _ in range(5):
            wrong.extend(i for i in range(8) if not same(dataset[i], expected[i]))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_shard_that_is_not_there_is_told(tmp_path):
    write(tmp_path, [small(0)], num_shards=2)
    with pytest.warns(UserWarning, match="1 of 2 shards"):
        assert len(Dataset.open(tmp_path)) == 1
    write(tmp_path, [small(1)], None, 1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Dataset.open(tmp_path)) == 2
