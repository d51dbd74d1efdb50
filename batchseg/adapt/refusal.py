"""The refusal of a new bundle, with what was measured of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from batchseg.errors import BundleError


class RefusedBundleError(BundleError):
    """A new bundle is not good enough, and was not written."""

    measured: object = None
    """The measurements of the bundle: `LabelEvidence` from `adjust`, `QuantizationResult` from `quantize`."""


@contextmanager
def attach_measured(measured: object) -> Iterator[None]:
    """Turn a BundleError into a RefusedBundleError that holds what was measured, for callers that print it."""
    try:
        yield
    except BundleError as error:
        refusal = RefusedBundleError(
            error.what, where=error.where, expected=error.expected, got=error.got, todo=error.todo
        )
        refusal.measured = measured
        raise refusal from error
