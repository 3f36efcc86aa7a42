"""The prepare command: photos become a dataset of latents, captions, embeddings and faces.

Everything is computed by the host's and the nodes' own code, with the settings of the shipped Light workflows, so that
training sees what inference will see: camouflage_light_public.json's, or camouflage_light.json's with
--config light-authors.yaml. One picture at a time goes through the networks; photos are decoded ahead.

A photo is recognised by its folder's position, its path, its size in bytes and its time of change. So a second run does
only what is missing, without opening a file, and a photo that was changed counts as a new one; the dataset keeps the
old one as well. Which shard a photo belongs to depends on its position and path alone: more photos move none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from argparse import Namespace
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..comfy import in_process
from ..errors import CamouflageError
from ..files import write_whole
from ..images import check_sides
from ..method.faces import Picture
from ..photos import Unreadable, decode
from ..progress import progress
from . import photos, sidecars
from .config import Prepare, load
from .shard_writer import ShardWriter
from .shards import TOKENS, DatasetInfo, Sample, ShardReader

BEAMS, MAX_TOKENS = 3, 40  # of a caption: the Caption node's defaults
LISTED = 20  # skipped photos of one reason that are named on the screen; the file has all
_DECODERS = 2  # threads
_AHEAD = 4  # photos that are decoded and wait; a huge one takes half a gigabyte


@dataclass(frozen=True)
class Photo:
    """A decoded photo, and what the files beside it say (None: nothing)."""

    image: Image.Image
    caption: str | None
    faces: Picture | None


class Networks:
    """What the host computes of a picture; every network is loaded when it is first needed.

    Args:
        options: of the command.

    Raises:
        CamouflageError: a weight file is missing or is another kind of file; no ComfyUI.
    """

    def __init__(self, options: Namespace) -> None:
        in_process.enter(models=options.models)
        self.options, self.chosen = options, chosen(options)
        from ..comfy import weights

        self.base_model = options.base_model or weights.find("checkpoint")[0]
        self.vae_file = options.vae or weights.find("vae")[0]
        encoder = "face encoder" if self.chosen.image == "FaRL states" else "image encoder"
        self.image_encoder = options.image_encoder or weights.find(encoder)[0]
        self.caption_model = options.caption_model or weights.default_folder("caption")

    def settings(self) -> dict[str, Any]:
        """The part of DatasetInfo that is known before any network is loaded."""
        from ..comfy.weights import digest_of as digest

        o = self.options
        return {**asdict(self.chosen), "base_model": digest(self.base_model), "vae": digest(self.vae_file),
                "image_encoder": digest(self.image_encoder),
                "caption": {"model": self.caption_model, "beams": BEAMS, "max_tokens": MAX_TOKENS,
                            "sidecars": o.sidecars},
                "faces": {"threshold": o.threshold, "smallest": o.smallest_face, "landmarks": o.landmarks,
                          "sidecars": o.sidecars}}

    def info(self) -> DatasetInfo:
        """Settings, sizes, and what stands for no text and for no picture."""
        text, seen = self.text("").half(), self.image(torch.full((1, 64, 64, 3), 0.5))
        nothing = torch.zeros_like(seen) if seen.ndim == 1 else self._no_picture()
        return DatasetInfo(**self.settings(), text_width=text.shape[1], image_shape=list(seen.shape), empty_text=text,
                           empty_image=nothing.half())

    @cached_property
    def _checkpoint(self) -> tuple[Any, Any]:
        import comfy.sd
        import folder_paths

        own = self.vae_file == self.base_model
        _, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(
            str(self.base_model), output_vae=own, output_clip=True, output_model=False,
            embedding_directory=folder_paths.get_folder_paths("embeddings"))
        if clip is None:
            raise CamouflageError(f"{self.base_model} has no text encoder. Use a whole SD 1.5 checkpoint.")
        return clip, vae

    @cached_property
    def _vae(self) -> Any:
        if self.vae_file == self.base_model:
            return self._checkpoint[1]
        import comfy.sd
        import comfy.utils

        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(self.vae_file), safe_load=True))
        vae.throw_exception_if_invalid()
        return vae

    @cached_property
    def _encoder(self) -> Any:
        import comfy.clip_vision

        from ..comfy import face_encoder

        if self.chosen.image == "FaRL states":
            return face_encoder.load_file(self.image_encoder)
        encoder = comfy.clip_vision.load(str(self.image_encoder))
        if encoder is None:
            raise CamouflageError(f"{self.image_encoder} is not an image encoder. Use the one that the image prompt "
                                  "was trained with (CLIP-H for ip-adapter_sd15).")
        return encoder

    def prepared(self, photo: Image.Image) -> torch.Tensor:
        """The photo as Prepare Image makes it: 1 x h x w x 3, 0..1. Raises CamouflageError for extreme shapes."""
        from ..comfy.prepare import prepare

        image = torch.from_numpy(np.array(photo).astype(np.float32) / 255.0)[None]
        image = prepare(image, self.chosen.resolution, self.chosen.fit)
        check_sides(image, "photo")
        return image

    def latent(self, image: torch.Tensor) -> torch.Tensor:
        """4 x h/8 x w/8, as VAE Encode gives it, scaled as the UNet sees it."""
        import comfy.latent_formats

        return comfy.latent_formats.SD15().process_in(self._vae.encode(image))[0].float()

    def text(self, caption: str) -> torch.Tensor:
        """77 x width. A longer caption is cut to CLIP's window."""
        clip = self._checkpoint[0]
        return clip.encode_from_tokens(clip.tokenize(caption))[0, :TOKENS].float()

    def image(self, image: torch.Tensor) -> torch.Tensor:
        """(width,) or states x width, as CLIP Vision Encode gives it with crop "none", which the workflows use."""
        output = self._encoder.encode_image(image, crop=False)
        embedding = self.chosen.image == "CLIP embedding"
        return (output.image_embeds if embedding else output.penultimate_hidden_states)[0].float()

    def _no_picture(self) -> torch.Tensor:
        from ..comfy.face_encoder import zero_states

        return zero_states(self._encoder)[0]

    def caption(self, image: torch.Tensor) -> str:
        """As the Caption node says it."""
        from ..comfy.annotators.transformers_models import captions

        return captions(image, self.caption_model, "", MAX_TOKENS, BEAMS)[0]

    def faces(self, image: torch.Tensor) -> Picture:
        """As the Face Attributes node reads them."""
        from ..comfy.faces import read_faces

        o = self.options
        return read_faces(image, o.threshold, o.smallest_face, o.landmarks).pictures[0]

    def sample(self, source: str, image: torch.Tensor, photo: Photo) -> Sample:
        """Everything that the dataset holds of a prepared picture."""
        height, width = image.shape[1:3]
        caption = self.caption(image) if photo.caption is None else photo.caption
        picture = (self.faces(image) if photo.faces is None else
                   sidecars.scale_and_crop(photo.faces, height, width, self.chosen.fit))
        return Sample(source, self.latent(image), self.text(caption), self.image(image), caption, picture)


def chosen(options: Namespace) -> Prepare:
    """What the settings say; --resolution, which was there before them, goes first."""
    settings = load("light", options.config, options.set).prepare
    return settings if options.resolution is None else replace(settings, resolution=options.resolution)


# --- which photos -------------------------------------------------------------------------------------------------


def shard_of(photo_key: str, num_shards: int) -> int:
    """The shard that a photo belongs to, 0..num_shards - 1."""
    return int.from_bytes(hashlib.sha256(os.fsencode(photo_key)).digest()[:8], "big") % num_shards


def source_of(photo_key: str, path: Path) -> str:
    """32 hex digits for a photo and its version; does not open it."""
    stat = path.stat()
    return hashlib.sha256(os.fsencode(f"{photo_key}\n{stat.st_size}\n{stat.st_mtime_ns}")).hexdigest()[:32]


def open_photo(path: Path, smallest_side: int, with_sidecars: bool) -> Photo:
    """Decodes a photo and reads what lies beside it. Raises Unreadable."""
    image = decode(path, photos.FORMATS)
    if min(image.size) < smallest_side:
        raise Unreadable(f"less than {smallest_side} px on the shorter side")
    if not with_sidecars:
        return Photo(image, None, None)
    return Photo(image, sidecars.read_caption(path), sidecars.read_faces(path, image.height, image.width))


def ahead(jobs: Iterable[tuple[str, Path]], options: Namespace) -> Iterator[tuple[str, Path, Future[Photo]]]:
    """Opens photos in a few threads, some ahead of the one in use, in their order."""
    waiting: deque[tuple[str, Path, Future[Photo]]] = deque()
    pool = ThreadPoolExecutor(_DECODERS)
    try:
        for source, path in jobs:
            waiting.append((source, path, pool.submit(open_photo, path, options.smallest_side, options.sidecars)))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


# --- the command --------------------------------------------------------------------------------------------------


class Skipped:
    """The photos of this run that are not in the dataset: reason -> names."""

    def __init__(self) -> None:
        self.reasons: dict[str, list[str]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(map(len, self.reasons.values()))

    def add(self, path: Path, reason: str) -> None:
        """Lists a photo."""
        self.reasons[reason].append(_name(path))

    def lines(self) -> Iterator[str]:
        """For the file: path, tab, reason."""
        return (f"{name}\t{reason}\n" for reason, names in sorted(self.reasons.items()) for name in names)

    def describe(self) -> Iterator[str]:
        """For the screen, by reason; at most 20 photos are named of each."""
        for reason, names in sorted(self.reasons.items()):
            more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
            yield f"  {reason} ({len(names)}): {', '.join(names[:LISTED])}{more}"


def _name(path: Path) -> str:
    """As text in one line, whatever bytes are in it."""
    name = os.fsencode(path).decode(errors="replace")
    return name.translate(str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"}))


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CamouflageError(f"The dataset in {folder} cannot be written ({error.strerror or error}). What was "
                              "prepared before is kept. Make room, and run the same command again.") from error


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Names the photo in every failure that is not already meant for the person at the screen."""
    try:
        yield
    except (CamouflageError, Unreadable):
        raise
    except Exception as error:
        raise RuntimeError(f"{_name(path)} could not be prepared. What was prepared before is kept.") from error


def prepare(options: Namespace) -> None:
    """Everything from the folders to the shard. Raises CamouflageError where the person has to do something."""
    found = photos.find(options.folders)
    if not found:
        raise CamouflageError(f"There are no photos ({', '.join(photos.SUFFIXES)}) in "
                              f"{', '.join(map(str, options.folders))}.")
    mine = [(key, path) for key, path in found if shard_of(key, options.num_shards) == options.shard]
    part = "" if options.num_shards == 1 else f", {len(mine)} of them for shard {options.shard}"
    print(f"{len(found)} photos{part}.", flush=True)
    skipped, shard = Skipped(), ShardWriter(options.dataset, options.shard, options.num_shards)
    with contextlib.ExitStack() as stack:
        with _writing(options.dataset):
            stack.enter_context(shard)
        if shard.cut_off:
            print("An earlier run was stopped while it wrote a picture; that one is prepared again.", flush=True)
        there = len(shard.sources)
        jobs = list(_sources(mine, skipped))
        missing = [(source, path) for source, path in jobs if source not in shard.sources]
        if mine:
            _fill(shard, missing, options, skipped)
    print(f"Prepared: {len(shard.sources) - there}. Already there: {len(jobs) - len(missing)}. "
          f"Skipped: {len(skipped)}.")
    for line in (*skipped.describe(), *_holds(shard)):
        print(line)
    if mine and not shard.sources:
        raise CamouflageError("None of the photos could be used, so there is no dataset. The reasons are above.")


def _sources(mine: Iterable[tuple[str, Path]], skipped: Skipped) -> Iterator[tuple[str, Path]]:
    for photo_key, path in mine:
        try:
            yield source_of(photo_key, path), path
        except OSError as error:
            skipped.add(path, f"cannot be opened: {error.strerror}")


@torch.inference_mode()
def _fill(shard: ShardWriter, jobs: list[tuple[str, Path]], options: Namespace, skipped: Skipped) -> None:
    """Prepares the photos that the shard lacks, and lists those that cannot be."""
    networks = Networks(options)
    info = replace(shard.info, **networks.settings()) if shard.info else networks.info()
    with _writing(options.dataset):
        shard.start(info)
    bar = progress(len(jobs), "photos")
    try:
        for source, path, opened in ahead(jobs, options):
            with _naming(path):
                sample = None
                try:
                    photo = opened.result()
                    image = networks.prepared(photo.image)
                except (Unreadable, CamouflageError) as error:
                    skipped.add(path, str(error))
                else:
                    sample = networks.sample(source, image, photo)
            if sample:
                with _writing(options.dataset):
                    shard.add(sample)
            bar.update()
    finally:
        bar.close()
        with _writing(options.dataset):
            write_whole(shard.path.with_suffix(".skipped.txt"), "".join(skipped.lines()).encode())


def _holds(shard: ShardWriter) -> Iterator[str]:
    """Lines on what is in the shard now: pictures, and how many of each size."""
    sizes: Counter[tuple[int, int]] = Counter()
    faceless = 0
    if shard.info:
        for row in ShardReader(shard.path).rows():
            sizes[row.fields["width"], row.fields["height"]] += 1
            faceless += not row.fields["persons"]
    yield f"{shard.path} holds {sum(sizes.values())} pictures, {faceless} of them without a face."
    yield from (f"  {width} x {height} px: {count}" for (width, height), count in sorted(sizes.items()))


def main(options: Namespace) -> int:
    """The command ``prepare``."""
    warnings.filterwarnings("ignore", module="PIL")  # odd pictures are listed, or harmless
    warnings.simplefilter("ignore", FutureWarning)  # libraries speaking to their developers
    try:
        prepare(options)
    except KeyboardInterrupt:
        print("\nWhat was prepared is kept; run the same command to go on.")
        raise
    return 0
