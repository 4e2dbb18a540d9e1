"""A network of each family, of its typical architecture."""

from __future__ import annotations

import torch

from napari_unet.checkpoints.families.base import Shapes
from napari_unet.images.intensity import Normalization
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from zoo import recipe


def of_family(family) -> Network:
    """A network of a family's typical architecture with weights that matter."""
    module = family.build(family.typical)
    hints = {"program": family.typical} if family.is_graph else {}
    inferred = family.infer(Shapes(family.accept(module.state_dict())), hints)
    module = calm(family.build({**inferred.architecture, **family.typical}))
    fields = {
        "activation": "sigmoid",
        "normalization": (Normalization(kind="zscore"),),
        **inferred.fields,
    }
    architecture = {**inferred.architecture, **family.typical}
    return Network(
        module,
        ModelSpec(
            name="typical", family=family.name, architecture=architecture, **fields
        ),
    )


def calm(module):
    """Give a module the values of the zoo, which keep activations at about one."""
    state = module.state_dict()
    schema = [
        (k, v.shape, str(v.dtype).removeprefix("torch.")) for k, v in state.items()
    ]
    for key, value in recipe.fill(schema).items():
        state[key].copy_(torch.from_numpy(value))
    return module.eval()
