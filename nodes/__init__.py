"""V3 schemas and one call down, never tensor maths; what a schema does not allow is refused here, for every node."""

from . import annotate, by_hand, calibration, control, faces, guide, light, load, redact, regions, report, save, verify
from .common import checked

NODES = [checked(node) for module in (load, annotate, control, guide, faces, light, verify, redact, save, report,
                                      calibration, by_hand, regions)
         for node in module.NODES]
