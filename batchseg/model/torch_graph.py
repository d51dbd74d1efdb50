"""A bundle's graph in torch: its network, built and filled with its weights, and the steps around it."""

from __future__ import annotations

from typing import Any

from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle, read_weights


def load_graph(bundle: Bundle, *, halo_px: int = 0) -> Any:
    """Load the `WholeGraph` of a bundle, ready for inference in float32. Its output leaves out the halo.

    It is not typed as one, because torch's own types do not know `graph.to(memory_format=…)`.
    """
    from safetensors.torch import load

    from batchseg.model.graph import WholeGraph
    from batchseg.model.networks import build_network, fold_normalisation

    contract = bundle.contract
    network = build_network(contract.architecture, num_bands=len(contract.bands), num_classes=len(contract.classes))
    weights = {name: tensor.float() for name, tensor in load(read_weights(bundle)).items()}
    try:
        network.load_state_dict(weights, strict=True, assign=False)
    except RuntimeError as error:
        raise BundleError(
            "the weights are not of this architecture",
            where=contract.name,
            expected=f"the weights of a {contract.architecture.kind}",
            got=str(error).splitlines()[0],
            todo="fetch the bundle again",
        ) from error
    return WholeGraph(fold_normalisation(network.eval()), contract.mean, contract.std, halo_px=halo_px).eval()
