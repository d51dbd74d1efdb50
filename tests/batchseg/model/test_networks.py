from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from batchseg.errors import BundleError
from batchseg.layers.confidence import CERTAIN
from batchseg.model.architecture import OnnxSpec, SegformerSpec, UNetSpec
from batchseg.model.graph import UPSAMPLING, WholeGraph, choose_best
from batchseg.model.networks import (
    BULK_FIELD_PX,
    BulkNet,
    DetailedSegFormer,
    SegFormer,
    build_network,
    fold_normalisation,
)


def lively(network: nn.Module) -> nn.Module:
    """Normalisation statistics that are not neutral, as after training."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0.0, 0.2)
    return network.eval()


@torch.no_grad()
def test_folding_changes_nothing_but_rounding() -> None:
    network = lively(BulkNet(4, 5, width=16))
    x = torch.randn(2, 4, 64, 96)
    wanted = network(x)
    merged = fold_normalisation(copy.deepcopy(network))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in merged.modules())
    assert wanted.shape == (2, 5, 16, 24)
    torch.testing.assert_close(merged(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("phase", range(8))
def test_the_bulk_network_sees_no_further_than_it_says(phase: int) -> None:
    """Of the gradient of one output pixel, in double precision with all weights positive, so that nothing cancels."""
    network = BulkNet(3, 2, width=8).double().eval()
    for parameter in network.parameters():
        parameter.data.abs_()
    graph = WholeGraph(network, (0.0,) * 3, (1.0,) * 3).double()
    x = torch.ones(1, 3, 192, 192, dtype=torch.float64, requires_grad=True)
    logits = functional.interpolate(network(x), size=(192, 192), mode="bilinear", align_corners=False)
    at = 96 + phase
    logits[0, 0, at, at].backward()
    assert x.grad is not None
    rows = torch.nonzero(x.grad[0].abs().sum((0, 2)))
    seen = (96 - int(rows.min()), int(rows.max()) - 103)  # beyond the cell of 8 pixels
    assert max(seen) <= BULK_FIELD_PX
    if phase in {0, 1, 6, 7}:
        assert max(seen) == BULK_FIELD_PX
    assert graph.scores(x.detach().float()).shape == (1, 2, 192, 192)


def test_the_upsampling_kernel_moves_with_the_graph_and_is_no_weight() -> None:
    graph = WholeGraph(BulkNet(3, 4, width=8), (100.0,) * 3, (50.0,) * 3)
    mixture = graph.decision.mixture
    assert set(graph.state_dict()) == {f"network.{name}" for name in graph.network.state_dict()} | {"mean", "std"}
    assert torch.equal(mixture.sum(1), torch.ones(UPSAMPLING**2))
    assert graph.to(torch.device("meta")).decision.mixture.is_meta


@torch.no_grad()
def test_with_its_halo_a_tile_gives_what_the_whole_image_gives() -> None:
    network = lively(BulkNet(3, 4, width=8))
    graph = WholeGraph(network, (100.0,) * 3, (50.0,) * 3).eval()
    torch.manual_seed(1)
    image = torch.randint(0, 256, (1, 3, 256, 256), dtype=torch.uint8)
    halo = BULK_FIELD_PX
    whole, tile = graph.scores(image), graph.scores(image[:, :, 64 - halo : 160 + halo, 64 - halo : 160 + halo])
    torch.testing.assert_close(tile[:, :, halo:-halo, halo:-halo], whole[:, :, 64:160, 64:160], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(8, 8), (64, 96)])
def test_labels_are_those_of_the_upsampled_logits(shape: tuple[int, int]) -> None:
    graph = WholeGraph(lively(BulkNet(3, 5, width=8)), (100.0,) * 3, (50.0,) * 3).eval()
    image = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    chances, wanted = graph.scores(image).softmax(1).sort(1, descending=True)
    index, confidence = graph(image)
    clear = chances[:, 0] - chances[:, 1] > 1e-5
    assert index.shape == (2, *shape)
    assert clear.float().mean() > 0.9
    assert (index == wanted[:, 0])[clear].all()
    assert ((confidence.float() - CERTAIN * chances[:, 0]).abs() <= 0.51).all()


@pytest.mark.parametrize(
    ("scores", "label", "chance"),
    [
        ([0.0, 0.0, 0.0, 0.0], 0, 0.25),
        ([-1.0, 2.0, 2.0, 0.0], 1, None),
        ([-90.0, -90.0, 90.0, -90.0], 2, 1.0),
        ([-9e4, -9e4, -9e4, 9e4], 3, 1.0),
    ],
)
def test_best_of(scores: list[float], label: int, chance: float | None) -> None:
    index, confidence = choose_best(torch.tensor(scores).view(4, 1, 1, 1).unbind())
    assert (index.dtype, confidence.dtype) == (torch.uint8, torch.uint8)
    chance = float(torch.tensor(scores).softmax(0).max()) if chance is None else chance
    assert (int(index), int(confidence)) == (label, round(CERTAIN * chance))


def test_best_of_is_argmax_and_softmax() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 6, 33, 17) * 3
    index, confidence = choose_best(scores.unbind(1))
    chance, label = scores.softmax(1).max(1)
    np.testing.assert_array_equal(index.numpy(), label.numpy())
    difference = np.abs(confidence.numpy().astype(int) - np.round(CERTAIN * chance.numpy()))
    assert difference.max() <= 1
    assert confidence.max() <= CERTAIN


def test_an_onnx_network_is_not_built_here() -> None:
    with pytest.raises(BundleError, match="cannot be built, only run"):
        build_network(OnnxSpec(), num_bands=3, num_classes=2)


@torch.no_grad()
def test_a_plain_u_net_gives_logits_at_full_resolution() -> None:
    network = build_network(UNetSpec(width=4), num_bands=4, num_classes=5).eval()
    x = torch.randn(1, 4, 64, 96)
    logits = network(x)
    assert logits.shape == (1, 5, 64, 96)
    folded_once = fold_normalisation(network)
    torch.testing.assert_close(folded_once(x), logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_segformer_gives_logits_at_a_quarter() -> None:
    network = build_network(SegformerSpec(size="b0"), num_bands=4, num_classes=5).eval()
    assert network(torch.randn(1, 4, 64, 96)).shape == (1, 5, 16, 24)
    assert 3.6e6 < sum(p.numel() for p in network.parameters()) < 3.9e6


@torch.no_grad()
def test_a_look_at_details_gives_full_resolution_and_begins_with_the_transformers_answer() -> None:
    architecture = SegformerSpec(size="b0", decoder=32, detail=8)
    network = build_network(architecture, num_bands=3, num_classes=5).eval()
    assert isinstance(network, DetailedSegFormer)
    x = torch.randn(1, 3, 64, 96)
    logits = network(x)
    assert logits.shape == (1, 5, 64, 96)
    network.detail.bias.zero_()
    coarse = network.coarse(SegFormer.forward(network, x))
    wanted = functional.interpolate(coarse, size=(64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(x), wanted)
    nn.init.normal_(network.detail.weight)
    assert not torch.allclose(network(x), wanted, atol=0.1)
    torch.testing.assert_close(fold_normalisation(network)(x), network(x), rtol=1e-4, atol=1e-5)


def test_a_segformer_may_have_a_narrower_decoder() -> None:
    sizes = [
        sum(
            p.numel() for p in build_network(SegformerSpec(size="b0", **extra), num_bands=3, num_classes=6).parameters()
        )
        for extra in ({}, {"decoder": 128})
    ]
    assert sizes[1] < sizes[0]
