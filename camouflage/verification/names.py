"""Which detectors and recognisers there are, by name. Standard library only: the command line reads it, too.

Who loads them stands in :mod:`camouflage.comfy.detectors` for a host, and in the commands without one.
"""

CENTERFACE, DLIB_HOG, RETINAFACE, YUNET = "CenterFace", "dlib", "RetinaFace", "YuNet"
DLIB_RESNET, SFACE = "dlib ResNet", "SFace"

DETECTORS = (CENTERFACE, DLIB_HOG, RETINAFACE, YUNET)
"""The first two come with packages, the others need weights."""
RECOGNISERS = (DLIB_RESNET, SFACE)
"""The first one comes with a package, the other needs weights."""

_DEFAULT = f"{CENTERFACE} + {DLIB_HOG}"
ALL_INSTALLED = "all that are installed"
DETECTOR_CHOICES = (_DEFAULT, CENTERFACE, f"{_DEFAULT} + {RETINAFACE}", f"{_DEFAULT} + {YUNET}", ALL_INSTALLED)
RECOGNISER_CHOICES = (*RECOGNISERS, " + ".join(RECOGNISERS))


def of_choice(choice: str) -> list[str]:
    """The names in a choice, such as "CenterFace + dlib", in its order."""
    return choice.split(" + ")
