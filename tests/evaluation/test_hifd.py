"""HiFD's own package reads our files and gives the scores that were measured."""

from __future__ import annotations

import hifd
import numpy as np
import pytest
from hifd import io as theirs

from camouflage.evaluation import hifd as ours


@pytest.fixture
def write(tmp_path):
    def both(files: tuple[str, str]) -> tuple[dict, dict, list[str]]:
        paths = [tmp_path / name for name in ("orig.json", "deid.json")]
        for path, text in zip(paths, files, strict=True):
            path.write_text(text, encoding="utf-8")
        return theirs.load_pair(*map(str, paths))
    return both


def test_embeddings_score_the_same_and_are_not_published(write):
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 5, 128))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    names = [f"s{i}" for i in range(5)]
    before, after, common = write(ours.embeddings(names, cosines, "dlib"))
    assert common == names
    for i, name in enumerate(names):
        one, other = (theirs.extract_embedding(of, name) for of in (before, after))
        assert len(one) == len(other) == 2
        assert hifd.privacy_score(one, other) == pytest.approx(hifd.privacy_score(a[i], b[i]), abs=1e-9)


def test_landmarks_score_the_same_in_the_frame_of_the_eyes(write):
    draw = np.random.default_rng(1)
    before = np.array([[[30, 40], [70, 42], [50, 60], [35, 80], [65, 80]]], float) + draw.normal(0, 1, (4, 5, 2))
    after = before + draw.normal(0, 2, before.shape)
    names = [f"s{i}" for i in range(4)]
    first, second, _ = write(ours.landmarks(names, before, after, "dlib"))
    for i, name in enumerate(names):
        points, left, right = theirs.extract_landmark(first, name)
        moved, _, _ = theirs.extract_landmark(second, name)
        assert hifd.score_landmark(points, moved, left, right, 0.10) == pytest.approx(
            hifd.score_landmark(before[i], after[i], before[i, 0], before[i, 1], 0.10), abs=1e-9)


def test_classes_score_what_their_probabilities_say(write):
    before, after = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.6, 0.4], [0.3, 0.7]])
    first, second, _ = write(ours.categories(["a", "b"], "gender", ["female", "male"], before, after, "FACER"))
    for i, name in enumerate("ab"):
        assert theirs.extract_probs(first, name) == pytest.approx(before[i])
        assert theirs.extract_probs(second, name) == pytest.approx(after[i])
