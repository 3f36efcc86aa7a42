"""How several processes share the suite."""

from __future__ import annotations

import contextlib

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController


class Scheduler(LoadScopeScheduling):
    """The tests of a file stay together, and one process has all that the served ComfyUI is for: there is one such
    server then, of several GB. So it is with the one that commands start."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        if file.startswith(("tests/commands/test_anonymize", "tests/commands/test_demo",
                            "tests/commands/test_experiment", "tests/commands/test_weights_command")):
            return "commands"
        return "served" if file.startswith(("tests/server/", "tests/documents/")) else file

    def _reschedule(self, node: WorkerController) -> None:
        """Work for a process, until it has more than two tests or there are no more: it waits with its last test until
        it knows of another, and what a crash left may be a single one. What cannot be sent, for the process has ended
        and that is not known yet, stays with it until `remove_node`."""
        with contextlib.suppress(OSError):
            while (node in self.registered_collections and not node.shutting_down
                   and self._pending_of(self.assigned_work[node]) <= 2):
                super()._reschedule(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Of a process that has ended: the test that it died of; what it had not begun goes to the others.

        xdist 3.8 would run that test again, and again. It would also hand out what was finished, and wait for it.
        """
        units = self.assigned_work.pop(node)
        crashed = next((test for unit in units.values() for test, done in unit.items() if not done), None)
        if crashed is not None:
            units[self._split_scope(crashed)][crashed] = True
            self.workqueue.update({scope: unit for scope, unit in units.items() if not all(unit.values())})
            for other in self.assigned_work:
                self._reschedule(other)
        return crashed
