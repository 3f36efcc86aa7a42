"""Operations on many tensors with one launch: those that PyTorch's own optimisers are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# pyright: reportPrivateImportUsage=false


def fill(places: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> None:
    """Copies each tensor to the place of the same number."""
    if places:
        torch._foreach_copy_(list(places), list(tensors))


def copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A copy of each."""
    result = [torch.empty_like(tensor) for tensor in tensors]
    fill(result, tensors)
    return result


def lines(starts: Sequence[torch.Tensor], ends: Sequence[torch.Tensor], weight: float) -> list[torch.Tensor]:
    """``start + weight * (end - start)`` of each."""
    return list(torch._foreach_lerp(list(starts), list(ends), weight))
