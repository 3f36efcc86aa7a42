"""What is read from a dataset and written to one, in its three forms, against the public libraries."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from camouflage.batch import folders, tars
from camouflage.batch.names import Names, secret_of
from camouflage.batch.photos import RUN, Changed, Unit
from camouflage.batch.plan import demand_apart
from camouflage.batch.sources import Wanted, open_source
from camouflage.errors import CamouflageError
from camouflage.photos import Unreadable

RECORD = {"format": "camouflage-manifest", "checked": {"verdict": "redacted"}, "file": {"name": "x.png"}}


def png(value: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def make(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(number))
    return root


def opened(*paths: Path, keep: tuple[str, ...] = (), secret: str = "", **columns: str):
    return open_source(Wanted(paths, Names(secret), keep, **columns))


def photos(source) -> list:
    return [photo for unit in source.units() for photo in source.photos(unit)]


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname = len(data), 1_700_000_000, "somebody"
            tar.addfile(member, io.BytesIO(data))
    return path


def table(path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_is_walked_in_the_order_of_its_paths(tmp_path):
    make(tmp_path, "b/2.png", "b/10.JPG", "a.png", "Zoë/ф.webp", "b/.hidden.png", "notes.md")
    source, aside = opened(tmp_path)
    assert [photo.key for photo in photos(source)] == ["Zoë/ф.webp", "a.png", "b/10.JPG", "b/2.png"]
    assert aside == "2 other files in the folder were left aside."


def test_a_circle_of_links_ends_and_links_to_folders_are_followed(tmp_path):
    make(tmp_path / "a", "1.png")
    make(tmp_path / "elsewhere", "2.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "other").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    source, _ = opened(tmp_path / "a")
    assert [photo.key for photo in photos(source)] == ["1.png", "gone.png", "other/2.png"]
    with pytest.raises(Unreadable, match="is not there any more"):
        photos(source)[1].read()


def test_blocks_are_parts_of_the_sorted_list(tmp_path):
    make(tmp_path, *(f"{n:03d}.png" for n in range(folders.BLOCK + 3)))
    units = opened(tmp_path)[0].units()
    assert [(unit.number, unit.count) for unit in units] == [(0, folders.BLOCK), (1, 3)]


def test_no_two_pictures_get_one_name(tmp_path):
    names = ["a.jpg", "a.png", "a.jpg.png", "A.webp", "b/a.jpg", "é.png", "é.jpg"]
    make(tmp_path, *names)
    written = [photo.name for photo in photos(opened(tmp_path)[0])]
    folded = {folders._folded(name) for name in written}
    assert len(folded) == len(names)
    assert "b/a" in written, "where nothing is like it, the name is the picture's own"


def test_hashed_names_say_nothing_and_are_the_same_again(tmp_path):
    make(tmp_path, "john.png", "jane.png")
    one, again, other = (photos(opened(tmp_path, secret=secret)[0]) for secret in ("aa" * 16, "aa" * 16, "bb" * 16))
    assert [photo.name for photo in one] == [photo.name for photo in again] != [photo.name for photo in other]
    assert not any("j" in photo.name or "n" in photo.name for photo in one), "hex"


def test_the_key_of_names_is_made_once_and_is_private(tmp_path):
    keys = {secret_of(tmp_path / "out") for _ in range(3)}
    (file,) = (tmp_path / "out" / RUN).iterdir()
    assert keys == {file.read_text()} and len(file.read_text()) == 32 and file.stat().st_mode & 0o777 == 0o600
    assert secret_of(tmp_path / "other") not in keys


def test_a_list_of_paths_keeps_its_order(tmp_path):
    make(tmp_path, "x/2.png", "x/1.png", "y/3.png")
    (tmp_path / "list.txt").write_text(f"# mine\nx/2.png\n\n{tmp_path}/y/3.png\nx/1.png\nx/2.png\n")
    assert [photo.key for photo in photos(opened(tmp_path / "list.txt")[0])] == ["x/2.png", "y/3.png", "x/1.png"]


def test_photos_by_name(tmp_path):
    make(tmp_path, "x/2.png", "x/y/1.png")
    found = photos(opened(tmp_path / "x/2.png", tmp_path / "x/y/1.png")[0])
    assert [photo.key for photo in found] == ["2.png", "y/1.png"] and found[0].read() == png(0)


def test_a_file_that_changes_is_not_read(tmp_path):
    make(tmp_path, "1.png")
    source, _ = opened(tmp_path)
    (photo,) = photos(source)
    (tmp_path / "1.png").write_bytes(png(3) + b"more")
    with pytest.raises(Unreadable, match="changed after the run had listed it"):
        photo.read()


def test_a_folder_is_written_with_records_beside_the_pictures_and_what_was_asked_to_be_kept(tmp_path):
    make(tmp_path / "in", "b/1.jpg")
    (tmp_path / "in/b/1.txt").write_text("a caption")
    (tmp_path / "in/b/1.cls").write_text("7")
    source, _ = opened(tmp_path / "in", keep=("txt",))
    (unit,), output = source.units(), tmp_path / "out"
    with source.writer(unit, output) as writer:
        assert writer.add(photos(source)[0], ".png", png(9), RECORD) == "b/1.png"
        assert not list(output.glob("b/*")), "nothing appears before the block is whole"
    assert sorted(path.name for path in output.glob("b/*")) == ["1.json", "1.png", "1.txt"]
    with source.read_back(unit, output) as read:
        assert read("b/1.png") == (png(9), RECORD)
    assert not list((output / "_camouflage" / "staging").iterdir())


def test_a_block_that_fails_leaves_nothing(tmp_path):
    source, _ = opened(make(tmp_path / "in", "1.png"))
    with pytest.raises(RuntimeError), source.writer(source.units()[0], tmp_path / "out") as writer:
        writer.add(photos(source)[0], ".png", png(), RECORD)
        raise RuntimeError
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize(("made", "named", "said"), [
    ([], ["nothing"], "There is no"),
    (["a/x.md"], ["a"], "There is no picture in"),
    (["a/1.png", "b/1.png"], ["a", "b"], "Name one folder"),
    (["a/1.png", "a/2.tar"], ["a"], "holds both pictures and shards"),
    (["1.png", "2.tar"], ["1.png", "2.tar"], "sources of one kind"),
])
def test_what_is_no_source_is_refused(tmp_path, made, named, said):
    make(tmp_path, *made)
    with pytest.raises(CamouflageError, match=said):
        opened(*(tmp_path / name for name in named))


@pytest.mark.parametrize(("columns", "keep", "said"), [({"image": "x"}, (), "are for parquet files"),
                                                       ({}, ("json",), "cannot take 'json'"),
                                                       ({}, ("png",), "cannot take 'png'")])
def test_options_that_mean_nothing_are_refused(tmp_path, columns, keep, said):
    make(tmp_path, "1.png")
    with pytest.raises(CamouflageError, match=said):
        opened(tmp_path, keep=keep, **columns)


@pytest.mark.parametrize("output", ["in/out", "in", ".", "link/out"])
def test_output_and_source_must_lie_apart(tmp_path, output):
    source, _ = opened(make(tmp_path / "in", "1.png"))
    (tmp_path / "link").symlink_to(tmp_path / "in", target_is_directory=True)
    with pytest.raises(CamouflageError, match="within each other"):
        demand_apart(source, tmp_path / output)
    demand_apart(source, tmp_path / "out")


def test_photos_that_are_named_may_have_their_output_beside_them(tmp_path):
    make(tmp_path / "out", "1.png")
    source, _ = opened(make(tmp_path, "1.png") / "1.png")
    demand_apart(source, tmp_path / "out")
    with pytest.raises(CamouflageError, match="within each other"):
        demand_apart(opened(tmp_path / "out" / "1.png")[0], tmp_path / "out")


# --- tar ------------------------------------------------------------------------------------------------------------


def test_a_shard_is_read_as_webdataset_reads_it(tmp_path):
    path = shard(tmp_path / "0.tar", {"a/x.jpg": png(1), "a/x.txt": b"hello", "y.cls": b"3", "y.png": png(2),
                                      "z.json": b"{}", "v.1.png": png(3)})
    source, _ = opened(path, keep=("txt",))
    mine = {photo.key: photo for photo in photos(source)}
    theirs = {sample["__key__"]: sample for sample in webdataset.WebDataset(str(path), shardshuffle=False)}
    assert set(mine) == {key for key, sample in theirs.items() if {"jpg", "png"} & sample.keys()} == {"a/x", "y"}
    (unit,) = source.units()
    assert unit.count == 2
    with tarfile.open(path):  # read inside the pass, as a worker does
        for photo in source.photos(unit):
            assert photo.read() == theirs[photo.key].get("jpg", theirs[photo.key].get("png"))
            assert photo.more == ({"txt": b"hello"} if photo.key == "a/x" else {})


def test_a_shard_is_written_as_webdataset_reads_it(tmp_path):
    path = shard(tmp_path / "0.tar", {"b.jpg": png(1), "b.txt": b"hello", "a.png": png(2), "a.txt": b"you"})
    source, _ = opened(path, keep=("txt",))
    (unit,), output = source.units(), tmp_path / "out"
    with source.writer(unit, output) as writer:
        for photo in source.photos(unit):
            writer.add(photo, ".png", photo.read(), RECORD)
        assert not (output / "0.tar").exists()
    read = list(webdataset.WebDataset(str(output / "0.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == ["b", "a"], "the order is kept"
    assert [sample["txt"] for sample in read] == [b"hello", b"you"]
    assert [json.loads(sample["json"]) for sample in read] == [RECORD] * 2
    assert [sample["png"] for sample in read] == [png(1), png(2)]
    with tarfile.open(output / "0.tar") as written:
        assert {(member.mtime, member.uname, member.uid) for member in written} == {(0, "", 0)}
    with source.read_back(unit, output) as back:
        assert back("a.png") == (png(2), RECORD)


@pytest.mark.parametrize(("members", "said"), [
    ({"a.jpg": b"x", "a.png": b"y"}, "2 pictures under one key"),
    ({"../a.png": b"x"}, "leads out of a folder"), ({"/a.png": b"x"}, "leads out of a folder"),
    ({"b/.png": b"x"}, "begins with a dot"),
])
def test_samples_that_cannot_be_taken_are_listed(tmp_path, members, said):
    (photo,) = photos(opened(shard(tmp_path / "0.tar", members))[0])
    assert said in photo.problem


def test_packed_shards_are_read_and_broken_ones_refused(tmp_path):
    shard(tmp_path / "0.tar", {"a.png": png(1)})
    with tarfile.open(tmp_path / "1.tar.gz", "w:gz") as tar:
        tar.add(make(tmp_path, "b.png") / "b.png", "b.png")
    source, _ = opened(tmp_path / "0.tar", tmp_path / "1.tar.gz")
    assert [unit.count for unit in source.units()] == [1, 1]
    with source.writer(source.units()[1], tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "1.tar").is_file()
    (tmp_path / "2.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(CamouflageError, match="cannot be read as a tar file"):
        opened(tmp_path / "2.tar")[0].units()


def test_a_shard_that_changes_ends_its_part(tmp_path):
    source, _ = opened(shard(tmp_path / "0.tar", {"a.png": png(1), "b.png": png(2)}))
    (unit,) = source.units()
    with pytest.raises(Changed, match="changed while the run went on"):
        for photo in source.photos(unit):
            photo.read()
            os.utime(tmp_path / "0.tar", ns=(1, 1))
    with pytest.raises(Changed):
        next(source.photos(unit))


def test_stem_and_ending_as_webdataset_cuts_them():
    from webdataset.tariterators import base_plus_ext

    for name in ("a.png", "a/b.c/d.e.png", "a.b/c", "x/.hidden"):
        assert (base_plus_ext(name) or (None, None))[0] in (None, tars.stem_and_ending(name)[0])


# --- parquet --------------------------------------------------------------------------------------------------------


def pictures(*values: int) -> list:
    return [{"bytes": png(value), "path": f"john{value}.png"} for value in values]


@pytest.mark.parametrize("image", [pictures(1, 2), [png(1), png(2)]], ids=["struct", "binary"])
def test_a_table_is_read_and_written(tmp_path, image):
    path = table(tmp_path / "0.parquet", id=["b", "a"], image=image, text=["hello", "you"], name=["John", "Jane"])
    source, _ = opened(path, keep=("text",), key="id")
    (unit,), output = source.units(), tmp_path / "out"
    assert unit.count == 2
    with source.writer(unit, output) as writer:
        for photo in source.photos(unit):
            writer.add(photo, ".png", photo.read(), RECORD)
    read = pq.read_table(output / "0.parquet").to_pandas()
    assert list(read.columns) == ["key", "image", "verdict", "record", "text"]
    assert list(read["key"]) == ["b", "a"] and list(read["text"]) == ["hello", "you"]
    assert [one["bytes"] for one in read["image"]] == [png(1), png(2)]
    assert [one["path"] for one in read["image"]] == ["b.png", "a.png"], "not the original's"
    assert set(read["verdict"]) == {"redacted"} and json.loads(read["record"][0]) == RECORD
    with source.read_back(unit, output) as back:
        assert [back(name) for name in ("b.png", "a.png")] == [(png(1), RECORD), (png(2), RECORD)]


def test_rows_without_keys_are_counted_and_empty_ones_listed(tmp_path):
    source, _ = opened(table(tmp_path / "0.parquet", image=pa.array([png(1), None, b""], pa.binary())))
    found = photos(source)
    assert [photo.key for photo in found] == ["00000000", "00000001", "00000002"]
    for photo in found[1:]:
        with pytest.raises(Unreadable, match="no picture in it"):
            photo.read()


def test_a_key_that_stands_there_twice_is_listed(tmp_path):
    path = table(tmp_path / "0.parquet", id=["a", "a"], image=[png(1), png(2)])
    found = photos(opened(path, key="id")[0])
    assert found[0].problem is None and "twice" in found[1].problem and found[0].key != found[1].key


@pytest.mark.parametrize(("columns", "wanted", "said"), [
    ({"a": [1]}, {}, "has 0 columns that can hold pictures"),
    ({"a": [b"1"], "b": [b"2"]}, {}, "2 columns that can hold pictures: a, b"),
    ({"a": [b"1"]}, {"image": "x"}, "has no column 'x'"),
    ({"a": [1], "b": [b"1"]}, {"image": "a"}, "holds no pictures"),
    ({"a": [b"1"], "record": ["1"]}, {"keep": ("record",)}, "'record' cannot be kept"),
])
def test_columns_that_are_not_there_are_said(tmp_path, columns, wanted, said):
    path = table(tmp_path / "0.parquet", **columns)
    with pytest.raises(CamouflageError, match=said):
        opened(path, **wanted)[0].units()


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "0.parquet").write_bytes(b"nothing")
    with pytest.raises(CamouflageError, match="cannot be read as a parquet file"):
        opened(tmp_path / "0.parquet")[0].units()


# --- all ------------------------------------------------------------------------------------------------------------


def test_a_unit_comes_back_from_its_text(tmp_path):
    for unit in (*opened(make(tmp_path / "in", "b/1.png", "Zoë.png"))[0].units(),
                 *opened(shard(tmp_path / "0.tar", {"a.png": png()}))[0].units()):
        again = Unit.from_text(unit.to_text())
        assert again == unit and again.digest == unit.digest


def test_a_units_digest_knows_names_and_sizes_and_no_times(tmp_path):
    make(tmp_path / "in", "1.png", "2.png")
    (before,) = opened(tmp_path / "in")[0].units()
    os.utime(tmp_path / "in/1.png", ns=(1, 1))
    assert opened(tmp_path / "in")[0].units()[0].digest == before.digest
    (tmp_path / "in/1.png").write_bytes(png() + b"!")
    assert opened(tmp_path / "in")[0].units()[0].digest != before.digest
    assert isinstance(before, Unit) and np.array_equal([before.count], [2])


def test_what_would_hang_or_run_a_reader_is_listed(tmp_path):
    """A pipe has no end, a name may be no text, and EPS is a program."""
    import small_datasets

    folder = make(tmp_path / "in", "1.png")
    os.mkfifo(folder / "pipe.png")
    (folder / os.fsdecode(b"odd\xff.png")).write_bytes(png())
    at = small_datasets.make_dataset(tmp_path, {"eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n"})
    outcomes = {one.key: (one.state, one.reason) for one in at.worker.work(at.units[0], {})}
    assert {state for state, _ in outcomes.values()} == {"unreadable"} and len(outcomes) == 4
    assert "no file" in outcomes["pipe.png"][1] and "no text" in outcomes["odd\\xff.png"][1]
    assert "no AVIF" in outcomes["eps.jpg"][1]


def test_a_folder_with_many_cross_links_is_walked_once(tmp_path):
    folder = tmp_path / "in"
    for level in range(20):
        make(folder / str(level), "1.png")
        for other in range(20):
            (folder / str(level) / f"to{other}").symlink_to(folder / str(other), target_is_directory=True)
    assert len(opened(folder)[0].paths) == 20
