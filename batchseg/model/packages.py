"""Packages that not every installation has, or that need care: imported with an error that says what to install."""

from __future__ import annotations

import sys
from typing import Any

from batchseg.errors import BundleError


def import_onnx(where: str) -> Any:
    """The package onnx; `where` names the file that needs it."""
    try:
        import onnx
    except ImportError as error:
        todo = "run `pip install batchseg[onnx]`"
        raise BundleError("the package onnx is not installed", where=where, todo=todo) from error
    return onnx


def import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        todo = "run `pip install batchseg[onnx]`"
        raise BundleError("onnxruntime is not installed", where="backend onnxruntime", todo=todo) from error
    return onnxruntime


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which would report each import and conversion, and write into the home folder.

    With None as its module, the import of the telemetry fails. OpenVINO then takes a stand-in that reports nothing.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
    import openvino

    return openvino
