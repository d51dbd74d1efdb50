"""A bundle on disk: `item.json`, which holds the contract as a STAC item (see `item.py`), and its weights.

The weights are `weights.safetensors` for the networks that we build, or `weights.onnx`, a whole network. Their digest
is in the item and is checked before they are used. No pickle is ever loaded.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from batchseg.atomic import make_folder, replace_file
from batchseg.egress import format_json, redact_errors, write_text
from batchseg.errors import BundleError, InputError, IrregularFileError
from batchseg.model.contract import Contract
from batchseg.model.fetch import fetch_bundle
from batchseg.model.item import WEIGHTS, make_item, read_item, weights_name
from batchseg.model.weights_check import check_onnx, check_safetensors
from batchseg.regular_files import read_regular
from batchseg.remote import is_remote
from batchseg.schema import JsonObject, plain

ITEM = "item.json"
ZOO = Path(__file__).resolve().parent.parent / "zoo"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model with its contract, in a folder."""

    contract: Contract
    folder: Path
    weights_sha256: str

    @property
    def weights(self) -> Path:
        return self.folder / weights_name(self.contract)

    @property
    def digest(self) -> str:
        """Digest of all that decides output bytes: contract, numerics and weights, but not quality or lineage."""
        numerics = {kind: numerics.digest_content() for kind, numerics in self.contract.numerics.items()}
        return self._hash({**_graph_content(self.contract), "numerics": numerics})

    @property
    def graph_digest(self) -> str:
        """Digest of the graph alone, however it is run."""
        return self._hash(_graph_content(self.contract))

    def _hash(self, content: JsonObject) -> str:
        text = json.dumps([content, self.weights_sha256], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _graph_content(contract: Contract) -> JsonObject:
    content: JsonObject = plain(contract)
    return {key: value for key, value in content.items() if key not in ("numerics", "quality", "lineage")}


def zoo_names() -> list[str]:
    return sorted(folder.name for folder in ZOO.iterdir() if (folder / ITEM).exists()) if ZOO.exists() else []


def find_bundle_folder(ref: str) -> Path:
    """The folder of a bundle: of a shipped one for `zoo:NAME`, of a local copy for a URL."""
    if is_remote(ref):
        return fetch_bundle(ref)
    if not ref.startswith("zoo:"):
        return Path(ref)
    name, known = ref.removeprefix("zoo:"), zoo_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        todo = f"did you mean zoo:{near[0]}?" if near else f"shipped: {', '.join(f'zoo:{k}' for k in known)}"
        raise BundleError("no such bundle is shipped", where=ref, todo=todo)
    return ZOO / name


@redact_errors
def open_bundle(ref: str, *, check_weights: bool = True) -> Bundle:
    """Open a bundle, and check its contract and its weights.

    Args:
        ref: `zoo:NAME` for a shipped bundle, the path of a folder, or a URL.
        check_weights: Whether to compare the weights with the digest in the contract. A caller that runs the weights
            at once may skip this: `read_weights` compares them anyway.

    Returns:
        The bundle. Its contract is consistent, and its weights are those that the contract names.

    Raises:
        BundleError: There is no bundle at `ref`, its contract is broken, or its weights are missing or damaged.

    Example:
        >>> from batchseg import open_bundle
        >>> [band.name for band in open_bundle("zoo:synthetic-bulk").contract.bands]
        ['red', 'green', 'blue']
    """
    folder = find_bundle_folder(ref)
    try:
        content = json.loads(read_regular(folder / ITEM).decode("utf-8"))
    except (OSError, ValueError, RecursionError, IrregularFileError) as error:
        raise BundleError(
            "this is not a bundle",
            where=ref,
            expected=f"a folder with {ITEM} and {WEIGHTS}",
            got=f"{ITEM}, {error.got}" if isinstance(error, IrregularFileError) else str(error),
            todo="check the path, or take one that is shipped: " + ", ".join(f"zoo:{name}" for name in zoo_names()),
        ) from error
    try:
        item = read_item(content)
    except BundleError:
        raise
    except InputError as error:
        raise BundleError(
            f"the contract cannot be understood: {error.what}",
            where=f"{folder / ITEM}: {error.where}",
            expected=error.expected,
            got=error.got,
            todo=error.todo,
        ) from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        todo = "fetch the bundle again, or make it anew"
        raise BundleError("the contract cannot be understood", where=str(folder / ITEM), got=got, todo=todo) from error
    bundle = Bundle(item.contract, folder, item.weights_sha256)
    _check_weights_name(item.href, bundle)
    if not bundle.weights.exists():
        raise BundleError("the weights are missing", where=str(bundle.weights), todo="fetch the bundle again")
    if check_weights:
        read_weights(bundle)
    return bundle


def _check_weights_name(href: str, bundle: Bundle) -> None:
    """A file of another kind could be a pickle, which can run any program as soon as it is opened."""
    if href != weights_name(bundle.contract):
        raise BundleError(
            "weights of this kind are never loaded",
            where=str(bundle.folder / ITEM),
            expected=f"{weights_name(bundle.contract)} for architecture {bundle.contract.architecture.kind}",
            got=href,
            todo="make a bundle of safetensors or ONNX with `batchseg model import`",
        )


def read_weights(bundle: Bundle) -> bytes:
    """Read the weights, compare them with the digest in the item, and check that nothing in them can harm."""
    try:
        content = read_regular(bundle.weights)
    except IrregularFileError as error:
        raise BundleError("the weights must be a regular file", where=str(bundle.weights), got=error.got) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != bundle.weights_sha256:
        raise BundleError(
            "the weights are not those of the contract",
            where=str(bundle.weights),
            expected=bundle.weights_sha256,
            got=sha256,
            todo="fetch the bundle again",
        )
    check = check_onnx if bundle.contract.is_onnx else check_safetensors
    check(content, str(bundle.weights))
    return content


def write_bundle(folder: Path, contract: Contract, weights: bytes, *, created_at: str) -> None:
    """Write a bundle; `created_at` is its date and time as STAC wants it (2026-01-31T00:00:00Z).

    The item is written last, in one step. If the process dies before that, there is no bundle, and never one with the
    weights of another.
    """
    make_folder(folder)
    (folder / ITEM).unlink(missing_ok=True)
    with replace_file(folder / weights_name(contract)) as unfinished:
        unfinished.write_bytes(weights)
    sha256 = hashlib.sha256(weights).hexdigest()
    item = make_item(contract, weights_sha256=sha256, weights_bytes=len(weights), created_at=created_at)
    with replace_file(folder / ITEM) as unfinished:
        write_text(unfinished, format_json(item, indent=1) + "\n")
