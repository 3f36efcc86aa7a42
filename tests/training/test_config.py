"""The settings: what is shipped, what is refused, and where relative paths lead."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path

import pytest
import yaml

from camouflage.errors import CamouflageError
from camouflage.method import attribute_map
from camouflage.training import config
from camouflage.training.config import CONFIGS, KINDS, Identity, Light, keys, load, to_dict

BOTH = pytest.mark.parametrize("kind", ["light", "identity"])


def flat(values: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@BOTH
def test_the_shipped_file_states_every_setting_with_its_default(kind):
    stated = flat(yaml.safe_load((CONFIGS / f"{kind}.yaml").read_text(encoding="utf-8")))
    assert stated.keys() == set(keys(KINDS[kind]))
    defaults = flat(to_dict(KINDS[kind]()))
    assert {key: (type(value), value) for key, value in stated.items()} == {
        key: (type(value), value) for key, value in defaults.items()}
    assert load(kind) == KINDS[kind]()


SOURCES = ("Paper: ", "T2I-Adapter (arXiv 2302.08453): ", "Our choice")


@pytest.mark.parametrize(("file", "sources"), [
    ("light.yaml", SOURCES), ("identity.yaml", SOURCES), ("light-authors.yaml", ("Authors' code: ", "Our choice: "))])
def test_every_setting_of_the_shipped_file_says_where_it_comes_from(file, sources):
    comment, silent, said = "", [], 0
    for line in (CONFIGS / file).read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment += text
            continue
        if text and not text.endswith(":"):
            said += 1
            if not any(source in comment for source in sources):
                silent.append(text)
        comment = ""
    assert silent == []
    assert said == len(flat(yaml.safe_load((CONFIGS / file).read_text(encoding="utf-8")))) > 10


def test_the_authors_settings_are_theirs_and_the_rest_is_ours():
    """As their public code has them; in whole, so that nothing else differs from what is shipped as ours."""
    assert load("light", Path("light-authors.yaml")) == dataclasses.replace(
        Light(), timestep_sampling="uniform", batch_size=8,
        prepare=config.Prepare(resolution=512, fit="square", image="FaRL states"),
        map=config.Map(encoding="camouflage-probabilities", region="box"),
        dropout=config.Dropout(text=0.05, image=0.05, both=0.05, map=0.0, attribute=0.0),
        image_prompt=config.ImagePromptSettings(use=True, train=True, new=True, queries=16, depth=4, scale=1.0),
        optimizer=config.Optimizer(kind="adamw", learning_rate=1e-4, weight_decay=1e-2, max_grad_norm=1.0),
        schedule=config.Schedule(kind="constant", warmup=0))


@pytest.mark.parametrize("name", ["light-authors.yaml", "identity.yaml"])
def test_a_shipped_file_is_known_by_its_name_where_there_is_no_other(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for here in (Path(name), tmp_path / name):  # the command line makes it absolute
        assert config.shipped(here) == CONFIGS / name
    (tmp_path / "other").mkdir()
    elsewhere = tmp_path / "other" / name
    assert config.shipped(elsewhere) == elsewhere and config.shipped(Path("other") / name) == Path("other") / name
    (tmp_path / name).write_text("seed: 5", encoding="utf-8")
    assert config.shipped(Path(name)) == Path(name), "one's own goes first"
    kind = "identity" if name == "identity.yaml" else "light"
    assert load(kind, Path(name)).seed == 5


@BOTH
def test_without_a_file_it_is_the_shipped_one(kind, tmp_path, monkeypatch):
    """Also where a copy of it lies that was not named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{kind}.yaml").write_text("seed: 5", encoding="utf-8")
    assert load(kind) == KINDS[kind]()


def test_the_authors_settings_are_theirs_and_say_where_they_come_from():
    config_, file = load("light", Path("light-authors.yaml")), CONFIGS / "light-authors.yaml"
    assert load("light", file) == config_, "by its name or by its path"
    assert (config_.batch_size, config_.timestep_sampling) == (8, "uniform")
    optimizer, prompt = config_.optimizer, config_.image_prompt
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.max_grad_norm) == (1e-4, 1e-2, 1.0)
    assert config_.prepare == config.Prepare(512, "square", "FaRL states")
    assert (config_.map.encoding, config_.map.region) == ("camouflage-probabilities", "box")
    assert config_.dropout == config.Dropout(0.05, 0.05, 0.05, 0.0, 0.0)
    assert (prompt.use, prompt.train, prompt.new, prompt.queries, prompt.depth) == (True, True, True, 16, 4)
    comment, silent = "", []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("#"):
            comment += line
            continue
        if line.strip() and not line.endswith(":") and not any(
                source in comment for source in ("Authors' code: ", "Our choice: ")):
            silent.append(line)
        comment = ""
    assert silent == []
    with pytest.raises(CamouflageError, match=r"light-author.yaml cannot be read .*light-authors.yaml, light.yaml"):
        load("light", Path("light-author.yaml"))


def test_the_values_that_were_agreed():
    light, identity = Light(), Identity()
    assert (light.timestep_sampling, identity.timestep_sampling) == ("cubic", "uniform")
    assert (light.optimizer.learning_rate, light.batch_size, light.steps) == (1e-5, 8, 100_000)
    assert light.dropout == config.Dropout(text=0.09, image=0.09, both=0.01, map=0.1, attribute=0.1)
    assert light.prepare == config.Prepare(resolution=768, fit="crop", image="CLIP embedding")
    assert light.map.encoding == "camouflage-signed" and not light.image_prompt.new
    assert light.image_prompt.use and not light.image_prompt.train
    assert not hasattr(identity.validation, "cfg")


def test_the_map_takes_what_the_node_takes():
    hints = typing.get_type_hints(config.Map, include_extras=True)
    assert typing.get_args(hints["region"]) == attribute_map.REGIONS
    assert typing.get_args(hints["encoding"]) == tuple(attribute_map.ENCODINGS)
    assert typing.get_args(hints["grow"])[1] == config.Range(1, attribute_map.MAX_GROW)
    assert typing.get_args(hints["keypoint_radius"])[1] == config.Range(1, attribute_map.MAX_RADIUS)


@BOTH
def test_the_settings_of_a_checkpoint_can_be_given_as_a_file(kind, tmp_path):
    changed = load(kind, None, ["seed=7", "ema.use=false", "optimizer.kind=adamw_fused", "schedule.warmup=0"])
    assert load(kind, written(tmp_path, json.dumps(to_dict(changed)))) == changed


def test_a_file_changes_what_it_names_and_overrides_go_before_it(tmp_path):
    file = written(tmp_path, "steps: 20\noptimizer:\n  learning_rate: 3e-4\n  beta1: 0\nema:\n")
    read = load("light", file, ["optimizer.learning_rate=1", "optimizer.learning_rate = 2e-5", "map.region=grown"])
    assert read == dataclasses.replace(
        Light(), steps=20, map=config.Map(region="grown"),
        optimizer=dataclasses.replace(config.Optimizer(), learning_rate=2e-5, beta1=0.0))
    assert type(read.optimizer.beta1) is float
    assert load("light", file).optimizer.learning_rate == 3e-4


def test_init_is_relative_to_its_file_or_to_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = written(tmp_path / "configs", "init: a.safetensors")
    assert load("light", file).init == str(tmp_path / "configs" / "a.safetensors")
    assert load("light", file, ["init=b: 1.safetensors"]).init == str(tmp_path / "here" / "b: 1.safetensors")
    assert load("light", file, ["init="]).init == ""
    assert load("light", file, [f"init={tmp_path}/c"]).init == str(tmp_path / "c")


@pytest.mark.parametrize(("text", "said"), [
    ("optimiser: {}", "no setting 'optimiser'; the nearest one is 'optimizer'"),
    ("optimizer: {learning_rte: 1}", "'optimizer.learning_rte'; the nearest one is 'optimizer.learning_rate'"),
    ("learning_rate: 1", "'learning_rate'; the nearest one is 'optimizer.learning_rate'"),
    ("7: 1", "no setting '7'"),
    ("timesteps: cubic", "the setting 'timesteps' is now called 'timestep_sampling'"),
    ("seed: 1\nsteps: 2\nseed: 3", "line 3: 'seed' is there twice"),
    ("ema: {use: true, use: false}", "line 1: 'use' is there twice"),
    ("steps: 0", "steps must be a whole number from 1 to 1000000000, but got 0"),
    ("steps: 1.0", "steps must be a whole number .* but got 1.0"),
    ("steps: true", "steps must be a whole number .* but got True"),
    ("steps: [1]", r"steps must be a whole number .* but got \[1\]"),
    ("steps:", "steps must be a whole number .* but got None"),
    ("map: {grow: 5}", "map.grow must be a number from 1 to 4, but got 5"),
    ("map: {grow: .nan}", "map.grow must be a number from 1 to 4, but got nan"),
    ("map: {grow: two}", "map.grow must be a number from 1 to 4, but got 'two'"),
    ("map: box", "map must have keys with values .encoding, region, grow, keypoint_radius., but got 'box'"),
    ("ema: {decay: 1.0}", "ema.decay must be a number from 0 to less than 1, but got 1.0"),
    ("ema: {use: 1}", "ema.use must be true or false, but got 1"),
    ("precision: fp8", "precision must be one of fp32, fp16, bf16, but got 'fp8'"),
    ("precision: {}", "precision must be one of"),
    ("init: 5", "init must be text, in quotes if need be, but got 5"),
    ("[1, 2]", r"the file must have keys with values .* but got \[1, 2\]"),
    ("seed: [", "is no YAML: "),
    ("seed: !!python/object/apply:os.getcwd []", "is no YAML: "),
])
def test_a_file_with_a_mistake_is_refused_by_file_key_and_value(text, said, tmp_path):
    file = written(tmp_path, text)
    with pytest.raises(CamouflageError, match=said) as caught:
        load("light", file)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(("override", "said"), [
    ("steps", "--set must be NAME=VALUE, such as .* but got 'steps'"),
    ("timesteps=cubic", "--set: the setting 'timesteps' is now called 'timestep_sampling'"),
    ("steps.x=1", "no setting 'steps.x'; the nearest one is 'steps'"),
    ("validation.cgf=1", "no setting 'validation.cgf'; the nearest one is 'validation.cfg'"),
    ("optimizer=1", "optimizer has several settings; name one of them: optimizer.kind, optimizer.learning_rate"),
    ("steps=0", "--set: steps must be a whole number from 1 to 1000000000, but got 0"),
    ("map.grow=x", "--set: map.grow must be a number from 1 to 4, but got 'x'"),
    ("steps=[", "--set: steps is no YAML"),
])
def test_an_override_with_a_mistake_is_refused_by_key_and_value(override, said):
    with pytest.raises(CamouflageError, match=said):
        load("light", None, [override])


def test_the_identity_control_knows_nothing_of_maps():
    with pytest.raises(CamouflageError, match="no setting 'map.region'"):
        load("identity", None, ["map.region=box"])


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    with pytest.raises(CamouflageError, match=r"The config file .*none\.yaml cannot be read \(No such file"):
        load("light", tmp_path / "none.yaml")
    with pytest.raises(CamouflageError, match=r"light-author\.yaml cannot be read .* or one that is shipped: "
                       r"identity\.yaml, light-authors\.yaml, light\.yaml\."):
        load("light", Path("light-author.yaml"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CamouflageError, match="binary is no config file"):
        load("light", tmp_path / "binary")
