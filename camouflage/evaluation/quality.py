"""How good anonymized pictures look: PSNR, SSIM and LPIPS against their originals, FID and KID of the collections.

Nothing is downloaded: LPIPS and the Inception network of FID and KID read weights from files that the user has.
PSNR, SSIM and LPIPS compare pictures of one size, in one frame. An anonymized picture is *meant* to differ from its
original where people are, so these three tell how much of the scene stays, best outside the people.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import CamouflageError
from ..files import file_sha256
from ..packages import package_version, require
from .plain import missing

FEWEST_FID = 2048
"""Pictures of each collection below which FID is refused: with fewer, the covariance of 2,048 features has no full
rank, and the bias is larger than the differences that are reported."""
FEWEST_KID = 100
"""Pictures of each collection that KID takes (our choice); it has no bias, but a spread."""
SUBSETS, SUBSET_SIZE = 100, 1000
"""Subsets that KID is taken over, and pictures in each: as in Bińkowski et al. (2018)."""
RESIZE = "299 x 299 px, bilinear as in TensorFlow 1, by torch-fidelity"
_PUBLISHED = "6726825d"  # how the SHA-256 of torch-fidelity's published Inception weights begins
_SSIM_WINDOW = 11  # px
_LPIPS_LEAST = 32  # px


def psnr(before: np.ndarray, after: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; infinite where the pictures are the same.

    Args:
        before, after: H x W x 3, uint8.

    Raises:
        CamouflageError: pictures of other kinds or sizes.
    """
    metrics = require("skimage.metrics", "scikit-image", "PSNR")
    one, other = _pair(before, after, 1)
    with np.errstate(divide="ignore"):
        return float(metrics.peak_signal_noise_ratio(one, other, data_range=255))


def ssim(before: np.ndarray, after: np.ndarray) -> float:
    """Structural similarity, mean over the colours, -1..1, with the window of Wang et al. (2004): Gaussian, 1.5 px.

    Args:
        before, after: H x W x 3, uint8, at least 11 px.

    Raises:
        CamouflageError: pictures of other kinds or sizes.
    """
    metrics = require("skimage.metrics", "scikit-image", "SSIM")
    one, other = _pair(before, after, _SSIM_WINDOW)
    return float(metrics.structural_similarity(one, other, data_range=255, channel_axis=2, gaussian_weights=True,
                                               sigma=1.5, use_sample_covariance=False))


class Lpips:
    """The learned perceptual distance of Zhang et al. (2018), version 0.1, by the package lpips.

    Args:
        backbone: torchvision's weights of the network, such as ``alexnet-owt-7be5be79.pth``.
        network: "alex" or "vgg".
        linear: the weights of its layers; those that come with the package where none are named.
        device: that it runs on.

    Attributes:
        about: version and digests, as plain data.

    Raises:
        CamouflageError: no such file, or another network's.
    """

    def __init__(self, backbone: Path, network: str = "alex", linear: Path | None = None,
                 device: str | torch.device = "cpu") -> None:
        lpips = require("lpips", "lpips", "LPIPS")
        if network not in ("alex", "vgg"):
            raise CamouflageError(f"LPIPS takes the network alex or vgg, not {network!r}.")
        linear = linear or Path(str(lpips.__file__)).parent / "weights" / "v0.1" / f"{network}.pth"
        body, ends = _weights(backbone, "LPIPS"), _weights(linear, "LPIPS")
        with warnings.catch_warnings():  # the package calls torchvision by old names
            warnings.simplefilter("ignore", UserWarning)
            net = lpips.LPIPS(net=network, pretrained=False, pnet_rand=True, verbose=False)
        # The network's first part is cut into slices: "features.0.weight" is "slice1.0.weight" there.
        _load(net.net, {key: value for key in net.net.state_dict()
                        for value in [body.get(f"features.{key.partition('.')[2]}")] if value is not None},
              backbone, f"torchvision's {network} network")
        for name, layer in net.named_children():
            if name.startswith("lin") and name != "lins":
                _load(layer, {key.partition(".")[2]: value for key, value in ends.items()
                              if key.partition(".")[0] == name}, linear, f"LPIPS's layers for {network}")
        self._net, self._device = net.eval().to(device), device
        self.about = {"library": package_version("lpips"), "network": network, "backbone_sha256": file_sha256(backbone),
                      "linear_sha256": file_sha256(linear)}

    @torch.inference_mode()
    def distance(self, before: np.ndarray, after: np.ndarray) -> float:
        """Of two pictures H x W x 3, uint8, at least 32 px: 0 for the same one, about 1 for unlike ones.

        Raises:
            CamouflageError: pictures of other kinds or sizes.
        """
        one, other = (_tensor(picture).to(self._device) for picture in _pair(before, after, _LPIPS_LEAST))
        return float(self._net(one / 127.5 - 1, other / 127.5 - 1))


class Inception:
    """Features for FID and KID: torch-fidelity's Inception network, the one of TensorFlow that all FIDs are told of.

    Args:
        weights: torch-fidelity's ``weights-inception-2015-12-05-6726825d.pth``.
        device: that it runs on.

    Attributes:
        about: version, digest and resize, as plain data; ``published`` says whether the file is torch-fidelity's own,
            without which the numbers compare with nobody else's.

    Raises:
        CamouflageError: no such file, or another network's.
    """

    def __init__(self, weights: Path, device: str | torch.device = "cpu") -> None:
        module = require("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity", "FID")
        _weights(weights, "FID")  # refuses what is more than numbers, before anybody reads it otherwise
        try:
            net = module.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
        except (RuntimeError, TypeError, AttributeError) as error:
            raise CamouflageError(f"{weights} is not torch-fidelity's Inception network. FID takes "
                                  "weights-inception-2015-12-05-6726825d.pth of its release v0.2.0.") from error
        self._net, self._device = net.eval().to(device), device
        digest = file_sha256(weights)
        self.about = {"library": package_version("torch-fidelity"), "resize": RESIZE, "weights_sha256": digest,
                      "published": digest.startswith(_PUBLISHED)}

    @torch.inference_mode()
    def features(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Of n pictures H x W x 3, uint8, of any size, one after the other: n x 2048, float32."""
        rows = [self._net(_tensor(_picture(picture)).to(torch.uint8).to(self._device))[0].float().cpu().numpy()
                for picture in pictures]
        return np.concatenate(rows) if rows else np.zeros((0, 2048), np.float32)


def fid(before: np.ndarray, after: np.ndarray, forced: bool = False) -> dict[str, Any]:
    """Fréchet Inception distance of two collections by torch-fidelity, as plain data.

    Args:
        before, after: features, n x d and m x d.
        forced: state it for fewer than ``FEWEST_FID`` pictures too; ``caution`` marks it then.

    Returns:
        ``value`` with ``pictures`` (n and m) and ``library``; ``why`` where there is no value.

    Raises:
        CamouflageError: other shapes, or features that are no numbers.
    """
    module = require("torch_fidelity.metric_fid", "torch-fidelity", "FID")
    one, other = _features(before, after)
    about = {"pictures": [len(one), len(other)], "library": package_version("torch-fidelity")}
    least = min(len(one), len(other))
    few = f"{least} pictures; FID takes {FEWEST_FID:,} of each collection, and depends on their number below"
    if least < 2 or (least < FEWEST_FID and not forced):
        return {**missing(few), **about}
    value = module.fid_statistics_to_metric(module.fid_features_to_statistics(one),
                                            module.fid_features_to_statistics(other), False)
    found = {"value": float(value[module.KEY_METRIC_FID]), "interval_95": None, **about}
    return {**found, "caution": few} if least < FEWEST_FID else found


def kid(before: np.ndarray, after: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Kernel Inception distance of two collections by torch-fidelity, as plain data.

    Args:
        before, after: features, n x d and m x d.
        seed: of the subsets.

    Returns:
        ``value``: mean over ``subsets`` subsets of ``subset_size`` pictures each (1,000, or half of the smaller
        collection, so that subsets differ), ``std``: their standard deviation, with ``pictures`` (n and m), ``seed``
        and ``library``; ``why`` where there are fewer than ``FEWEST_KID`` pictures.

    Raises:
        CamouflageError: other shapes, or features that are no numbers.
    """
    module = require("torch_fidelity.metric_kid", "torch-fidelity", "KID")
    one, other = _features(before, after)
    about = {"pictures": [len(one), len(other)], "library": package_version("torch-fidelity")}
    least = min(len(one), len(other))
    if least < FEWEST_KID:
        return {**missing(f"{least} pictures; KID takes {FEWEST_KID} of each collection"), "std": None, **about}
    size = min(SUBSET_SIZE, least // 2)
    found = module.kid_features_to_metric(one, other, kid_subsets=SUBSETS, kid_subset_size=size, rng_seed=seed,
                                          verbose=False)
    return {"value": float(found[module.KEY_METRIC_KID_MEAN]), "std": float(found[module.KEY_METRIC_KID_STD]),
            "interval_95": None, "subsets": SUBSETS, "subset_size": size, "seed": seed, **about}


def _picture(pixels: np.ndarray) -> np.ndarray:
    found = np.asarray(pixels)
    if found.ndim != 3 or found.shape[2] != 3 or found.dtype != np.uint8 or not found.size:
        raise CamouflageError(f"A picture must be H x W x 3 of 8 bits, but got {found.shape} of {found.dtype}.")
    return found


def _pair(before: np.ndarray, after: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    one, other = _picture(before), _picture(after)
    if one.shape != other.shape:
        raise CamouflageError(f"Pictures are compared at one size, but got {one.shape[1]} x {one.shape[0]} and "
                              f"{other.shape[1]} x {other.shape[0]} px. Bring them to one frame first.")
    if min(one.shape[:2]) < least:
        raise CamouflageError(f"A picture of {one.shape[1]} x {one.shape[0]} px is too small for this comparison, "
                              f"which takes {least} px.")
    return one, other


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    """1 x 3 x H x W, 0..255, float32."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float()


def _features(before: np.ndarray, after: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    one, other = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1:] != other.shape[1:]:
        raise CamouflageError(f"Features must be n x d and m x d, but got {one.shape} and {other.shape}.")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise CamouflageError("Some features are no numbers.")
    return torch.from_numpy(one), torch.from_numpy(other)


def _weights(path: Path, what: str) -> dict[str, torch.Tensor]:
    """A file of weights and nothing else."""
    if not path.is_file():
        raise CamouflageError(f"{what} needs the weights {path}, which are not there. Nothing is downloaded; name the "
                              "file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file makes of it
        raise CamouflageError(f"{path} is no file of weights that {what} can read ({type(error).__name__}).") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CamouflageError(f"{path} holds no weights by their names, as {what} needs them.")
    return content


def _load(net: torch.nn.Module, state: dict[str, torch.Tensor], path: Path, what: str) -> None:
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise CamouflageError(f"{path} is not {what}: names or sizes of its weights differ.") from error
