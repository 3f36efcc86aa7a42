"""What fast mode leaves out of a sampling, and when. Our choice, no part of the paper.

Each part changes the result a little; docs/performance.md says how much, and what it saves.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """Parts of fast mode. What is reused is drawn on in a line from the last two calls that computed it.

    Attributes:
        reuse_scene: every second model call takes the scene controls' output from the calls before.
        reuse_deep: every second model call takes the deep features of the UNet from the calls before (after DeepCache).
        negative_until: part of the noise schedule, 0..1, after which the negative prompt is left out; 1 keeps it.
        identity_until: part of the noise schedule, 0..1, after which there is no guidance away from the identity; 1
            keeps it.
    """

    reuse_scene: bool = False
    reuse_deep: bool = False
    negative_until: float = 1.0
    identity_until: float = 1.0

    def reuses(self, call: int) -> bool:
        """Whether model call ``call`` (from 0) takes something from those before."""
        return call % 2 == 1


FAST = Shortcuts(reuse_scene=True, reuse_deep=True, negative_until=0.5)
"""What the node's mode "fast" does. The identity is kept to the end: without it results come nearer to the original."""
