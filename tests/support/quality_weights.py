"""Seeded weights in the files that LPIPS and FID take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def alexnet(path: Path) -> torch.nn.Module:
    """Writes torchvision's AlexNet; gives its convolutions."""
    import torchvision

    torch.manual_seed(0)
    features = torchvision.models.alexnet(weights=None).features.eval()
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}
               | {"classifier.1.bias": torch.zeros(4)}, path)
    return features


def inception(path: Path) -> Path:
    """Writes torch-fidelity's Inception network."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {})
        torch.save(FeatureExtractorInceptionV3("random", ["2048"]).state_dict(), path)
    return path
