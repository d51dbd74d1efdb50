"""The table of models measures bundles with their numerics, on the ground that training measures them on."""

from __future__ import annotations

import pytest

from batchseg.model.bundle import open_bundle
from batchseg.model.contract import Numerics
from batchseg.model.torch_graph import load_graph
from batchseg.training.validation import compute_miou, measure_iou
from bench.models import measure_miou
from tests.batchseg.training.small_trainings import square_ground


def test_a_segmenter_scores_as_its_graph_does() -> None:
    bundle, ground = open_bundle("zoo:synthetic-bulk"), square_ground()
    miou = measure_miou(bundle, Numerics(backend="torch", precision="float32", batch=2, threads=1), ground)
    assert miou == pytest.approx(compute_miou(measure_iou(load_graph(bundle), ground, halo_px=32)), abs=0.01)
    assert miou is not None
    assert miou > 0
