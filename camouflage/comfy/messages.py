"""Words for the person at the screen: in the log and on the node."""

from __future__ import annotations

import logging
import sys

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
    # Looked up, not imported: importing it would start to build a web application where there is none.
    prompt_server = getattr(sys.modules.get("server"), "PromptServer", None)
    server = getattr(prompt_server, "instance", None)
    node_id = executing_node()
    if server is not None and node_id is not None:
        server.send_progress_text(text, node_id)
