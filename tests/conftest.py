"""Where a check that several files share fails, pytest shows the values, as it does in a test."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "tests.batchseg.engine.engine_oracle",
    "tests.batchseg.runs.hard_scenes",
    "tests.batchseg.training.small_trainings",
    "tests.jobs.command_line",
    "tests.store_contract",
)
