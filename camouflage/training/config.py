"""The settings of a training: frozen dataclasses, read strictly from YAML.

The files in ``configs/`` explain every setting: its unit, what 0 does, and whether the paper, T2I-Adapter or we chose
its value. They state what the dataclasses below have as defaults; a file of one's own may leave out what it does not
change. A key that nobody knows, a value of another type or outside its range, and a key that is there twice are
refused: a setting that is silently ignored can cost a week of training.

Dataclasses and not pydantic models: the command line imports this file before any environment exists, where there is
the standard library alone; and unknown keys with the nearest known one, keys that are there twice, the line of a
mistake and --set would need the same code with pydantic, too.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import reprlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, overload

from ..errors import CamouflageError

CONFIGS = Path(__file__).resolve().parent / "configs"
MANY = 10**9
_RENAMED = {"timesteps": "timestep_sampling"}
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # 1e-5: a number in YAML 1.2, a string in PyYAML's 1.1


@dataclass(frozen=True)
class Range:
    """What a number may be: ``low`` to ``high``, both included, or less than ``high`` with ``below``; multiples of
    ``step``, where there is one."""

    low: float
    high: float
    below: bool = False
    step: int = 0

    def __contains__(self, value: float) -> bool:
        inside = self.low <= value < self.high if self.below else self.low <= value <= self.high
        return inside and not (self.step and value % self.step)

    def __str__(self) -> str:
        multiples = f", a multiple of {self.step}" if self.step else ""
        return f"from {self.low:.10g} to {'less than ' if self.below else ''}{self.high:.10g}{multiples}"


Count = Annotated[int, Range(1, MANY)]
CountOrZero = Annotated[int, Range(0, MANY)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Fraction = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, below=True)]


@dataclass(frozen=True)
class Prepare:
    """What `prepare` takes from the settings: pictures' size and shape, and what the image encoder says of them."""

    resolution: Annotated[int, Range(64, 1024, step=64)] = 768
    fit: Literal["crop", "square"] = "crop"
    image: Literal["CLIP embedding", "CLIP states", "FaRL states"] = "CLIP embedding"


@dataclass(frozen=True)
class Map:
    """The Attribute Map node's settings (:func:`camouflage.method.attribute_map.attribute_map`)."""

    encoding: Literal["camouflage-signed", "camouflage-probabilities"] = "camouflage-signed"
    region: Literal["box", "grown", "landmarks"] = "box"
    grow: Annotated[float, Range(1, 4)] = 1.25
    keypoint_radius: Annotated[float, Range(1, 64)] = 1.5


@dataclass(frozen=True)
class Dropout:
    """Probabilities that a sample loses its text alone, its image prompt alone, both of them; its map; and a face each
    of its attributes."""

    text: Fraction = 0.09
    image: Fraction = 0.09
    both: Fraction = 0.01
    map: Fraction = 0.1
    attribute: Fraction = 0.1


@dataclass(frozen=True)
class ImagePromptSettings:
    """The IP-Adapter beside the trained adapter."""

    use: bool = True
    train: bool = False
    new: bool = False
    queries: Annotated[int, Range(1, 256)] = 16
    depth: Annotated[int, Range(1, 32)] = 4
    scale: Annotated[float, Range(0, 10)] = 1.0


@dataclass(frozen=True)
class Optimizer:
    """AdamW, and the norm that gradients are clipped to."""

    kind: Literal["adamw", "adamw_fused", "adamw_8bit"] = "adamw"
    learning_rate: Fraction = 1e-5
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    weight_decay: Fraction = 0.01
    epsilon: Annotated[float, Range(1e-16, 1)] = 1e-8
    max_grad_norm: Annotated[float, Range(0, MANY)] = 1.0


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps."""

    kind: Literal["constant", "cosine"] = "constant"
    warmup: CountOrZero = 500


@dataclass(frozen=True)
class Ema:
    """The moving average of the weights."""

    use: bool = True
    decay: Decay = 0.9999


@dataclass(frozen=True)
class Validation:
    """What is measured and sampled on pictures that are never trained on."""

    every: CountOrZero = 1000
    held_out: CountOrZero = 16
    pictures: CountOrZero = 4
    sampler_steps: Annotated[int, Range(1, 1000)] = 30
    seed: Seed = 0


@dataclass(frozen=True)
class LightValidation(Validation):
    """With the guidance scale that Light is sampled at; the identity control alone has none."""

    cfg: Annotated[float, Range(0, 100)] = 3.0


@dataclass(frozen=True)
class Checkpoints:
    """How often the whole state is written, and which states are kept."""

    every: Count = 500
    keep_last: Count = 3
    keep_every: CountOrZero = 0


@dataclass(frozen=True)
class Training:
    """What both trainings have."""

    seed: Seed = 0
    steps: Count = 100_000
    batch_size: Annotated[int, Range(1, 4096)] = 8
    accumulation: Annotated[int, Range(1, 4096)] = 1
    precision: Literal["fp32", "fp16", "bf16"] = "bf16"
    gradient_checkpointing: bool = False
    deterministic: bool = True
    timestep_sampling: Literal["uniform", "cubic"] = "uniform"
    init: str = ""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    ema: Ema = Ema()
    validation: Validation = Validation()
    checkpoints: Checkpoints = Checkpoints()


@dataclass(frozen=True)
class Light(Training):
    """Settings of ``light``; ``configs/light.yaml`` explains them, ``light-authors.yaml`` has the authors'."""

    prepare: Prepare = Prepare()
    timestep_sampling: Literal["uniform", "cubic"] = "cubic"
    faces_only: bool = True
    map: Map = Map()
    dropout: Dropout = Dropout()
    image_prompt: ImagePromptSettings = ImagePromptSettings()
    validation: LightValidation = LightValidation()


@dataclass(frozen=True)
class Identity(Training):
    """Settings of ``identity``; ``configs/identity.yaml`` explains them."""


KINDS: dict[str, type[Light] | type[Identity]] = {"light": Light, "identity": Identity}
_T = TypeVar("_T")


@overload
def load(kind: Literal["light"], file: Path | None = None, overrides: Sequence[str] = ()) -> Light: ...
@overload
def load(kind: Literal["identity"], file: Path | None = None, overrides: Sequence[str] = ()) -> Identity: ...
@overload
def load(kind: str, file: Path | None = None, overrides: Sequence[str] = ()) -> Light | Identity: ...
def load(kind: str, file: Path | None = None, overrides: Sequence[str] = ()) -> Light | Identity:
    """Read the settings of a training.

    Args:
        kind: which training, "light" or "identity".
        file: the YAML; None is the one that is shipped, and the name of a shipped one will do. Keys that it leaves out
            have the defaults. An ``init`` in it is relative to the file's folder.
        overrides: settings that replace the file's, such as "optimizer.learning_rate=2e-5"; the last one of a key
            counts. Text is taken as it is, everything else is read as YAML. An ``init`` here is relative to the
            current folder.

    Raises:
        CamouflageError: the file cannot be read; an unknown key, or one that is there twice; a value of another type
            or outside its range; settings that do not go together.
    """
    path = CONFIGS / f"{kind}.yaml" if file is None else shipped(file)
    config = _read(KINDS[kind], _parse_file(path), str(path))
    config = dataclasses.replace(config, init=_absolute(config.init, path.parent))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise CamouflageError(f"--set must be NAME=VALUE, such as optimizer.learning_rate=2e-5, but got "
                                  f"{reprlib.repr(override)}.")
        config = _override(config, key.strip().split("."), text.strip(), "")
    if isinstance(config, Light):
        _check_together(config)
    return dataclasses.replace(config, init=_absolute(config.init, Path.cwd()))


def shipped(file: Path) -> Path:
    """The shipped file where a name in the current folder is one's and no such file is there; else the file itself.

    The command line makes a bare name absolute.
    """
    ours, here = CONFIGS / file.name, file.absolute().parent == Path.cwd()
    return ours if here and not file.exists() and ours.is_file() else file


def to_dict(config: Training) -> dict[str, Any]:
    """The settings as nested dictionaries of numbers, booleans and strings, for JSON."""
    return dataclasses.asdict(config)


def keys(kind: type) -> Iterator[str]:
    """All settings of a dataclass, dotted: "seed", ..., "checkpoints.keep_every"."""
    for name, annotation in _annotations(kind).items():
        if dataclasses.is_dataclass(annotation):
            yield from (f"{name}.{key}" for key in keys(typing.cast(type, annotation)))
        else:
            yield name


def _check_together(config: Light) -> None:
    """What no setting alone can say; only the last override of several makes it right or wrong."""
    dropped, prompt = config.dropout, config.image_prompt
    if dropped.text + dropped.image + dropped.both > 1 + 1e-9:
        raise CamouflageError(f"dropout.text, dropout.image and dropout.both must add up to 1 at most, for a sample "
                              f"loses text, image or both, but got {dropped.text}, {dropped.image}, {dropped.both}.")
    if prompt.use and prompt.new and not prompt.train:
        raise CamouflageError("image_prompt.new is true, but image_prompt.train is false: a new image prompt that is "
                              "not trained says nothing. Set both to true, or both to false.")
    if config.map.encoding == "camouflage-probabilities" and config.map.region != "box":
        raise CamouflageError(f"map.region is {config.map.region}, but in camouflage-probabilities a face's region is "
                              "its box. Choose map.region box, or map.encoding camouflage-signed.")


def _annotations(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _absolute(init: str, folder: Path) -> str:
    return str((folder / Path(init).expanduser()).absolute()) if init else ""


def _parse_file(path: Path) -> object:
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        names = ", ".join(sorted(file.name for file in CONFIGS.glob("*.yaml")))
        raise CamouflageError(f"The config file {path} cannot be read ({error.strerror or error}). Name a file, or one "
                              f"that is shipped: {names}.") from error
    except UnicodeDecodeError as error:
        raise CamouflageError(f"{path} is no config file: it needs YAML in UTF-8, but this is no text.") from error


def _parse(text: str, where: str) -> object:
    """YAML without arbitrary objects; a key that is there twice is refused."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen = [key.value for key, _ in node.value]
            for i, (key, _) in enumerate(node.value):
                if key.value in seen[:i]:
                    raise CamouflageError(f"{where}, line {key.start_mark.line + 1}: {key.value!r} is there twice; "
                                          "remove one.")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise CamouflageError(f"{where} is no YAML: {' '.join(str(error).split())}.") from error


def _read(kind: type[_T], values: object, where: str, section: str = "") -> _T:
    """A dataclass of what a mapping holds; ``section`` is the dotted key of the mapping, with a dot behind it."""
    if values is None:  # nothing but comments in it
        values = {}
    if not isinstance(values, Mapping):
        raise CamouflageError(f"{where}: {section.rstrip('.') or 'the file'} must have keys with values "
                              f"({', '.join(_annotations(kind))}), but got {reprlib.repr(values)}.")
    annotations, known = _annotations(kind), {}
    for name, value in values.items():
        if name not in annotations:
            raise _unknown(f"{section}{name}", section, kind, where)
        annotation = annotations[name]
        if dataclasses.is_dataclass(annotation):
            known[name] = _read(typing.cast(type, annotation), value, where, f"{section}{name}.")
        else:
            known[name] = _check(value, annotation, f"{where}: {section}{name}")
    return kind(**known)


def _override(config: _T, path: list[str], text: str, section: str) -> _T:
    """The same with one setting changed."""
    (name, *rest), where = path, "--set"
    annotations = _annotations(type(config))
    annotation = annotations.get(name)
    if annotation is None or (rest and not dataclasses.is_dataclass(annotation)):
        raise _unknown(section + ".".join(path), section, type(config), where)
    if rest:
        value = _override(getattr(config, name), rest, text, f"{section}{name}.")
    elif dataclasses.is_dataclass(annotation):
        below = ", ".join(f"{section}{name}.{key}" for key in keys(typing.cast(type, annotation)))
        raise CamouflageError(f"--set: {section}{name} has several settings; name one of them: {below}.")
    else:
        where = f"--set: {section}{name}"
        as_text = annotation is str or typing.get_origin(annotation) is Literal
        value = _check(text if as_text else _parse(text, where), annotation, where)
    changes: dict[str, Any] = {name: value}
    return dataclasses.replace(typing.cast(Any, config), **changes)


def _unknown(key: str, section: str, kind: type, where: str) -> CamouflageError:
    """The error for a key that nobody knows; the nearest known one is by its whole name or by its last part."""
    if key in _RENAMED:
        return CamouflageError(f"{where}: the setting {key!r} is now called {_RENAMED[key]!r}.")

    def likeness(other: str) -> float:
        pairs = ((key, other), (key.split(".")[-1], other.split(".")[-1]))
        return max(difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio() for a, b in pairs)

    nearest = max([*(section + other for other in (*_annotations(kind), *keys(kind)))], key=likeness)
    return CamouflageError(f"{where}: there is no setting {key!r}; the nearest one is {nearest!r}.")


def _check(value: Any, annotation: Any, where: str) -> bool | int | float | str:
    """A value of the type and range that an annotation asks for."""
    if typing.get_origin(annotation) is Literal:
        choices = typing.get_args(annotation)
        if value not in choices:
            raise CamouflageError(f"{where} must be one of {', '.join(choices)}, but got {reprlib.repr(value)}.")
        return value
    if annotation is str:
        if value is not None and not isinstance(value, str):
            raise CamouflageError(f"{where} must be text, in quotes if need be, but got {reprlib.repr(value)}.")
        return value or ""
    if annotation is bool:
        if not isinstance(value, bool):
            raise CamouflageError(f"{where} must be true or false, but got {reprlib.repr(value)}.")
        return value
    wanted, limits = typing.get_args(annotation)
    if wanted is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    fits = isinstance(value, (int, float) if wanted is float else int) and not isinstance(value, bool)
    if not fits or value not in limits:
        what = "a number" if wanted is float else "a whole number"
        raise CamouflageError(f"{where} must be {what} {limits}, but got {reprlib.repr(value)}.")
    return wanted(value)
