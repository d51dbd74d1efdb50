"""The table of models measures bundles as they are run, over the ground that training measures them on."""

from __future__ import annotations

import pytest

from batchseg.model.bundle import open_bundle
from batchseg.model.contract import Numerics
from batchseg.model.segmenter import load_graph
from batchseg.training.validation import compute_miou, measure_iou
from bench.models import measure_miou
from tests.batchseg.training.small_trainings import square_ground


def test_a_bundle_as_it_is_run_scores_what_its_graph_does() -> None:
    bundle, ground = open_bundle("zoo:synthetic-bulk"), square_ground()
    found = measure_miou(bundle, Numerics(backend="torch", precision="float32", batch=2, threads=1), ground)
    assert found == pytest.approx(compute_miou(measure_iou(load_graph(bundle), ground, halo_px=32)), abs=0.01)
    assert found is not None
    assert found > 0
