"""Train a student from a teacher's soft labels, on rasters with labels and without. Resumes like `train`.

The training recipe names the `teacher`, the `temperature` and the `soft_share`. From a raster whose `labels` are null,
the student learns the teacher's answers only. They are kept beside the bundle, so the teacher runs once.
"""

from __future__ import annotations

from jobs.verbs.train import add_arguments, main

__all__ = ["HELP", "add_arguments", "main"]
HELP = "train a bundle on the answers of a teacher"
