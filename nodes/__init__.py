"""V3 schemas: input checks and one call down, never tensor maths."""

from . import annotate, control, faces, guide, light

NODES = [*annotate.NODES, *control.NODES, *guide.NODES, *faces.NODES, *light.NODES]
