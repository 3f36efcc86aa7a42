"""Long work at the screen: how many are done, how fast, how long it will take."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress(total: int, what: str, before: int = 0) -> tqdm:
    """A bar on standard output: on a terminal it moves, elsewhere it is written every ten seconds.

        with progress(len(photos), "photos") as bar:
            for photo in photos:
                ...
                bar.update()

    Args:
        total: how many there are.
        what: their name, such as "photos".
        before: how many were done before this run; they do not count for the speed.
    """
    return tqdm(total=total, initial=before, unit=f" {what}", file=sys.stdout, dynamic_ncols=True,
                mininterval=0.1 if sys.stdout.isatty() else 10)
