"""Draws ``docs/example.jpg``, a photo before and after: ``python -m scripts.draw_example``.

The photo is NASA's public-domain portrait of Eileen Collins, which scikit-image ships. Heads are found, covered and
verified by the pack; the verdicts in the picture are what came out.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

from camouflage.files import ROOT
from camouflage.output.sheet import COLOURS
from camouflage.output.sheet_drawing import block, cell, label
from camouflage.verification.centerface import CenterFace
from camouflage.verification.detection import DlibHog
from camouflage.verification.policy import Policy
from camouflage.verification.recognition import DlibRecogniser
from camouflage.verification.verify import Verifier

PICTURE = ROOT / "docs" / "example.jpg"
SIDE, GAP, LINE = 320, 8, 28  # px


def sheet(photo: np.ndarray) -> Image.Image:
    """The photo as it is and with every head covered, each with its verdict; uint8 RGB in, RGB out."""
    recogniser = DlibRecogniser()
    verifier = Verifier((CenterFace(), DlibHog()), recogniser, recogniser.threshold)
    originals = verifier.originals(photo)
    shown = [("The photo, unchanged", photo, verifier.verify(originals, photo))]
    shown += [(f"Redacted: {mode}", *verifier.settle(originals, photo, Policy(redaction=mode)))
              for mode in ("solid", "mosaic")]
    image, draw = block(SIDE + 2 * LINE + 8, len(shown) * (SIDE + GAP) - GAP)
    for i, (title, pixels, checked) in enumerate(shown):
        left = i * (SIDE + GAP)
        image.paste(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, LINE))
        cell(draw, left + 4, LINE / 2, title, 17)
        label(draw, (left, LINE + SIDE + 4, SIDE, LINE), str(checked.verdict), 18, COLOURS[checked.verdict])
    return image


def main() -> None:
    """Writes the picture."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    from skimage.data import astronaut

    sheet(astronaut()).save(PICTURE, quality=85, optimize=True)
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
