"""V3 schemas: input checks and one call down, never tensor maths."""

from . import annotate, calibration, control, faces, guide, light, report, save, verify

NODES = [*annotate.NODES, *control.NODES, *guide.NODES, *faces.NODES, *light.NODES, *verify.NODES, *save.NODES,
         *report.NODES, *calibration.NODES]
