"""Studies: many simulated runs out of one file, what they came to, and the figures that show it. No torch at import."""

from workers.studies.cells import Cell, cells
from workers.studies.plan import Study

__all__ = ["Cell", "Study", "cells"]
