"""V3 schemas: input checks and one call down, never tensor maths."""

from . import annotate, control, guide

NODES = [*annotate.NODES, *control.NODES, *guide.NODES]
