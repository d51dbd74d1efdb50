"""Spot notices, asked of a server that speaks as EC2's does."""

from __future__ import annotations

import time

import pytest

from jobs.cluster.notice import Ec2Metadata, parse_notice
from tests.jobs.ec2 import Ec2


@pytest.fixture
def ec2():
    server = Ec2()
    yield server
    server.close()


def test_there_is_no_notice_until_there_is_one(ec2: Ec2) -> None:
    metadata = Ec2Metadata(ec2.endpoint)
    assert metadata.notice() is None
    ec2.notices_to_give, ec2.notice_s = 1, 120.0
    notice = metadata.notice()
    assert notice is not None
    assert notice.action == "terminate"
    assert 110 < notice.deadline_unix_s - time.time() <= 120


def test_a_token_that_ran_out_is_asked_for_again(ec2: Ec2) -> None:
    metadata = Ec2Metadata(ec2.endpoint)
    assert metadata.notice() is None
    ec2.token = "another-token"
    ec2.notices_to_give = 1
    assert metadata.notice() is None, "refused"
    assert metadata.notice() is not None


def test_where_nobody_answers_that_is_an_error_and_no_absence(ec2: Ec2) -> None:
    ec2.close()
    with pytest.raises(OSError, match="refused"):
        Ec2Metadata(ec2.endpoint).notice()


def test_a_notice_as_the_documents_have_it() -> None:
    notice = parse_notice(b'{"action": "terminate", "time": "2017-09-18T08:22:00Z"}')
    assert (notice.action, notice.deadline_unix_s) == ("terminate", 1505722920.0)
