"""Quality: against closed forms, scikit-image, torch-fidelity and lpips; no weights are downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import quality_weights
from camouflage.errors import CamouflageError
from camouflage.evaluation import quality
from camouflage.evaluation.quality import FEWEST_FID, Inception, Lpips, fid, kid, psnr, ssim


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something is downloaded")

    import torch_fidelity.feature_extractor_inceptionv3 as inception

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(inception, "load_state_dict_from_url", refuse)


def flat(level: int, side: int = 32) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


def noise(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def test_psnr_by_hand() -> None:
    """An error of 10 everywhere."""
    assert psnr(flat(100), flat(110)) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(flat(100), flat(100)) == np.inf


def test_ssim_of_flat_pictures_by_hand_and_of_others_by_scikit_image() -> None:
    """Flat pictures have no contrast, so that only the term of the means is left."""
    from skimage.metrics import structural_similarity

    c1 = (0.01 * 255) ** 2
    assert ssim(flat(100), flat(150)) == pytest.approx((2 * 100 * 150 + c1) / (100 ** 2 + 150 ** 2 + c1))
    one, other = noise(0), (noise(0) // 2 + noise(1) // 2).astype(np.uint8)
    wanted = structural_similarity(one, other, channel_axis=2, gaussian_weights=True, sigma=1.5,
                                   use_sample_covariance=False, data_range=255)
    assert ssim(one, other) == pytest.approx(wanted) and 0 < ssim(one, other) < 0.9
    assert ssim(one, one) == pytest.approx(1)


@pytest.mark.parametrize("one, other, words", [
    (flat(0), flat(0, 40), "one size"), (flat(0) / 255, flat(0) / 255, "8 bits"),
    (flat(0, 8), flat(0, 8), "too small")])
def test_pictures_that_cannot_be_compared(one: np.ndarray, other: np.ndarray, words: str) -> None:
    with pytest.raises(CamouflageError, match=words):
        ssim(one, other)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """torchvision's network with seeded weights, and their file."""
    path = tmp_path_factory.mktemp("lpips") / "alexnet.pth"
    return path, quality_weights.alexnet(path)


@torch.inference_mode()
def test_lpips_step_by_step(alexnet: tuple[Path, torch.nn.Module]) -> None:
    """After each of the five convolutions: unit vectors at every place, squared differences, weighed by the package's
    own linear layers, mean over the places, summed."""
    import lpips

    path, features = alexnet
    linear = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", map_location="cpu", weights_only=True)
    shift, scale = (torch.tensor(values)[:, None, None] for values in ((-.030, -.088, -.188), (.458, .448, .450)))
    one, other = noise(0), noise(1)
    x, y = ((torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1 - shift) / scale for picture in (one, other))
    total, layer = 0.0, 0
    for module in features.children():
        x, y = module(x.clone()), module(y.clone())
        if isinstance(module, torch.nn.ReLU):
            a, b = (value / (value.norm(dim=0, keepdim=True) + 1e-10) for value in (x, y))
            weight = linear[f"lin{layer}.model.1.weight"][0]
            total, layer = total + float((weight * (a - b) ** 2).sum(dim=0).mean()), layer + 1
    measure = Lpips(path)
    assert layer == 5 and measure.distance(one, other) == pytest.approx(total, rel=1e-4)
    assert measure.distance(one, one) == 0 and total > 0
    assert measure.about["library"].startswith("lpips ") and len(measure.about["backbone_sha256"]) == 64


def test_lpips_takes_linear_weights_of_a_file(alexnet: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    import lpips

    linear = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", map_location="cpu", weights_only=True)
    torch.save({key: 2 * value for key, value in linear.items()}, tmp_path / "twice.pth")
    one, other = noise(0), noise(1)
    twice = Lpips(alexnet[0], linear=tmp_path / "twice.pth").distance(one, other)
    assert twice == pytest.approx(2 * Lpips(alexnet[0]).distance(one, other), rel=1e-4)


def test_lpips_refuses_other_weights(alexnet: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(CamouflageError, match="torchvision's alex"):
        Lpips(tmp_path / "other.pth")
    torch.save({"lin0.model.1.weight": torch.zeros(2)}, tmp_path / "short.pth")
    with pytest.raises(CamouflageError, match="LPIPS's layers"):
        Lpips(alexnet[0], linear=tmp_path / "short.pth")
    with pytest.raises(CamouflageError, match="no file of weights"):
        Lpips(tmp_path / "text.pth")
    with pytest.raises(CamouflageError, match="Nothing is downloaded"):
        Lpips(tmp_path / "missing.pth")
    with pytest.raises(CamouflageError, match="alex or vgg"):
        Lpips(alexnet[0], "squeeze")


def gaussian(mean: np.ndarray, deviation: np.ndarray, seed: int, count: int = FEWEST_FID) -> np.ndarray:
    """Features that have exactly this mean and this diagonal covariance."""
    drawn = np.random.default_rng(seed).normal(size=(count, len(mean)))
    drawn -= drawn.mean(axis=0)
    drawn = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn, rowvar=False))).T
    return drawn * deviation + mean


def test_fid_of_two_gaussians_in_closed_form() -> None:
    """Distance of the means, squared, and of the standard deviations, squared."""
    draw = np.random.default_rng(0)
    means, deviations = draw.normal(size=(2, 8)), draw.uniform(0.5, 2, (2, 8))
    found = fid(gaussian(means[0], deviations[0], 1), gaussian(means[1], deviations[1], 2))
    assert found["value"] == pytest.approx(((means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2).sum())
    assert found["pictures"] == [2048, 2048] and found["library"].startswith("torch-fidelity ")
    assert "caution" not in found


def test_fid_by_torch_fidelity_itself() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(2100, 16)), draw.normal(0.2, 1.3, (2060, 16))
    a, b = (fid_features_to_statistics(torch.from_numpy(features)) for features in (one, other))
    wanted = fid_statistics_to_metric(a, b, False)
    assert fid(one, other)["value"] == pytest.approx(wanted["frechet_inception_distance"])


def test_fid_of_few_pictures_is_refused_or_marked() -> None:
    few, many = np.random.default_rng(0).normal(size=(2047, 4)), np.random.default_rng(1).normal(size=(2048, 4))
    assert fid(many, few)["value"] is None and "2,048" in fid(many, few)["why"]
    forced = fid(few, many, forced=True)
    assert forced["value"] >= 0 and "2047 pictures" in forced["caution"]
    assert fid(few[:1], few, forced=True)["value"] is None
    with pytest.raises(CamouflageError, match="n x d"):
        fid(many, many[:, :3])
    with pytest.raises(CamouflageError, match="no numbers"):
        fid(many * np.nan, many)


def test_kid_by_torch_fidelity_itself_and_by_hand() -> None:
    """Its mean over subsets lies near the unbiased estimate from all pairs of pictures."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(300, 16)), draw.normal(0.5, 1, (260, 16))
    found = kid(one, other)
    wanted = kid_features_to_metric(torch.from_numpy(one), torch.from_numpy(other), kid_subsets=100,
                                    kid_subset_size=130, rng_seed=0, verbose=False)
    assert found["value"] == pytest.approx(wanted["kernel_inception_distance_mean"])
    assert found["std"] == pytest.approx(wanted["kernel_inception_distance_std"])
    assert (found["subset_size"], found["subsets"], found["pictures"]) == (130, 100, [300, 260])

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / 16 + 1) ** 3

    def apart(a: np.ndarray) -> float:
        values = kernel(a, a)
        return (values.sum() - np.trace(values)) / (len(a) * (len(a) - 1))

    by_hand = apart(one) + apart(other) - 2 * kernel(one, other).mean()
    assert abs(found["value"] - by_hand) < 4 * found["std"] / 100 ** 0.5
    assert kid(one, other) == found and kid(one, other, seed=1)["value"] != found["value"]


def test_kid_of_few_pictures_is_refused() -> None:
    few = np.random.default_rng(0).normal(size=(99, 4))
    assert kid(few, few)["value"] is None and "99 pictures" in kid(few, few)["why"]
    assert kid(np.vstack([few, few]), np.vstack([few, few]))["subset_size"] == 99


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network's file, with seeded weights."""
    return quality_weights.inception(tmp_path_factory.mktemp("inception") / "weights.pth")


def test_features_are_those_of_torch_fidelity(inception: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    net = Inception(inception)
    pictures = [noise(0, 48), noise(1, 64)]
    found = net.features(pictures)
    reference = FeatureExtractorInceptionV3("again", ["2048"], feature_extractor_weights_path=str(inception))
    for row, picture in zip(found, pictures, strict=True):
        wanted = reference(torch.from_numpy(picture).permute(2, 0, 1)[None])[0][0].numpy()
        np.testing.assert_allclose(row, wanted, rtol=1e-4, atol=1e-6)
    assert found.shape == (2, 2048) and np.abs(found[0] - found[1]).max() > 0
    assert net.features([]).shape == (0, 2048)
    assert not net.about["published"] and "299" in net.about["resize"]
    monkeypatch.setattr(quality, "file_sha256", lambda _: "6726825d" + 56 * "0")
    assert Inception(inception).about["published"]


def test_another_network_is_not_the_inception(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CamouflageError, match="not torch-fidelity's Inception"):
        Inception(tmp_path / "other.pth")
    with pytest.raises(CamouflageError, match="not there"):
        Inception(tmp_path / "missing.pth")
