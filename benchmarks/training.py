"""Times the trainings at full size: random weights of SD 1.5's real shapes, a random dataset, the real loop.

    python -m benchmarks.training [--kind light identity] [--size 512 768] [--batch-size 8] [--steps 20]
                                  [--gradient-checkpointing] [--any-order]

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set; it needs a GPU. Ten steps warm up and are not
counted. TFLOP/s are pictures a second times what ``camouflage/training/cost.py`` counts for one
(what gradient checkpointing computes again is not counted twice). ``--any-order`` trains with ``deterministic: false``.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.host import SHAPES, random_state, random_unet
from benchmarks.light import CONTEXT, EMBEDDING, SD15_WIDTHS, image_prompt_shapes
from camouflage.files import file_sha256
from camouflage.method.faces import ATTRIBUTES, Face, Picture
from camouflage.training import config as configs
from camouflage.training import cost, identity, light, loop
from camouflage.training.dataset import Dataset
from camouflage.training.shard_writer import ShardWriter
from camouflage.training.shards import CELL, TOKENS, DatasetInfo, Sample

WARM_UP = 10


def dataset(folder: Path, size: int, count: int, base_model: str) -> Dataset:
    """Random pictures of one person each."""
    rng, cells = random.Random(0), size // CELL
    keypoints = tuple((x * size, y * size) for x, y in ((.4, .4), (.6, .4), (.5, .5), (.4, .6), (.6, .6)))
    with ShardWriter(folder) as shard:
        shard.start(DatasetInfo(resolution=size, base_model=base_model, vae="", image_encoder="", fit="square",
                                image="CLIP embedding", caption={}, faces={}, text_width=CONTEXT,
                                image_shape=[EMBEDDING], empty_text=torch.randn(TOKENS, CONTEXT).half(),
                                empty_image=torch.zeros(EMBEDDING).half()))
        for _ in range(count):
            face = Face((0.3 * size, 0.3 * size, 0.7 * size, 0.7 * size), 1.0, keypoints,
                        attributes=tuple(rng.random() for _ in ATTRIBUTES))
            shard.add(Sample(f"{rng.getrandbits(128):032x}", torch.randn(4, cells, cells), torch.randn(TOKENS, CONTEXT),
                             torch.randn(EMBEDDING), "", Picture(size, size, (face,))))
    return Dataset.open(folder)


def measure(kind: str, size: int, options: argparse.Namespace, folder: Path, files: dict[str, Path]) -> str:
    """Trains for a moment; a line with what was measured."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps = WARM_UP + options.steps
    data = dataset(folder / "data", size, 64, file_sha256(files["checkpoint"]))
    chosen: Any = configs.load(kind, None, [
        f"steps={steps}", f"batch_size={options.batch_size}", "validation.every=0", f"checkpoints.every={steps + 1}",
        f"gradient_checkpointing={str(options.gradient_checkpointing).lower()}", "optimizer.kind=adamw_fused",
        f"deterministic={str(not options.any_order).lower()}"])
    if kind == "light":
        job = light.job(chosen, data, files["checkpoint"], files["image prompt"])
    else:
        job = identity.job(chosen, data, files["checkpoint"])
    torch.cuda.reset_peak_memory_stats()
    accelerator = loop.make_accelerator(chosen, cpu=False)
    loop.train(job, data, chosen, folder / "run", accelerator)
    peak = torch.cuda.max_memory_allocated() / 1e9
    log = EventAccumulator(str(folder / "run" / loop.LOGS))
    log.Reload()
    speeds = [event.value for event in log.Scalars("speed/pictures_per_second")][1:]
    speed = len(speeds) / sum(1 / value for value in speeds)
    return (f"{kind:8} {size:4} px, batch {options.batch_size}: {speed:6.2f} pictures/s, "
            f"{speed * cost.cost(kind, size).flops / 1e12:6.1f} TFLOP/s, {options.batch_size / speed:6.3f} s a step, "
            f"peak {peak:5.1f} GB")


def main() -> None:
    """Measures every kind at every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", nargs="+", choices=("light", "identity"), default=["light", "identity"])
    parser.add_argument("--size", nargs="+", type=int, default=[512, 768], help="px (512 768)")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures (8)")
    parser.add_argument("--steps", type=int, default=20, help="counted steps, a multiple of ten (20)")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--any-order", action="store_true", help="deterministic: false")
    options = parser.parse_args()
    from camouflage.comfy.in_process import enter

    enter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"checkpoint": folder / "unet.safetensors", "image prompt": folder / "ip.safetensors"}
        save_file(random_unet(SHAPES["full"]), files["checkpoint"])
        save_file(random_state(image_prompt_shapes(SD15_WIDTHS)), files["image prompt"])
        lines = []
        for kind in options.kind:
            for size in options.size:
                place = folder / f"{kind}-{size}"
                place.mkdir()
                lines.append(measure(kind, size, options, place, files))
                print(lines[-1], flush=True)
                torch.cuda.empty_cache()
    order = "any order" if options.any_order else "deterministic"
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}, bf16, fused AdamW, {order}, gradient "
          f"checkpointing {'on' if options.gradient_checkpointing else 'off'}, {options.steps} steps after {WARM_UP}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
