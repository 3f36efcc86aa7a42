"""Words for the person at the screen: in the log and on the node."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..verification.report import Report, Verdict

logger = logging.getLogger("camouflage")


def executing_node() -> str | None:
    """Id of the node that the host executes right now; None outside of an execution."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:  # hosts without an execution context
        return None
    context = get_executing_context()
    return context.node_id if context is not None else None


def warn(text: str) -> None:
    """Logs ``text`` as a warning and shows it on the executing node."""
    logger.warning(text)
    show(text)


def show(text: str) -> None:
    """Shows ``text`` on the executing node; does nothing where there is no server (in process)."""
    running, node_id = server(), executing_node()
    if running is not None and node_id is not None:
        running.send_progress_text(text, node_id)


def tell(event: str, **facts: Any) -> None:
    """Sends an event to the page that queued the prompt, with the executing node's id as ``node``; no pixel ever."""
    running, node_id = server(), executing_node()
    if running is not None and node_id is not None and running.client_id is not None:
        running.send_sync(event, {"node": node_id, **facts}, running.client_id)


def tell_try(number: int, of: int, seed: int | None, scale: float | None, verdicts: Iterable[Verdict]) -> None:
    """Tells the page that queued the prompt what one try of the executing node gave: no pixel, only numbers.

    Args:
        number: of the try, counted from 1.
        of: tries at most.
        seed, scale: of the sampling, where it has them.
        verdicts: of all persons in the pictures that were sampled.
    """
    tell("camouflage.try", number=number, of=of, seed=seed, anonymization_scale=scale,
         verdicts=Counter(verdict.value for verdict in verdicts))


def report_facts(report: Report) -> dict[str, list[dict[str, Any]]]:
    """What the frontend shows of a report, for a node's ``ui``: plain data without pictures and file names."""
    pictures = [_picture_facts(report, index) for index in range(len(report.pictures))]
    return {"camouflage_report": [{"verdict": report.verdict, "pictures": pictures, "left_out": list(report.skipped),
                                   "text": str(report)}]}


def _picture_facts(report: Report, index: int) -> dict[str, Any]:
    """What a manifest says of a picture, and what follows from it."""
    facts, picture = report.to_json(index), report.pictures[index]
    for told, person in zip(facts["checked"]["persons"], picture.persons, strict=True):
        told["compared"] = person.compared
    return {**facts, "passes": picture.passes, "nobody": picture.nobody}


def server() -> Any:
    """The server in this process; None where there is none."""
    # Looked up, not imported: importing it would start to build a web application where there is none.
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
