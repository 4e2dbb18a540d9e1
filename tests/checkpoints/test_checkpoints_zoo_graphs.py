"""Networks of other libraries as graphs: their names are hidden, so no family helps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from graph_networks import exported, traced, whole
from zoo.opened import opened
from zoo.stored_cases import cases

from napari_unet.checkpoints.draft import Draft
from napari_unet.checkpoints.formats import pt2_file, torchscript_file
from napari_unet.checkpoints.graphs import network_of
from napari_unet.checkpoints.probe import lengths

NAMES = (
    *("github-milesial-bilinear-32", "github-milesial-transposed-32"),
    *("github-jvanvugt-upconv", "monai-unet-res2-batch", "monai-unet-res2-3d"),
    *("monai-dynunet-res", "nnunet-resenc-flat", "smp-resnet18-scse-labels"),
    *("torch_em-2d-InstanceNorm", "biapy-unet-3d-in", "pytorch3dunet-unet3d-gcr"),
    "careamics-2d-n2v2",
)
CASES = {str(case): case for case in cases() if str(case) in NAMES}


def hidden(found):
    """Give the weights names that no family knows."""
    names = {k: k if ":" in k else f"hidden.{n}" for n, k in enumerate(found.tensors)}
    program = found.hints["program"]
    weights = {step: names[k] for step, k in program["weights"].items()}
    return replace(
        found,
        tensors={names[k]: t for k, t in found.tensors.items()},
        hints={"program": {**program, "weights": weights}},
    )


@pytest.mark.parametrize("way", ["traced", "exported"])
@pytest.mark.parametrize("name", NAMES)
def test_graph_gives_what_the_network_gives(tmp_path, name, way):
    network, _ = opened(CASES[name])
    module = network.module.requires_grad_(False)
    least = tuple(lengths(network))
    small, large = (
        torch.randn(1, network.spec.in_channels, *lengths(network, sizes))
        for sizes in (least, tuple(n + 1 for n in least))
    )
    path = tmp_path / "net.pt2"
    if way == "traced":
        found = torchscript_file.read(traced(module, small, path))
    else:
        found = pt2_file.read(exported(module, small, path, "fixed"))
    draft = Draft(path, way, hidden(found), ["0"], told={})
    draft.hints = dict(draft.found.hints)
    graph = network_of(draft)
    assert graph.spec.family == "program"
    for image in (small, large):
        expected = module(image)
        gap = (whole(graph, image) - expected).abs().max()
        assert gap <= 1e-6 * max(1, float(expected.abs().max()))
