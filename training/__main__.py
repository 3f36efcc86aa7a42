"""``python -m training``, or this folder or file itself as a script, from wherever one is."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)

# The root goes last, for ComfyUI's own `nodes` must win over our folder of that name; this folder goes altogether.
sys.path[:] = [path for path in sys.path if os.path.abspath(path) not in (HERE, ROOT)] + [ROOT]

if __name__ == "__main__":  # not in a data loader's process
    from training.cli import main

    sys.exit(main())
