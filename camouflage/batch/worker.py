"""A worker: owns a ComfyUI, and turns a unit of work into its part of the output.

Pictures go through in the order of their unit. Those of one size wait for each other, up to the batch size; none waits
for more than ``WINDOW`` pictures behind it. So what is sampled together follows from the unit's list alone, whoever
works on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..photos import Unreadable, decode, picture_formats
from .accounts import SAVED, Accounts, Outcome, outcome_of
from .client import NodeFailed, ServerDied
from .decisions import Decision
from .host import Host, Result, Stopped

if TYPE_CHECKING:
    from .graphs import Graph
    from .photos import Item, Unit
    from .plan import Plan

LEAST, MOST = 64, 100_000_000  # px of a side, and of a picture, that the verification takes
WINDOW = 8  # times the batch size


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A picture that was read."""

    index: int
    photo: Item
    image: Image.Image


class Worker:
    """Works on units, one after the other; a context manager.

    Args:
        plan: what to do.
        host: the ComfyUI to use, which the worker then owns; a new one if None.
    """

    def __init__(self, plan: Plan, host: Host | None = None) -> None:
        self.plan, self.host = plan, host or Host(plan.server)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends its ComfyUI. May be called twice."""
        self.host.close()

    # --- a unit -----------------------------------------------------------------------------------------------------

    def work(self, unit: Unit, decisions: Mapping[str, Decision], seen: Callable[[Outcome], None] = lambda line: None
             ) -> list[Outcome]:
        """Writes a unit's part of the output and its account.

        What an earlier run has written of it is taken over, but where a decision says otherwise.

        Args:
            unit: of the plan's source.
            decisions: of reviewers, by key of the picture.
            seen: told of every picture as soon as its line is known.

        Raises:
            CamouflageError: the run cannot go on; nothing of the unit is in the output then.
        """
        plan, accounts = self.plan, Accounts(self.plan.output)
        before = {line.key: line for line in accounts.read(unit.number)} if accounts.done(unit.number) else {}
        lines: list[Outcome] = []
        try:
            with contextlib.ExitStack() as stack:
                earlier = stack.enter_context(plan.source.read_back(unit, plan.output)) if before else None
                writer = stack.enter_context(plan.source.writer(unit, plan.output))
                for photo, result in self._in_order(unit, decisions, before, earlier):
                    lines.append(self._written(writer, photo, result, decisions.get(photo.key)))
                    seen(lines[-1])
            self._remove_withdrawn(unit, before, lines)
            accounts.write(unit.number, lines)
        except OSError as error:
            raise Stopped(f"{error.strerror or error}: {error.filename or plan.output}. Nothing of this part was "
                          "written, and what was finished before stays. Make room, or see whether you may write there; "
                          "then run the same command again.") from error
        return lines

    def _written(self, writer: Any, photo: Item, result: Result, decision: Decision | None) -> Outcome:
        word = decision.word if decision else ""
        if result.data is None or result.record is None:
            return Outcome(photo.key, photo.name, result.state, result.reason, decision=word)
        suffix = "." + str(result.record["file"]["name"]).rpartition(".")[2]
        record = {**result.record, "file": {**result.record["file"], "name": PurePosixPath(photo.name).name + suffix}}
        name = writer.add(photo, suffix, result.data, record)
        return outcome_of(photo.key, name, hashlib.sha256(result.data).hexdigest(), record, word)

    def _remove_withdrawn(self, unit: Unit, before: Mapping[str, Outcome], lines: Sequence[Outcome]) -> None:
        """Removes files of a folder that a decision took back."""
        if self.plan.source.form == "folder":
            written = {line.name for line in lines if line.state in SAVED}
            for line in before.values():
                if line.state in SAVED and line.name not in written:
                    file = self.plan.output / line.name
                    for ending in (file.suffix, ".json", *(f".{kept}" for kept in self.plan.source.keep)):
                        file.with_suffix(ending).unlink(missing_ok=True)

    def _in_order(self, unit: Unit, decisions: Mapping[str, Decision], before: Mapping[str, Outcome],
                  earlier: Callable[[str], tuple[bytes, dict[str, Any]]] | None) -> Iterator[tuple[Item, Result]]:
        """The results in the order of the pictures; those whose line stays are taken over as they are."""
        def known(photo: Item) -> Result | None:
            line, decision = before.get(photo.key), decisions.get(photo.key)
            word = decision.word if decision else ""
            if line is None or (line.decision != word and not (word == "accept" and line.state in SAVED)):
                return None  # what is accepted as it was saved is not painted anew
            if line.state in SAVED and earlier is not None:
                return Result(*earlier(line.name))
            return Result(state=line.state, reason=line.reason)

        ready: dict[int, tuple[Item, Result]] = {}
        turn = 0
        photos = ((index, photo, known(photo)) for index, photo in enumerate(self.plan.source.photos(unit)))
        for index, photo, result in self._processed(photos, decisions):
            ready[index] = photo, result
            while turn in ready:
                yield ready.pop(turn)
                turn += 1

    # --- pictures ---------------------------------------------------------------------------------------------------

    def _processed(self, photos: Iterable[tuple[int, Item, Result | None]], decisions: Mapping[str, Decision]
                   ) -> Iterator[tuple[int, Item, Result]]:
        """Results in the order in which they come; see the module for what goes through together."""
        size, waiting = self.plan.batch_size, dict[tuple[int, int], list[_Waiting]]()
        for index, photo, known in photos:
            if known is not None:
                yield index, photo, known
                continue
            try:
                image = self._read(photo)
            except Unreadable as error:
                yield index, photo, Result(state="unreadable", reason=str(error))
                continue
            if (decision := decisions.get(photo.key)) and decision.word:
                yield index, photo, self._decided(photo, image, decision)
                continue
            together = waiting.setdefault(image.size, [])
            together.append(_Waiting(index, photo, image))
            if len(together) == size:
                yield from self._batch(waiting.pop(image.size))
            for late in [key for key, group in waiting.items() if group[0].index <= index - WINDOW * size]:
                yield from self._batch(waiting.pop(late))
        for group in sorted(waiting.values(), key=lambda group: group[0].index):
            yield from self._batch(group)

    def _read(self, photo: Item) -> Image.Image:
        if photo.problem:
            raise Unreadable(photo.problem)
        image = decode(io.BytesIO(photo.read()), picture_formats(), profile=True)
        if min(image.size) < LEAST or image.width * image.height > MOST:
            raise Unreadable(f"{image.width} x {image.height} px; what is verified has {LEAST} px a side to "
                             f"{MOST // 1_000_000} megapixels")
        return image

    def one(self, photo: Item) -> Result:
        """What a single picture becomes; nothing is written."""
        try:
            return self._alone(self.plan.graph, photo, self._read(photo))
        except Unreadable as error:
            return Result(state="unreadable", reason=str(error))

    def _batch(self, group: Sequence[_Waiting]) -> Iterator[tuple[int, Item, Result]]:
        """Pictures that go through together; one by one where something happens to them."""
        results = None
        if len(group) > 1:
            with contextlib.suppress(NodeFailed, ServerDied):
                keys, images = zip(*((one.photo.key, one.image) for one in group), strict=True)
                results = self.host.saved(self.plan.graph, images, self.plan.picture_seed(keys))
        for place, one in enumerate(group):
            result = results[place] if results else self._alone(self.plan.graph, one.photo, one.image)
            yield one.index, one.photo, result

    def _decided(self, photo: Item, image: Image.Image, decision: Decision) -> Result:
        """A picture that a reviewer has decided on."""
        if decision.word == "reject":
            return Result(state="rejected", reason="rejected by a reviewer")
        if decision.word == "redact":
            return self._alone(self.plan.redact, photo, image)
        return self.host.accepted(self.plan.graph, image, self.plan.picture_seed([photo.key]))

    def _alone(self, graph: Graph, photo: Item, image: Image.Image) -> Result:
        return self.host.alone(graph, image, self.plan.picture_seed([photo.key]))
