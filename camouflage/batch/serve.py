"""Run ComfyUI's main.py, but never longer than the process that started it.

    python camouflage/batch/serve.py [--remove FOLDER] MAIN_PY arguments...

A server that outlives a crashed or killed parent keeps its port, its memory and the user's photo. The parent holds
the other end of this process's standard input; when it is gone, for whatever reason and on whatever system, reading
gives end-of-file and this process leaves at once, after deleting FOLDER (the run's temporary files, which hold the
photo). Standard library only; nothing here knows the pack.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import threading


def watch(descriptor: int, remove: str | None) -> None:
    """Wait for the parent's end, then leave without ceremony: the main thread may be deep in a computation."""
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError:
        pass
    for _ in range(50):  # the main thread may just have written into it
        if remove and os.path.exists(remove):
            shutil.rmtree(remove, ignore_errors=True)
    os._exit(1)


def main() -> None:
    """Take over standard input for the watchdog and become ComfyUI."""
    arguments = sys.argv[1:]
    remove = None
    if arguments[:1] == ["--remove"]:
        remove, arguments = arguments[1], arguments[2:]
    private = os.dup(0)  # ComfyUI and its children must neither read nor hold the pipe
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=watch, args=(private, remove), name="parent watchdog", daemon=True).start()
    folder = os.path.dirname(os.path.abspath(arguments[0]))
    sys.argv = [os.path.join(folder, os.path.basename(arguments[0])), *arguments[1:]]
    here = os.path.dirname(os.path.abspath(__file__))  # first on the path, but with PYTHONSAFEPATH
    sys.path[:] = [folder, *(path for path in sys.path if path != here)]
    os.chdir(folder)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
