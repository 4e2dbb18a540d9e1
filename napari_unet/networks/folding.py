"""Batch norm folded into the convolution before it, for inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_unet.networks.graph import UnknownLayerError, trace

if TYPE_CHECKING:
    from torch import fx


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it, in place.

    Jacob et al., CVPR 2018 (arXiv:1712.05877), section 3.2. Layers that are used twice,
    and modules whose code cannot be traced, are left as they are.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.

    Returns
    -------
    torch.nn.Module
        `module`, with the norms replaced by identities.
    """
    try:
        graph = trace(module)
    except UnknownLayerError:
        return module
    layers = dict(module.named_modules())
    calls = [str(n.target) for n in graph.nodes if n.op == "call_module"]
    for node in graph.nodes:
        before = _only_input(node)
        if before is None:
            continue
        names = str(before.target), str(node.target)
        if all(calls.count(name) == 1 for name in names):
            _fold(module, layers, *names)
    return module


def _only_input(node: fx.Node) -> fx.Node | None:
    """Return the module call that feeds `node` and nothing else."""
    if node.op != "call_module" or len(node.all_input_nodes) != 1:
        return None
    before = node.all_input_nodes[0]
    return before if before.op == "call_module" and len(before.users) == 1 else None


def _fold(
    module: nn.Module, layers: dict[str, nn.Module], conv_name: str, norm_name: str
) -> None:
    conv, norm = layers[conv_name], layers[norm_name]
    if not isinstance(conv, _ConvNd) or not isinstance(norm, _BatchNorm):
        return
    if norm.running_mean is None or (conv.transposed and conv.groups > 1):
        return
    module.set_submodule(
        conv_name, fuse_conv_bn_eval(conv, norm, transpose=conv.transposed)
    )
    module.set_submodule(norm_name, nn.Identity())
