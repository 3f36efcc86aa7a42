"""The command line of anonymize and review: what it takes, and which environment it needs."""

from __future__ import annotations

import json

import pytest

from camouflage.commands import launch, runs
from camouflage.errors import CamouflageError


def parse(*arguments: object):
    return launch.make_parser().parse_args(["anonymize", *map(str, arguments)])


def test_the_defaults_need_no_more_than_a_photo_and_a_place():
    options = parse("a.jpg", "--output", "out")
    assert (options.pipeline, options.batch_size, options.workers, options.shard) == ("auto", "auto", 1, (1, 1))
    assert options.keep == options.set == [] and not options.review


@pytest.mark.parametrize(("argument", "value", "found"), [
    ("--shard", "3/8", (3, 8)), ("--keep", "txt, .cls", ["txt", "cls"]), ("--batch-size", "auto", "auto"),
    ("--batch-size", "8", 8), ("--gpus-per-worker", "0.5", 0.5), ("--gpus-per-worker", "2", 2.0),
    ("--set", "Verify.policy=block", [("Verify.policy", "block")]), ("--set", "7.text=a=b", [("7.text", "a=b")])])
def test_values_are_understood(argument, value, found):
    assert getattr(parse("a", "--output", "o", argument, value), argument.strip("-").replace("-", "_")) == found


@pytest.mark.parametrize(("argument", "value"), [
    ("--shard", "0/8"), ("--shard", "9/8"), ("--shard", "3"), ("--shard", "a/b"), ("--keep", "a,,b"),
    ("--batch-size", "0"), ("--batch-size", "65"), ("--gpus-per-worker", "1.5"), ("--gpus-per-worker", "-1"),
    ("--gpus-per-worker", "x"), ("--set", "policy"), ("--set", "policy=block"), ("--workers", "0"),
    ("--seed", "-1"), ("--pipeline", "all"), ("--workflow", "x.txt")])
def test_what_cannot_be_is_refused_with_what_it_must_be(argument, value, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse("a", "--output", "o", argument, value)
    assert stopped.value.code == 2 and argument in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "group"), [
    (["a.jpg"], "base"), (["a.tar"], "base"), (["a.jpg", "--workers", "2"], "batch"), (["a.PARQUET"], "batch"),
    (["a.jpg", "--address", "auto"], "batch"), (["a.tar", "--shard", "1/2"], "base"), (["tables"], "batch"),
    (["photos"], "base")])
def test_ray_is_installed_for_those_who_need_it(arguments, group, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tables/1.parquet", "photos/1.jpg", "out/_camouflage/run.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(json.dumps({"source": {"form": "parquet"}}))
    assert launch.group(parse(*arguments, "--output", "o")) == group
    assert launch.group(launch.make_parser().parse_args(["review", "out"])) == "batch"


@pytest.mark.parametrize(("arguments", "said"), [
    (["gone.jpg"], "There is no"), (["a.jpg", "--pipeline", "redact", "--workflow", "w.json"], "exclude each other"),
    (["a.jpg", "--workflow", "gone.json"], "There is no workflow"), (["a.jpg", "--input", "x"], "for a --workflow"),
    (["a.jpg", "--shard", "1/2", "--workers", "2"], "without Ray"), (["a.jpg", "--pack", "gone"], "custom nodes")])
def test_mistakes_are_said_before_an_environment_is_built(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "w.json").write_text("{}")
    with pytest.raises(CamouflageError, match=said):
        runs.check(parse(*arguments, "--output", "o"))
    with pytest.raises(CamouflageError, match="is not the output of a run"):
        runs.check(launch.make_parser().parse_args(["review", str(tmp_path)]))
