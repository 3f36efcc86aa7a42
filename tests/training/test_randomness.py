"""Order and random numbers are functions of the seed and a number; checkpoints are whole or not there."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from camouflage.errors import CamouflageError
from camouflage.training.randomness import BatchSampler, deterministic, generator, hold_out, timestep

SIZES = [(8, 8)] * 7 + [(8, 6)] * 4 + [(6, 8)]


def test_every_epoch_shows_every_picture_in_batches_of_one_size():
    batches = BatchSampler(SIZES, 3, seed=5)
    assert batches.length == 3 + 2 + 1
    for epoch in range(3):
        shown = [batches.batch(epoch * batches.length + i) for i in range(batches.length)]
        assert all(len(batch) == 3 and len({SIZES[i] for i in batch}) == 1 for batch in shown)
        seen = Counter(i for batch in shown for i in batch)
        assert set(seen) == set(range(len(SIZES)))
        assert sum(seen.values()) == 18, "what fills the last batch of a size up, and nothing else, is there twice"
        assert max(seen[i] for i in range(11)) == 2 and seen[11] == 3


def test_a_batch_depends_on_seed_and_number_alone():
    batches = BatchSampler(SIZES, 3, seed=5)
    ordered = [batches.batch(i) for i in range(30)]
    assert [BatchSampler(SIZES, 3, seed=5).batch(i) for i in reversed(range(30))] == ordered[::-1]
    assert [BatchSampler(SIZES, 3, seed=6).batch(i) for i in range(30)] != ordered
    assert ordered[:6] != ordered[6:12], "every epoch has its own order"


def test_no_picture_is_an_error():
    with pytest.raises(CamouflageError, match="no picture"):
        BatchSampler([], 3, seed=0)


def test_generators_differ_in_any_of_their_parts():
    drawn = {float(torch.rand((), generator=generator(*what), dtype=torch.float64))
             for what in [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1), (0, "a1")]}
    assert len(drawn) == 5
    assert torch.rand(3, generator=generator(0, "a")).equal(torch.rand(3, generator=generator(0, "a")))


def test_timesteps_follow_their_distribution():
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    for sampling, cumulative in (("uniform", lambda t: t), ("cubic", lambda t: 1 - (1 - t) ** (1 / 3))):
        steps = torch.tensor([timestep(value, sampling) for value in u.tolist()])
        assert (steps.min(), steps.max()) == (0, 999)
        for t in (0.1, 0.5, 0.9):
            assert float((steps < 1000 * t).double().mean()) == pytest.approx(cumulative(t), abs=1e-3)
    assert (timestep(0.0, "cubic"), timestep(0.0, "uniform")) == (999, 0)


def test_held_out_pictures_are_not_trained_on():
    sources = [f"{(i * 7919) % 1000:03d}" for i in range(100)]
    kept, held = hold_out(sources, 8)
    assert sorted(kept + held) == list(range(100)) and len(held) == 8
    assert {sources[i] for i in held} == set(sorted(sources)[:8])
    assert len(hold_out(sources, 50)[1]) == 10, "at most a tenth"
    assert hold_out(sources[:5], 8) == ([0, 1, 2, 3, 4], [])


def test_determinism_is_on_for_a_while_only():
    before = torch.are_deterministic_algorithms_enabled()
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled(), "only then attention is deterministic, too"
        with deterministic(False):
            assert not torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled() == before
