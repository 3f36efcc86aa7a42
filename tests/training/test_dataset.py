"""The prepared dataset: what is written is read, whatever happened to the file's end."""

import contextlib
import errno
import json
import os
import random
import re
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from camouflage.errors import CamouflageError
from camouflage.training import shards
from camouflage.training.dataset import Dataset
from camouflage.training.shards import ShardReader, ShardWriter, shard_file
from training_data import synthetic_dataset, synthetic_info, synthetic_sample

ROOT = Path(__file__).resolve().parents[2]


def small(seed: int):
    """A sample of few bytes, for tests that look at every one."""
    whole = synthetic_sample(seed, (1, 1), (1,))
    return replace(whole, text=whole.text[:, :1], image=whole.image[:1], picture=replace(whole.picture, faces=()))


def small_info():
    info = synthetic_info()
    return replace(info, text_width=1, image_width=1, empty_text=info.empty_text[:, :1].contiguous())


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


def test_what_is_written_is_read(tmp_path):
    samples = [synthetic_sample(i, (3, 5), (0, 1, 3)) for i in range(6)]
    info = synthetic_info(resolution=40)
    write(tmp_path, samples[:4], info, 1, 2)
    write(tmp_path, samples[3:], info, 0, 2)  # one picture is in both
    dataset = Dataset.open(tmp_path)
    samples.sort(key=lambda sample: sample.source)
    assert dataset.sources == [sample.source for sample in samples]
    assert all(same(a, b) for a, b in zip(dataset, samples, strict=True))
    assert dataset.sizes == [(3, 5)] * 6 and {sample.picture.width for sample in samples} == {40}
    assert dataset.persons == [len(sample.picture.faces) for sample in samples] and len(set(dataset.persons)) > 1
    assert dataset[0].latent.dtype == torch.float32 and torch.equal(dataset.info.empty_text, info.empty_text)
    assert dataset.info.settings() == info.settings() and dataset.info.settings()["faces threshold"] == 0.5
    with pytest.raises(IndexError):
        dataset[6]


def test_any_arrow_library_reads_it(tmp_path):
    dataset = synthetic_dataset(tmp_path, 3)
    table = pa.ipc.open_stream(shard_file(tmp_path, 0, 1)).read_all()
    assert sorted(table["source"].to_pylist()) == dataset.sources and table.num_rows == 3


def test_the_same_pictures_make_the_same_bytes(tmp_path):
    samples = [small(i) for i in range(3)]
    assert write(tmp_path / "a", samples).read_bytes() == write(tmp_path / "b", samples).read_bytes()


def test_a_file_cut_anywhere_keeps_its_whole_rows_and_goes_on(tmp_path):
    samples = [small(i) for i in range(2)]
    path = write(tmp_path, samples)
    whole = path.read_bytes()
    ends = [end for _, end, _ in ShardReader(path).rows()]
    for cut in range(ShardReader(path).start, len(whole) + 1):
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
    start, end, _ = list(ShardReader(path).rows())[1]
    whole[end - 16:end] = bytes(16)  # the message's frame is there, and the end of its body is not
    assert path.read_bytes()[start:end] != whole[start:end]
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
    offset = next(ShardReader(path).rows())[0]
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
    for content in (b"", b"\0" * 100, b"photo" * 100, pa.schema([("x", pa.int8())]).serialize().to_pybytes()):
        path = shard_file(tmp_path / "odd", 0, 1)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        with pytest.raises(CamouflageError, match="cannot be read as a part of a dataset|not a dataset of version 1"):
            Dataset.open(tmp_path / "odd")
        with pytest.raises(CamouflageError), ShardWriter(tmp_path / "odd"):
            pass
        assert path.read_bytes() == content


def outcome(folder: Path) -> str:
    """"whole" if everything in the folder can be read, else the sentence that says why not; no traceback."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a torn end
            list(Dataset.open(folder))
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
        said.add(outcome(tmp_path).split(" at byte")[0])
        with contextlib.suppress(CamouflageError), ShardWriter(tmp_path) as shard:
            assert shard.sources <= known.keys()
    assert "whole" in said and len(said) > 5


@pytest.mark.parametrize(("change", "value"), [
    ("text_width", "x"), ("text_width", -1), ("image_width", -1), ("text_width", 2), ("resolution", None),
    ("caption", []), ("faces", "x"), ("base_model", 5), ("more", 1), ("vae", ...)])
def test_a_header_of_another_form_is_explained(tmp_path, change, value):
    path = write(tmp_path, [small(0)])
    schema = pa.ipc.open_stream(path).schema
    data = json.loads(schema.metadata[b"camouflage"])
    data[change] = value
    if value is ...:
        del data[change]
    for text in (json.dumps(data), "[]", "7", "[" * 100_000, "\0"):
        header = schema.with_metadata({**schema.metadata, b"camouflage": text.encode()}).serialize().to_pybytes()
        path.write_bytes(header)
        assert re.match(f"{re.escape(str(path))} (cannot be read as a part of|is not a dataset)", outcome(tmp_path))
    path.write_bytes(schema.with_metadata({b"camouflage": schema.metadata[b"camouflage"]}).serialize().to_pybytes())
    assert "cannot be read as a part of a dataset" in outcome(tmp_path)


def test_compressed_rows_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = write(tmp_path, [small(0)])
    header = path.read_bytes()[:ShardReader(path).start]
    batch, = pa.ipc.open_stream(path)
    assert outcome(tmp_path) == "whole"
    monkeypatch.setattr(shards, "_TAIL", 0)
    for codec in ("lz4", "zstd"):
        options = pa.ipc.IpcWriteOptions(compression=codec)
        path.write_bytes(header + batch.serialize(options=options).to_pybytes())
        with monkeypatch.context() as patch:
            patch.setattr(pa.ipc, "read_record_batch", lambda *_: pytest.fail("it was unpacked"))
            assert "a row is compressed" in outcome(tmp_path)


def test_rows_that_lie_with_a_right_checksum_are_explained(tmp_path):
    path = write(tmp_path, [small(0)])
    header, (row,) = path.read_bytes()[:ShardReader(path).start], pa.ipc.open_stream(path).read_all().to_pylist()
    for change in ({"faces": "[]"}, {"faces": '{"version": 1, "pictures": []}'}, {"latent": b""}, {"height": -8},
                   {"width": 2**31 - 1}, {"text": b"123"}, {"height": None}, {"caption": None}):
        lying = row | change
        if None not in lying.values():
            lying["crc"] = shards._crc(lying)
        path.write_bytes(header + pa.RecordBatch.from_pylist([lying], shards._SCHEMA).serialize().to_pybytes())
        assert outcome(tmp_path) != "whole"


def test_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "VERSION", 2)
    write(tmp_path, [small(0)])
    monkeypatch.undo()
    with pytest.raises(CamouflageError, match="version 1"):
        Dataset.open(tmp_path)


def test_other_settings_are_named_and_refused(tmp_path):
    write(tmp_path, [small(0)], small_info(), 0, 2)
    other = replace(small_info(), resolution=512, faces={"threshold": 0.8})
    for shard in (0, 1):  # the file itself, and one beside it
        with pytest.raises(CamouflageError, match="resolution: 512, not 64; faces threshold: 0.8, not 0.5"):
            write(tmp_path, [small(1)], other, shard, 2)
    write(tmp_path / "elsewhere", [small(1)], other, 1, 2).rename(tmp_path / "shard-00001-of-00002.arrow")
    with pytest.raises(CamouflageError, match="resolution: 512, not 64"):
        Dataset.open(tmp_path)


def test_another_number_of_shards_is_refused(tmp_path):
    write(tmp_path, [small(0)], num_shards=2)
    with pytest.raises(CamouflageError, match="shard-00000-of-00002.arrow, but you asked for 3"):
        write(tmp_path, [small(0)], num_shards=3)


def test_one_process_writes_a_shard(tmp_path):
    code = ("import sys; from pathlib import Path; from camouflage.training.shards import Shard\n"
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
                       {"latent": torch.zeros(4, 2, 2)}, {"text": sample.text[:76]}, {"image": torch.zeros(2)}):
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
