"""The prepare command: what it computes is what the nodes compute, and nothing that happens to it loses a picture."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from camouflage.comfy import in_process
from camouflage.errors import CamouflageError
from camouflage.method.faces import Faces
from camouflage.training import prepare, sidecars
from camouflage.training.dataset import Dataset
from camouflage.training.prepare import shard_of
from camouflage.training.shard_writer import ShardWriter
from camouflage.training.shards import ShardReader
from in_host import only_folder
from sampled import long
from testing.drawn_faces import draw
from training_command import SCRIPT
from training_data import prepare_options, restored_model_folders, synthetic_info, synthetic_sample

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")

# A process of its own, with random numbers instead of networks: `python -c CHILD folder dataset seconds bytes`.
CHILD = """
import resource, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background process ignores
import test_prepare
from camouflage.training import prepare
from training_command import train
folder, dataset, seconds, most = sys.argv[1:]
class Slow(test_prepare.Fake):
    def sample(self, *arguments):
        time.sleep(float(seconds))
        return super().sample(*arguments)
prepare.Networks = Slow
if int(most):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
sys.exit(train("prepare", folder, "--dataset", dataset, "--resolution", 128, "--smallest-side", 64))
"""


class Fake:
    """Random numbers instead of networks; the same photo gives the same ones. Remembers what it was asked for."""

    asked: list[str] = []  # noqa: RUF012 - one list for all, emptied by the fixture

    def __init__(self, options):
        self.options = options

    def settings(self):
        return {"resolution": self.options.resolution, "faces": {"threshold": self.options.threshold}}

    def info(self):
        return synthetic_info(**self.settings())

    def prepared(self, photo):
        if photo.width > 4 * photo.height:
            raise CamouflageError("too long and thin")
        return torch.zeros(1, 64, 64, 3)

    def sample(self, source, image, photo):
        self.asked.append(source)
        return replace(synthetic_sample(int(source[:8], 16)), source=source)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(prepare, "Networks", Fake)
    Fake.asked.clear()
    return Fake


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve small photos, in two folders."""
    for i in range(12):
        path = tmp_path / "photos" / ("more" if i % 3 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((80, 90, 3), i, np.uint8)).save(path)
    return tmp_path / "photos"


def rows(path: Path) -> dict[str, bytes]:
    """The bytes of every row by source."""
    content = path.read_bytes()
    return {row.fields["source"]: content[row.start:row.end] for row in ShardReader(path).rows()}


# --- with the miniature networks, in the real host ----------------------------------------------------------------


@pytest.fixture(scope="module")
def real(host, miniature_models, tmp_path_factory):
    """Two photos of odd shapes, one with files beside it, prepared at 128 px."""
    folder = tmp_path_factory.mktemp("real")
    for i, (width, height) in enumerate(((211, 300), (340, 200)), 1):
        pixels, picture = draw(i, width, height, 2)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "2.txt").write_text("two people in front of a wall")
    (folder / "2.faces.json").write_text(Faces((picture,)).to_json())
    options = prepare_options([folder], folder / "data", models=[miniature_models])
    with restored_model_folders():
        assert prepare.main(options) == 0
        found = {prepare.source_of(f"0/{i}.png", folder / f"{i}.png"): i for i in (1, 2)}
        samples = {found[sample.source]: sample for sample in Dataset.open(options.dataset)}
        yield SimpleNamespace(folder=folder, options=options, samples=samples, info=Dataset.open(options.dataset).info)


def half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half().float()


def test_everything_is_what_the_nodes_compute(host, real):
    import folder_paths

    model = "Realistic_Vision_V5.1_fp16-no-ema.safetensors"
    _, clip, _ = host.run("CheckpointLoaderSimple", ckpt_name=model)
    vae, = host.run("VAELoader", vae_name="vae-ft-mse-840000-ema-pruned.safetensors")
    encoder, = host.run("CLIPVisionLoader", clip_name="CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors")
    for i, size in ((1, (128, 64)), (2, (64, 128))):
        photo = torch.from_numpy(np.array(Image.open(real.folder / f"{i}.png")).astype(np.float32) / 255)[None]
        image, width, height, _ = host.run("CamouflagePrepareImage", image=photo, size=128, fit="crop")
        sample = real.samples[i]
        assert (height, width) == size == (sample.picture.height, sample.picture.width)
        latent, = host.run("VAEEncode", vae=vae, pixels=image)
        assert torch.equal(sample.latent, half(latent["samples"][0] * 0.18215)) and sample.latent.std() > 0.05
        look, = host.run("CLIPVisionEncode", clip_vision=encoder, image=image, crop="none")
        assert torch.equal(sample.image, half(look.image_embeds[0]))
        text, = host.run("CLIPTextEncode", clip=clip, text=sample.caption)
        assert torch.equal(sample.text, half(text[0][0][0])) and sample.text.shape == (77, 768)
        if i == 1:  # nothing beside it: the networks speak
            (caption,), = host.run("CamouflageCaption", image=image)
            faces, = host.run("CamouflageFaceAttributes", image=image)
            assert sample.caption == caption and Faces((sample.picture,)).to_json() == faces.to_json()
    empty, = host.run("CLIPTextEncode", clip=clip, text="")
    assert torch.equal(real.info.empty_text, empty[0][0][0].half())
    digest = host.module("camouflage.comfy.weights").digest_of
    assert real.info.base_model == digest(Path(folder_paths.get_full_path_or_raise("checkpoints", model)))
    assert (real.info.resolution, real.info.fit, real.info.image) == (128, "crop", "CLIP embedding")
    assert (real.info.text_width, real.info.image_shape) == (768, [768])
    assert torch.equal(real.info.empty_image, torch.zeros(768).half())


def test_files_beside_a_photo_take_the_networks_place(real):
    sample, photo = real.samples[2], real.folder / "2.png"
    assert sample.caption == "two people in front of a wall"
    assert sample.picture == sidecars.scale_and_crop(sidecars.read_faces(photo, 200, 340), 64, 128)
    assert len(sample.picture.faces) == 2


def test_networks_that_are_not_needed_are_not_loaded(real, tmp_path, monkeypatch):
    photo = real.folder / "2.png"
    for name in ("2.png", "2.txt", "2.faces.json"):
        (tmp_path / name).write_bytes((real.folder / name).read_bytes())
    os.utime(tmp_path / "2.png", ns=(0, photo.stat().st_mtime_ns))
    for name in ("caption", "faces"):
        monkeypatch.setattr(prepare.Networks, name, lambda *_: pytest.fail("a network was asked"))
    options = prepare_options([tmp_path], tmp_path / "data", models=real.options.models)
    assert prepare.main(options) == 0
    source, row = rows(tmp_path / "data" / "shard-00000-of-00001.bin").popitem()
    assert rows(real.options.dataset / "shard-00000-of-00001.bin")[source] == row  # the same bytes once more


def test_a_missing_weight_is_named_as_in_the_nodes(real, monkeypatch, tmp_path):
    networks = prepare.Networks(real.options)
    only_folder(tmp_path, monkeypatch)
    with pytest.raises(CamouflageError, match="Weights for 'caption' are missing"):
        networks.caption(torch.zeros(1, 128, 128, 3))
    with pytest.raises(CamouflageError, match="Weights for 'face detector' are missing"):
        networks.faces(torch.zeros(1, 128, 128, 3))


def test_a_long_caption_is_cut_to_the_window(real):
    networks = prepare.Networks(real.options)
    with torch.inference_mode():
        long = networks.text("a man and a woman " * 60)
        assert long.shape == (77, 768) and not torch.equal(long, networks.text("a man"))


@long
def test_a_process_of_its_own_enters_the_host_and_gives_the_same_bytes(real, comfyui, tmp_path):
    """From the command line's side: a real ComfyUI named by an option, models folders, nothing imported before."""
    environment = {key: value for key, value in os.environ.items() if key not in ("CAMOUFLAGE_COMFYUI", "COMFYUI_PATH")}
    done = subprocess.run([sys.executable, SCRIPT, "prepare", real.folder, "--dataset", tmp_path / "data",
                           "--comfyui", comfyui, "--models", real.options.models[0], "--resolution", "128",
                           "--smallest-side", "64"],
                          cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Prepared: 2. Already there: 0. Skipped: 0." in done.stdout and "64 x 128 px: 1" in done.stdout
    name = "shard-00000-of-00001.bin"
    assert (tmp_path / "data" / name).read_bytes() == (real.options.dataset / name).read_bytes()


# --- with random numbers instead of networks ----------------------------------------------------------------------


def test_bad_photos_are_listed_and_the_others_prepared(fake, folder, tmp_path, capsys):
    whole = (folder / "0.png").read_bytes()
    (folder / "zero.jpg").touch()
    (folder / "text\tfile.png").write_bytes(b"words")
    (folder / "cut.png").write_bytes(whole[:len(whole) - 30])
    (folder / "bad.png").write_bytes(whole)
    (folder / "bad.faces.json").write_text("[]")
    Image.new("RGB", (300, 63)).save(folder / "small.png")
    Image.new("RGB", (900, 64)).save(folder / "thin.png")
    options = prepare_options([folder], tmp_path / "data")
    assert prepare.main(options) == 0
    listed = (tmp_path / "data" / "shard-00000-of-00001.skipped.txt").read_text().splitlines()
    assert sorted(listed) == sorted(f"{folder}/{name}\t{reason}" for name, reason in {
        "bad.png": "its .faces.json is no faces JSON", "cut.png": "cut short",
        "small.png": "less than 64 px on the shorter side", "text\\tfile.png": "no JPEG, PNG or WebP picture",
        "thin.png": "too long and thin", "zero.jpg": "empty"}.items())
    out = capsys.readouterr().out
    assert "Prepared: 12. Already there: 0. Skipped: 6." in out and f"empty (1): {folder}/zero.jpg" in out
    assert "holds 12 pictures, 0 of them without a face" in out and "  64 x 64 px: 12" in out
    assert "18/18" in out and len(Dataset.open(options.dataset)) == 12
    assert len(os.listdir(tmp_path / "data")) == 3  # the shard, the list, the lock

    (folder / "bad.faces.json").unlink()
    options.sidecars = False
    (folder / "zero.jpg").unlink()
    assert prepare.main(options) == 0
    assert "Prepared: 1. Already there: 12. Skipped: 4." in capsys.readouterr().out
    assert len((tmp_path / "data" / "shard-00000-of-00001.skipped.txt").read_text().splitlines()) == 4


def test_a_second_run_opens_nothing_and_changes_nothing(fake, folder, tmp_path, monkeypatch):
    options = prepare_options([folder], tmp_path / "data")
    shard = tmp_path / "data" / "shard-00000-of-00001.bin"
    assert prepare.main(options) == 0
    first, asked = shard.read_bytes(), list(fake.asked)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "open_photo", lambda *_: pytest.fail("a photo was opened"))
        assert prepare.main(options) == 0
    assert shard.read_bytes() == first and fake.asked == asked and len(asked) == 12

    Image.new("RGB", (80, 80)).save(folder / "new.png")
    os.utime(folder / "0.png", ns=(1, 1))  # a changed photo counts as a new one
    assert prepare.main(options) == 0
    assert shard.read_bytes().startswith(first) and len(fake.asked) == len(Dataset.open(options.dataset)) == 14


def test_the_order_of_decoding_is_that_of_the_photos(fake, folder, tmp_path, monkeypatch):
    opened, opening = [], prepare.open_photo

    def open_slowly(path, *arguments):
        opened.append(path)
        time.sleep(0.05 if path.stem in ("0", "6") else 0)
        return opening(path, *arguments)

    monkeypatch.setattr(prepare, "open_photo", open_slowly)
    ahead = []
    monkeypatch.setattr(fake, "prepared", lambda self, photo: ahead.append(len(opened)) or torch.zeros(1, 64, 64, 3))
    for name in "ab":
        assert prepare.main(prepare_options([folder], tmp_path / name)) == 0
    assert fake.asked[:12] == fake.asked[12:]
    assert max(count - done for done, count in enumerate(ahead[:12])) <= 6  # bounded


def test_shards_divide_the_photos_and_new_ones_move_none(fake, folder, tmp_path):
    for shard in (2, 0, 1):
        assert prepare.main(prepare_options([folder], tmp_path / "data", num_shards=3, shard=shard)) == 0
    parts = [set(rows(path)) for path in sorted((tmp_path / "data").glob("*.bin"))]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(fake.asked) == 12 and all(parts)
    Image.new("RGB", (80, 80)).save(folder / "0 new.png")
    for shard in range(3):
        assert prepare.main(prepare_options([folder], tmp_path / "data", num_shards=3, shard=shard)) == 0
    assert len(fake.asked) == len(Dataset.open(tmp_path / "data")) == 13
    counts = np.bincount([shard_of(f"0/{i}.jpg", 4) for i in range(4000)])
    assert counts.min() > 900 and len(counts) == 4


def test_another_folder_or_settings_are_kept_apart(fake, folder, tmp_path):
    assert prepare.main(prepare_options([folder], tmp_path / "data")) == 0
    before = (tmp_path / "data" / "shard-00000-of-00001.bin").read_bytes()
    for change, words in (({"threshold": 0.8}, "faces threshold: 0.8, not 0.5"),
                          ({"num_shards": 2}, "you asked for 2 shards"),
                          ({"folders": [tmp_path / "data"]}, "There are no photos"),
                          ({"folders": [tmp_path / "nowhere"]}, "There is no folder")):
        with pytest.raises(CamouflageError, match=words):
            prepare.main(prepare_options(**{"folders": [folder], "dataset": tmp_path / "data", **change}))
    assert (tmp_path / "data" / "shard-00000-of-00001.bin").read_bytes() == before


def test_a_folder_without_a_usable_photo_is_said(fake, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"words")
    with pytest.raises(CamouflageError, match="None of the photos could be used"):
        prepare.main(prepare_options([tmp_path], tmp_path / "data"))


def test_a_folder_without_faces_is_prepared(fake, folder, tmp_path, monkeypatch, capsys):
    def nobody(self, source, image, photo):
        return replace(synthetic_sample(1), source=source, picture=replace(synthetic_sample(1).picture, faces=()))

    monkeypatch.setattr(fake, "sample", nobody)
    assert prepare.main(prepare_options([folder], tmp_path / "data")) == 0
    assert "holds 12 pictures, 12 of them without a face" in capsys.readouterr().out
    assert Dataset.open(tmp_path / "data").persons == [0] * 12


def test_failures_that_are_no_photos_fault_stop_and_name_it(fake, folder, tmp_path, monkeypatch, capsys):
    def third(self, source, image, photo):
        if len(self.asked) == 2:
            raise failure
        return sample(self, source, image, photo)

    sample = fake.sample
    monkeypatch.setattr(fake, "sample", third)
    failure = torch.OutOfMemoryError("out of memory")
    with pytest.raises(RuntimeError, match=r"photos/.*\.png could not be prepared"):
        prepare.main(prepare_options([folder], tmp_path / "data"))
    failure = CamouflageError("Weights for 'caption' are missing.")
    with pytest.raises(CamouflageError, match=r"Weights for 'caption' are missing\."):
        prepare.main(prepare_options([folder], tmp_path / "data"))
    failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        prepare.main(prepare_options([folder], tmp_path / "data"))
    assert "What was prepared is kept" in capsys.readouterr().out
    assert len(Dataset.open(tmp_path / "data")) == 2
    monkeypatch.setattr(fake, "sample", sample)
    assert prepare.main(prepare_options([folder], tmp_path / "data")) == 0
    assert len(fake.asked) == len(set(fake.asked)) == len(Dataset.open(tmp_path / "data")) == 12


# --- killed, and out of space -------------------------------------------------------------------------------------


def child(folder: Path, dataset: Path, seconds: float = 0, most: int = 0) -> subprocess.Popen:
    places = os.pathsep.join(map(str, (Path(__file__).parent, ROOT / "tests" / "support", ROOT)))
    return subprocess.Popen([sys.executable, "-c", CHILD, folder, dataset, str(seconds), str(most)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": places})


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_goes_on_where_it_was(fake, folder, tmp_path, number):
    shard, dataset = tmp_path / "data" / "shard-00000-of-00001.bin", tmp_path / "data"
    with child(folder, dataset, 0.1) as process:
        while process.poll() is None and (not shard.exists() or shard.stat().st_size < 500_000):
            time.sleep(0.01)
        process.send_signal(number)
        code = process.wait()
    assert code == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    kept = rows(shard)
    assert 0 < len(kept) < 12
    if number == signal.SIGKILL:  # in the middle of the next row
        with open(shard, "ab") as file:
            file.write(next(iter(kept.values()))[:5000])
    assert prepare.main(prepare_options([folder], dataset)) == 0
    assert len(rows(shard)) == 12 and rows(shard).items() >= kept.items()
    assert set(fake.asked) == rows(shard).keys() - kept.keys() and len(fake.asked) == 12 - len(kept)
    assert prepare.main(prepare_options([folder], tmp_path / "at once")) == 0
    assert shard.read_bytes() == (tmp_path / "at once" / shard.name).read_bytes()


@posix
def test_a_full_disk_is_said_and_loses_nothing(fake, folder, tmp_path):
    with child(folder, tmp_path / "data", most=700_000) as process:
        _, err = process.communicate()
    assert process.returncode == 2 and "cannot be written (File too large)" in err and "Make room" in err
    shard = tmp_path / "data" / "shard-00000-of-00001.bin"
    kept = rows(shard)
    assert 2 < len(kept) < 12 and max(row.end for row in ShardReader(shard).rows()) == shard.stat().st_size
    assert prepare.main(prepare_options([folder], tmp_path / "data")) == 0
    assert len(rows(shard)) == 12 and set(fake.asked) == rows(shard).keys() - kept.keys()


def test_a_dataset_that_is_being_written_is_left_alone(fake, folder, tmp_path):
    if os.name != "posix":
        pytest.skip("locks of one process are shared there")
    with ShardWriter(tmp_path / "data"), pytest.raises(CamouflageError, match="Another process is writing"):
        prepare.main(prepare_options([folder], tmp_path / "data"))
    assert not fake.asked


def test_an_unusable_models_folder_is_named(tmp_path):
    with pytest.raises(CamouflageError, match="no models folder"):
        in_process.enter(None, [tmp_path / "nowhere"])
