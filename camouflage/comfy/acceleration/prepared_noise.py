"""The noise of a stochastic sampler, computed ahead of the steps that add it.

The host's SDE samplers draw the noise of every step from a Brownian tree on the CPU: about a second a picture, in the
thread that starts the GPU's work. Its values depend on the seed, the shape and the noise levels alone, so another
thread can compute them from the moment sampling starts. The sampler gets them as its own argument ``noise_sampler``:
the same values to the last bit.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from comfy.k_diffusion.sampling import BrownianTreeNoiseSampler
from comfy.samplers import KSAMPLER

from ..memo import Memory

_Pairs = list[tuple[torch.Tensor, torch.Tensor]]
_ARGUMENT = "noise_sampler"
_KNOWN = 64  # schedules
_pairs: dict[tuple, _Pairs] = {}


memory = Memory(most_bytes=64 << 20)  # 14 pictures of 768 x 768 px


class PreparedNoise:
    """A ``noise_sampler`` whose values another thread computes, in the order in which the sampler asks.

    Args:
        noise: what sampling starts from; only its shape and dtype matter.
        sigmas: the noise levels of the sampling, on the device that samples.
        seed: of the sampling.
        pairs: the noise levels between which the sampler will ask, in order, on the CPU.
    """

    def __init__(self, noise: torch.Tensor, sigmas: torch.Tensor, seed: int, pairs: _Pairs):
        self._sigmas, self._seed, self._shape = sigmas, seed, noise.shape
        numbers = tuple(float(sigma) for pair in pairs for sigma in pair)
        self._key = (seed, tuple(noise.shape), noise.dtype, float(sigmas.min()), float(sigmas.max()), numbers)
        self._pin = sigmas.device.type == "cuda"
        self._tree: BrownianTreeNoiseSampler | None = None
        self._values: list[Future[torch.Tensor]] = []
        self._next = 0
        self._start: Callable[[], Callable[..., torch.Tensor]] = partial(brownian, noise, sigmas, seed)
        self._live: Callable[..., torch.Tensor] | None = None
        remembered = memory.recall(self._key)
        if remembered is None:
            self._worker = ThreadPoolExecutor(1, "camouflage-noise")
            self._worker.submit(self._plant, noise.detach().cpu(), sigmas.cpu())
            self._values = [self._worker.submit(self._value, *pair) for pair in pairs]
        else:
            self._worker = None
            self._values = [_done(value) for value in (remembered.pin_memory() if self._pin else remembered)]

    def begin(self, noise: torch.Tensor, sigmas: torch.Tensor, seed: int | None) -> None:
        """Called when the sampler starts. Another wrapper may have changed its noise levels, its seed or the shape, or
        may start it twice: then the host's own noise takes over."""
        same = seed == self._seed and noise.shape == self._shape and torch.equal(sigmas.to(self._sigmas), self._sigmas)
        self._next = 0
        self._start = partial(brownian, noise, sigmas, seed)
        self._live = None if same else self._start()

    def __call__(self, sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        """The noise of the step from ``sigma`` to ``sigma_next``, like the picture's latent."""
        if self._live is None and self._next == len(self._values):  # more steps than were foreseen
            self._live = self._start()
        if self._live is not None:
            return self._live(sigma, sigma_next)
        value = self._values[self._next].result()
        self._next += 1
        sigma, sigma_next = torch.as_tensor(sigma), torch.as_tensor(sigma_next)
        return value.to(sigma.device, non_blocking=True) / (sigma_next - sigma).abs().sqrt()

    def close(self) -> None:
        """Stops the thread; what it has computed to the end is remembered."""
        if self._worker is None:
            return
        self._worker.shutdown(wait=False, cancel_futures=True)
        values = self._values
        if values and all(value.done() and not value.cancelled() and value.exception() is None for value in values):
            memory.keep(self._key, torch.stack([value.result() for value in values]))

    def _plant(self, noise: torch.Tensor, sigmas: torch.Tensor) -> None:
        self._tree = brownian(noise, sigmas, self._seed)

    def _value(self, sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        if self._tree is None:
            raise RuntimeError("the Brownian tree could not be made")
        value = self._tree.tree(sigma, sigma_next)
        return value.pin_memory() if self._pin else value


def brownian(noise: torch.Tensor, sigmas: torch.Tensor, seed: int | None) -> BrownianTreeNoiseSampler:
    """The host's own noise of its SDE samplers."""
    return BrownianTreeNoiseSampler(noise, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=True)


def prepare(guider: Any, sampler: Any, noise: torch.Tensor, sigmas: torch.Tensor, seed: int | None
            ) -> tuple[Any, PreparedNoise] | None:
    """A sampler that gets its noise prepared, and that noise; None where it is not known to be the same.

    That is a stock sampler whose function takes a ``noise_sampler`` and was given none, and whose noise is the host's
    Brownian tree: this is tried out on a latent of two numbers, once for each function, schedule and device.

    Args:
        guider: of the host; its model is not called.
        sampler: what the user connected; stays as it is.
        noise, sigmas, seed: of the sampling about to start; ``sigmas`` on the CPU.
    """
    if type(sampler) is not KSAMPLER or seed is None or len(sigmas) < 2:
        return None
    function, options = sampler.sampler_function, sampler.extra_options
    if _ARGUMENT not in _parameters(function) or options.get(_ARGUMENT) is not None:
        return None
    device = guider.model_patcher.load_device
    key = (function, repr(sorted(options.items())), tuple(sigmas.tolist()), noise.ndim, str(device))
    sigmas = sigmas.to(device)
    if key not in _pairs:
        if len(_pairs) >= _KNOWN:
            _pairs.clear()
        _pairs[key] = _pairs_of(_Dummy(guider, function, options, noise.ndim), sigmas)
    pairs = _pairs[key]
    if not pairs:
        return None
    prepared = PreparedNoise(noise, sigmas, seed, pairs)
    return KSAMPLER(function, {**options, _ARGUMENT: prepared}, sampler.inpaint_options), prepared


def _pairs_of(run: _Dummy, sigmas: torch.Tensor) -> _Pairs:
    """The noise levels between which a sampler's function asks the host's Brownian tree for noise, on the CPU; none
    where its noise is of another kind, or depends on the picture."""
    try:
        if not _is_brownian(run, sigmas):
            return []
        pairs = run.pairs(sigmas, 0.5)
        return _to_cpu(pairs) if _same(pairs, run.pairs(sigmas, 0.25)) else []
    except Exception:  # a sampler that needs more of a model than its predictions
        logging.debug("CAMOUFLaGE: the noise of %s is not prepared", run.function, exc_info=True)
        return []


class _Dummy:
    """A sampler's function on a tiny latent, with a model that only scales it."""

    def __init__(self, guider: Any, function: Callable, options: dict, dims: int):
        self.function, self.options, self.dims = function, options, dims
        self.outer = SimpleNamespace(model_patcher=guider.model_patcher, inner_model=guider.model_patcher.model)

    def run(self, sigmas: torch.Tensor, factor: float, seed: int, **options: Any) -> torch.Tensor:
        """Samples two numbers from zero."""

        class Model:
            inner_model = self.outer

            def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
                return x * factor

        start = torch.zeros([1] * (self.dims - 1) + [2], device=sigmas.device)
        with torch.no_grad():
            return self.function(Model(), start, sigmas, extra_args={"seed": seed, "model_options": {}}, callback=None,
                                 disable=True, **{**self.options, **options})

    def pairs(self, sigmas: torch.Tensor, factor: float) -> _Pairs:
        """The noise levels between which the function asks for noise."""
        asked: _Pairs = []

        def noise_sampler(sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
            asked.append((torch.as_tensor(sigma), torch.as_tensor(sigma_next)))
            return torch.zeros([1] * (self.dims - 1) + [2], device=sigmas.device)

        self.run(sigmas, factor, 0, noise_sampler=noise_sampler)
        return asked


def _is_brownian(run: _Dummy, sigmas: torch.Tensor) -> bool:
    """Whether the function's own noise is that of :class:`PreparedNoise`, to the last bit."""
    few = sigmas[torch.linspace(0, len(sigmas) - 1, min(len(sigmas), 4)).long()]
    start = torch.zeros([1] * (run.dims - 1) + [2], device=sigmas.device)
    prepared = PreparedNoise(start, few, 3, _to_cpu(run.pairs(few, 0.5)))
    try:
        return torch.equal(run.run(few, 0.5, 3, noise_sampler=prepared), run.run(few, 0.5, 3))
    finally:
        prepared.close()


def _parameters(function: Callable) -> Any:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _same(first: _Pairs, second: _Pairs) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for one, other in zip(first, second, strict=True)
                                             for a, b in zip(one, other, strict=True))


def _to_cpu(pairs: _Pairs) -> _Pairs:
    """All at once: a copy from a GPU waits."""
    if not pairs:
        return []
    numbers = torch.stack([sigma.float() for pair in pairs for sigma in pair]).cpu()
    return [(numbers[2 * index], numbers[2 * index + 1]) for index in range(len(pairs))]


def _done(value: torch.Tensor) -> Future[torch.Tensor]:
    future: Future[torch.Tensor] = Future()
    future.set_result(value)
    return future
