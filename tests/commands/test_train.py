"""The commands: what they understand, what they refuse at once, and how they start what they are about."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from camouflage.commands import train as commands
from camouflage.commands.launch import make_parser
from camouflage.errors import CamouflageError
from training_command import SCRIPT, train

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["--dataset", "data", "--output", "run"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a dataset and a file in it, outside of any launch."""
    monkeypatch.chdir(tmp_path)
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """The options that a stand-in for the command `light` was started with; it does what they hold as `act`."""
    calls, module = [], types.ModuleType("camouflage.training.light")

    def main(options):
        calls.append(options)
        return module.act()

    module.main, module.act = main, lambda: 0
    monkeypatch.setitem(sys.modules, "camouflage.training.light", module)
    return types.SimpleNamespace(calls=calls, module=module)


def parse(*arguments):
    options = make_parser().parse_args(["train", *arguments])
    assert vars(options).pop("command") == "train"
    return options


def test_the_command_line_needs_the_standard_library_alone():
    code = (f"import sys; sys.path.append({str(ROOT)!r})\n"
            "import camouflage.commands.launch, camouflage.commands.train, camouflage.training.config")
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_defaults(here):
    options = vars(parse("prepare", "a", "../b", "--dataset", "d"))
    assert options == {
        "training": "prepare", "folders": [here / "a", here / "../b"], "dataset": here / "d", "resolution": None,
        "config": None, "set": [], "base_model": None, "vae": None, "image_encoder": None, "caption_model": None,
        "num_shards": 1, "shard": 0, "smallest_side": 256, "threshold": 0.5, "smallest_face": 0, "landmarks": False,
        "sidecars": True,
        "comfyui": None, "models": []}
    options = vars(parse("light", *TRAIN))
    assert options == {
        "training": "light", "dataset": here / "data", "output": here / "run", "config": None, "set": [],
        "base_model": None, "image_prompt": None, "vae": None, "processes": 1, "cpu": False, "comfyui": None,
        "models": []}
    del options["image_prompt"]
    assert vars(parse("identity", *TRAIN)) == options | {"training": "identity"}
    assert vars(parse("export", "run", "--output", "x.safetensors")) == {
        "training": "export", "run": here / "run", "output": here / "x.safetensors", "step": None, "weights": "ema",
        "dtype": "float32", "licence": "", "comfyui": None}
    assert vars(parse("cost")) == {"training": "cost", "resolution": [512, 768], "batch_size": 8, "comfyui": None}


def test_what_is_given_counts(here):
    options = parse("prepare", "a", "--dataset", "d", "--no-sidecars", "--landmarks", "--threshold", "0.8",
                    "--models", "m", "--models", "n", "--shard", "3", "--num-shards", "4", "--resolution", "512")
    assert (options.sidecars, options.landmarks, options.threshold, options.shard) == (False, True, 0.8, 3)
    assert (options.models, options.resolution) == ([here / "m", here / "n"], 512)
    options = parse("light", *TRAIN, "--set", "a=1", "b=2", "--set", "c=", "--config", "c.yaml", "--processes", "2")
    assert (options.set, options.config, options.processes) == (["a=1", "b=2", "c="], here / "c.yaml", 2)
    assert parse("light", *TRAIN).set == [], "not the last one's"
    options = parse("export", "r", "--output", "x.safetensors", "--no-ema", "--step", "5", "--dtype", "float16")
    assert (options.weights, options.step, options.dtype) == ("raw", 5, "float16")
    assert parse("cost", "--resolution", "64", "1024").resolution == [64, 1024]


@pytest.mark.parametrize("arguments", [
    "", "train", "prepare --dataset d", "prepare a", "light --dataset d", "identity --output o", "export r",
    "prepare a --dataset d --resolution 500", "prepare a --dataset d --resolution 0",
    "prepare a --dataset d --resolution 1088", "prepare a --dataset d --threshold 1", "cost --resolution 100",
    "prepare a --dataset d --threshold x", "prepare a --dataset d --num-shards 0", "prepare a --dataset d --shard -1",
    "light --dataset d --output o --processes 0", "light --dataset d --output o --set a",
    "light --dataset d --output o --conf x", "identity --dataset d --output o --image-prompt x",
    "export r --output x.pt", "export r --output x.safetensors --dtype bf16",
    "export r --output x.safetensors --step 0", "cost --batch-size 0",
])
def test_bad_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        train(*arguments.split())
    assert caught.value.code == 2
    assert "usage: run.py" in capsys.readouterr().err


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_help_describes_and_gives_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit) as caught:
        train(command, "--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    example = re.search(rf"example:\n  run.py train ({command} .*)", shown)
    assert example and parse(*example[1].split()).training == command
    assert len(shown) > 600


@pytest.mark.parametrize(("arguments", "said"), [
    ("prepare data none --dataset d", "FOLDER must be a folder, but .*none does not exist"),
    ("prepare file --dataset d", "FOLDER must be a folder, but .*file is a file"),
    ("prepare data --dataset file", "--dataset must be a folder, but .*file is a file"),
    ("prepare data --dataset d --num-shards 2 --shard 2", "--shard .* at most 1, but got 2"),
    ("prepare data --dataset d --base-model none", "--base-model must be a file, but .*none does not exist"),
    ("prepare data --dataset d --base-model file", "--base-model must be a .safetensors file"),
    ("prepare data --dataset d --vae data", "--vae must be a file, but .*data is a folder"),
    ("prepare data --dataset d --image-encoder none", "--image-encoder must be a file"),
    ("prepare data --dataset d --models none", "--models must be a folder"),
    ("prepare data --dataset d --config light-author.yaml", "--config must be a file, but .*author.yaml does not"),
    ("prepare data --dataset d --config light-authors.yaml --set prepare.fit=oval", "prepare.fit must be one of crop"),
    ("prepare data --dataset d --set image_prompt.new=true", "new is true, but image_prompt.train is false"),
    ("light --dataset data --output o --config light-authors.yaml --set dropout.text=1", "must add up to 1 at most"),
    ("prepare data --dataset d --comfyui data", "--comfyui must name a ComfyUI folder"),
    ("light --dataset none --output o", "There is no dataset .*none. Make one: python run.py train prepare"),
    ("light --dataset data --output file", "--output must be a folder"),
    ("light --dataset data --output o --config none", "--config must be a file"),
    ("light --dataset data --output o --image-prompt none", "--image-prompt must be a file"),
    ("light --dataset data --output o --set stepps=3", "no setting 'stepps'; the nearest one is 'steps'"),
    ("identity --dataset data --output o --config file --set map.grow=2", "no setting 'map.grow'"),
    ("light --dataset data --output o --processes 2 --set steps=0", "steps must be a whole number"),
    ("export none --output x.safetensors", "There is no run and no checkpoint .*none"),
    ("export data --output none/x.safetensors", "There is no folder .*none"),
])
def test_what_cannot_work_is_said_before_anything_is_loaded(arguments, said, here, monkeypatch, capsys):
    for command in commands.COMMANDS:
        monkeypatch.setitem(sys.modules, f"camouflage.training.{command}", None)  # its import fails
    assert train(*arguments.split()) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and "Traceback" not in error


def test_a_command_gets_its_options_and_gives_its_exit_code(here, started):
    started.module.act = lambda: 5
    assert train("light", *TRAIN, "--cpu") == 5
    assert started.calls[0].cpu and started.calls[0].output == here / "run"
    started.module.act = lambda: None
    assert train("light", *TRAIN) == 0
    assert train("light", *TRAIN, "--config", "light-authors.yaml") == 0, "a shipped file by its name"


@pytest.mark.parametrize(("error", "code"), [(CamouflageError("too bad"), 2), (KeyboardInterrupt(), 130)])
def test_errors_for_the_person_are_shown_without_traceback(error, code, here, started, capsys):
    def act():
        raise error

    started.module.act = act
    assert train("light", *TRAIN) == code
    assert capsys.readouterr().err == ("too bad\n" if code == 2 else "\nStopped.\n")


def test_several_processes_are_launched_once(here, started, monkeypatch):
    launches = []
    monkeypatch.setattr(commands, "launch", lambda options: launches.append(options.arguments) or 6)
    arguments = ["light", *TRAIN, "--processes", "2"]
    assert train(*arguments) == 6
    assert (launches, started.calls) == ([["train", *arguments]], [])
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        with monkeypatch.context() as inside:
            inside.setenv(name, "0")
            assert train(*arguments) == 0
    assert (len(launches), len(started.calls)) == (1, 2)


def test_more_processes_than_gpus_are_refused(here, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert train("light", *TRAIN, "--processes", "2") == 2
    assert "--processes 2 needs as many GPUs, but this machine has 1." in capsys.readouterr().err


STAND_IN = """
import sys, types
module = types.ModuleType("camouflage.training.light")

def main(options):
    from accelerate import Accelerator
    import camouflage.errors
    state = Accelerator(cpu=options.cpu).state
    print(f"process {state.process_index} of {state.num_processes} on {state.device.type} {options.cpu}: "
          f"{options.dataset}, root {sys.path[-1]}, once {sys.path.count(sys.path[-1])}\\n", end="", flush=True)
    state.wait_for_everyone()
    raise camouflage.errors.CamouflageError("too bad")

module.main = main
sys.modules["camouflage.training.light"] = module
"""


def test_two_real_processes_know_each_other_and_hand_their_exit_code_back(here):
    (here / "sitecustomize.py").write_text(STAND_IN)
    environment = {**os.environ, "PYTHONPATH": str(here), "OMP_NUM_THREADS": "1", "HF_HOME": str(here)}
    done = subprocess.run([sys.executable, str(SCRIPT), "light", *TRAIN, "--processes", "2", "--cpu"],
                          env=environment, capture_output=True, text=True, check=False, timeout=120)
    said = sorted(filter(None, done.stdout.splitlines()))
    assert said == [f"process {i} of 2 on cpu True: {here / 'data'}, root {ROOT}, once 1"
                    for i in (0, 1)], done.stderr
    assert done.returncode == 2
    assert "too bad" in done.stderr and "Traceback" not in done.stderr
