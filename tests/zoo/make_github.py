"""Store outputs of the original-style U-Nets on GitHub.

    python make_github.py SOURCES

SOURCES holds the source files, which are not part of this repository:

- aladdinpersson/model.py: aladdinpersson/Machine-Learning-Collection 65b8c80,
  ML/Pytorch/image_segmentation/semantic_segmentation_unet/model.py
- jaxony/model.py: jaxony/unet-pytorch 15b6e02, model.py; xavier_normal and constant
  of torch.nn.init got their present names
- jvanvugt/unet.py: jvanvugt/pytorch-unet 00e358b, unet.py
- leejunhyun/network.py: LeeJunHyun/Image_Segmentation 7a6e5f9, network.py, without its
  recurrent networks
- lwnet/{__init__,res_unet_adrian,get_model}.py: agaldran/lwnet, models/ at 27f57f5 and
  43aea24, without the Gabor variants; __init__.py is empty
- lwnet/res_unet_adrian_relu.py: the same with ReLU, as its comments have it and the
  released weights need
- mateuszbuda/unet.py: mateuszbuda/brain-segmentation-pytorch 3329695, unet.py
- milesial/{__init__,unet_model,unet_parts}.py: milesial/Pytorch-UNet 07debeb, unet/;
  __init__.py is empty
- usuyama/pytorch_unet.py: usuyama/pytorch-unet bebf6a4, pytorch_unet.py

fastmri, elektronn3 and topaz come from requirements/github.txt. Sources with fixed
widths are built at 1/16 of them; the tutorial's 3-D copies are made by putting 3-D
layers in place of its 2-D ones; torchvision's resize is done by the function of torch
that it calls.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from record import Case, record
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

THIN = 16


def main(sources: Path) -> None:
    """Run all sources and store what they give."""
    cases = all_cases(sources)
    record("github", "", cases, "commits as listed in make_github.py")


def all_cases(sources: Path) -> list[Case]:
    """Return every network, made by the files in a folder."""
    sys.path.insert(0, str(sources))
    _stand_in_for_torchvision()
    return [
        *milesial(),
        *mateuszbuda(),
        *jvanvugt(),
        *usuyama(),
        *leejunhyun(),
        *aladdinpersson(),
        *fastmri(),
        *elektronn3(),
        *jaxony(),
        *lwnet(),
        *topaz(),
    ]


def milesial() -> Iterator[Case]:
    """Bilinear and transposed; odd sizes are padded."""
    unet = importlib.import_module("milesial.unet_model").UNet
    for bilinear in (True, False):
        for shape in ((1, 3, 32, 48), (1, 3, 37, 51))[: 2 if bilinear else 1]:
            name = f"milesial-{'bilinear' if bilinear else 'transposed'}-{shape[2]}"
            with thin():
                net = unet(3, 2, bilinear)
            yield Case(name, net, shape, "milesial")


def mateuszbuda() -> Iterator[Case]:
    """Two sets of channels."""
    unet = importlib.import_module("mateuszbuda.unet").UNet
    fields = {"activation": "none"}
    for i, o in ((3, 1), (1, 3)):
        module = unet(i, o, 4)
        shape = (1, i, 32, 48)
        yield Case(f"mateuszbuda-{i}{o}", module, shape, "mateuszbuda", fields=fields)


def jvanvugt() -> Iterator[Case]:
    """All options; without padding sizes that lose a margin."""
    module = importlib.import_module("jvanvugt.unet")
    for norm in (False, True):
        for padding in (False, True):
            for up in ("upconv", "upsample"):
                name = (
                    f"jvanvugt-{up}{'-bn' if norm else ''}{'-pad' if padding else ''}"
                )
                net = module.UNet(1, 2, 3, 2, padding, norm, up)
                shape = (1, 1, 16, 24) if padding else (1, 1, 60, 44)
                told = {"padding": int(padding), "pooling": "average"}
                yield Case(name, net, shape, "jvanvugt", told)
    odd = module.UNet(1, 2, 3, 2, True, True)
    told = {"padding": 1, "pooling": "average"}
    yield Case("jvanvugt-odd", odd, (1, 1, 21, 30), "jvanvugt", told)


def usuyama() -> Iterator[Case]:
    """The one network there is, and with another number of classes."""
    unet = importlib.import_module("usuyama.pytorch_unet").UNet
    for classes in (1, 6):
        with thin():
            net = unet(classes)
        yield Case(f"usuyama-{classes}", net, (1, 3, 16, 24), "usuyama")


def leejunhyun() -> Iterator[Case]:
    """With and without attention."""
    module = importlib.import_module("leejunhyun.network")
    for kind, i, o in (("U_Net", 1, 2), ("AttU_Net", 3, 1)):
        with thin():
            net = getattr(module, kind)(i, o)
        yield Case(f"leejunhyun-{kind}", net, (1, i, 32, 48), "leejunhyun")


def aladdinpersson() -> Iterator[Case]:
    """Even and odd sizes; two and three levels; in 3-D, as its copies are."""
    unet = importlib.import_module("aladdinpersson.model").UNET
    for widths, shape in (
        ([4, 8, 16], (1, 3, 32, 40)),
        ([4, 8], (1, 3, 37, 31)),
        ([4, 8, 16], (1, 3, 35, 46)),
    ):
        name = f"aladdinpersson-{len(widths)}-{shape[2]}"
        yield Case(name, unet(3, 2, widths), shape, "aladdinpersson")
    with solid():
        net = unet(1, 2, [4, 8])
    yield Case("aladdinpersson-3d", net, (1, 1, 8, 12, 4), "aladdinpersson")


def fastmri() -> Iterator[Case]:
    """Even and odd sizes; channels and depth."""
    unet = _file("fastmri", "fastmri/models/unet.py").Unet
    fields = {"activation": "none", "task": "restoration"}
    for args, shape in (
        ((1, 1, 4, 3), (1, 1, 32, 48)),
        ((2, 2, 4, 2), (1, 2, 37, 46)),
    ):
        name = f"fastmri-{args[0]}{args[1]}-{shape[2]}"
        yield Case(name, unet(*args), shape, "fastmri", fields=fields)


def elektronn3() -> Iterator[Case]:
    """The options, in 2-D and 3-D."""
    unet = _file("elektronn3", "elektronn3/models/unet.py").UNet
    flat, deep, odd = (1, 1, 12, 20), (1, 1, 4, 8, 12), (1, 1, 5, 9, 10)
    rows: list[tuple[str, tuple[int, ...], dict[str, Any], dict[str, Any]]] = [
        ("2d", flat, {}, {}),
        ("2d-odd", (1, 1, 19, 22), {}, {}),
        ("3d", deep, {}, {}),
        ("3d-odd", odd, {}, {}),
        ("3d-planar", deep, {"planar_blocks": (0,)}, {}),
        ("3d-planar-all", odd, {"planar_blocks": (0, 1, 2)}, {}),
        ("3d-add", deep, {"merge_mode": "add"}, {}),
        ("2d-add", flat, {"merge_mode": "add"}, {}),
        ("2d-group", flat, {"normalization": "group"}, {"groups": 8}),
        ("3d-group4", deep, {"normalization": "group4"}, {"groups": 4}),
        ("3d-instance", deep, {"normalization": "instance"}, {"norm": "instance"}),
        (
            "2d-instance-half",
            flat,
            {"normalization": "instance", "full_norm": False},
            {"norm": "instance", "full_norm": False, "up_activation": True},
        ),
        ("2d-none", flat, {"normalization": "none"}, {"up_activation": True}),
        ("3d-half-norm", deep, {"full_norm": False}, {}),
        ("2d-prelu", flat, {"activation": "prelu"}, {}),
        *(
            (f"2d-{a}", flat, {"activation": a}, {"activation": a})
            for a in ("leaky", "silu", "rrelu", "lin")
        ),
        (
            "2d-valid",
            (1, 1, 60, 52),
            {"conv_mode": "valid"},
            {"conv_mode": "valid"},
        ),
        (
            "2d-valid-odd",
            (1, 1, 61, 55),
            {"conv_mode": "valid"},
            {"conv_mode": "valid"},
        ),
        (
            "3d-valid-planar",
            (1, 1, 22, 44, 48),
            {"conv_mode": "valid", "planar_blocks": (0,)},
            {"conv_mode": "valid"},
        ),
        *(
            (f"3d-{up}", deep, {"up_mode": up, "planar_blocks": (0,)}, _mode(up))
            for up in ("resizeconv_nearest", "resizeconv_linear", "resizeconv_nearest1")
        ),
        *(
            (f"2d-{up}", flat, {"up_mode": up}, _mode(up))
            for up in ("resizeconv_linear", "resizeconv_linear1")
        ),
    ]
    for name, shape, options, told in rows:
        blocks = 3 if {*options} <= {"planar_blocks", "conv_mode"} else 2
        net = unet(1, 2, blocks, 8, dim=len(shape) - 2, **options)
        yield Case(f"elektronn3-{name}", net, shape, "elektronn3", told)


def _mode(up: str) -> dict[str, str]:
    return {"interpolation": "linear" if "linear" in up else "nearest"}


def jaxony() -> Iterator[Case]:
    """Its up-sampling and merging."""
    unet = importlib.import_module("jaxony.model").UNet
    for up, merge in (
        ("transpose", "concat"),
        ("transpose", "add"),
        ("upsample", "concat"),
    ):
        net = unet(2, 3, 3, 4, up, merge)
        yield Case(f"jaxony-{up}-{merge}", net, (1, 3, 16, 24), "elektronn3")


def lwnet() -> Iterator[Case]:
    """One network and two, with either activation and all options."""
    leaky = importlib.import_module("lwnet.res_unet_adrian").UNet
    relu = importlib.import_module("lwnet.res_unet_adrian_relu").UNet
    double = importlib.import_module("lwnet.get_model")
    shape, widths = (1, 3, 16, 24), [4, 8, 12]
    told = {"slope": 0.01}
    yield Case("lwnet-leaky", leaky(3, 1, widths), shape, "lwnet", told)
    told = {"slope": 0.0}
    yield Case("lwnet-relu", relu(3, 1, widths), shape, "lwnet", told)
    plain = relu(3, 2, widths, 5, "up_conv", False, False)
    yield Case("lwnet-plain-5", plain, shape, "lwnet", told)
    for name, unet, slope in (("relu", relu, 0.0), ("leaky", leaky, 0.01)):
        double.unet = unet
        net = double.wnet(1, 3, widths[:2], mode="eval")
        yield Case(f"lwnet-wnet-{name}", net, shape, "lwnet", {"slope": slope})


def topaz() -> Iterator[Case]:
    """Even and odd sizes, two kernels."""
    small = _file("topaz-em", "topaz/denoising/models.py").UDenoiseNetSmall
    fields = {"activation": "none", "task": "restoration"}
    for top, shape in ((5, (1, 1, 32, 48)), (3, (1, 1, 37, 46))):
        name = f"topaz-small-{top}-{shape[2]}"
        net = small(4, 7, top)
        yield Case(name, net, shape, "topaz", fields=fields)


@contextmanager
def thin() -> Iterator[None]:
    """Make layers of 32 channels and more with 1/16 of them while it lasts."""
    kept = [(c, c.__init__) for c in (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)]

    def scaled(init: Any) -> Any:
        def made(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            args = tuple(a // THIN if a >= 2 * THIN else a for a in args)
            kwargs = {
                k: v // THIN if isinstance(v, int) and v >= 2 * THIN else v
                for k, v in kwargs.items()
            }
            init(self, *args, **kwargs)

        return made

    for kind, init in kept:
        kind.__init__ = scaled(init)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for kind, init in kept:
            kind.__init__ = init  # type: ignore[method-assign]


@contextmanager
def solid() -> Iterator[None]:
    """Put torch's 3-D layers in place of the 2-D ones while it lasts."""
    kinds = ("Conv", "ConvTranspose", "BatchNorm", "MaxPool")
    kept = {f"{kind}2d": getattr(nn, f"{kind}2d") for kind in kinds}
    for kind in kinds:
        setattr(nn, f"{kind}2d", getattr(nn, f"{kind}3d"))
    try:
        yield
    finally:
        for name, layer in kept.items():
            setattr(nn, name, layer)


def _file(package: str, path: str) -> Any:
    """Import one file of a package, without what the package itself imports."""
    where = distribution(package).locate_file(path)
    spec = importlib.util.spec_from_file_location(Path(path).stem, str(where))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        # A dependency that the network does not need: an empty module in its place.
        name = str(error.name)
        for n in range(1, name.count(".") + 2):
            part = ".".join(name.split(".")[:n])
            stand_in = ModuleType(part)
            stand_in.__path__ = []
            stand_in.__getattr__ = lambda _: None  # type: ignore[method-assign]
            sys.modules.setdefault(part, stand_in)
        return _file(package, path)
    return module


def _stand_in_for_torchvision() -> None:
    """Provide `torchvision.transforms.functional.resize` of a batch."""
    functional = ModuleType("torchvision.transforms.functional")

    def resize(x: torch.Tensor, size: Any) -> torch.Tensor:
        return F.interpolate(x, tuple(size), mode="bilinear", antialias=True)

    functional.resize = resize  # type: ignore[attr-defined]
    transforms = ModuleType("torchvision.transforms")
    transforms.functional = functional  # type: ignore[attr-defined]
    sys.modules["torchvision"] = ModuleType("torchvision")
    sys.modules["torchvision.transforms"] = transforms
    sys.modules["torchvision.transforms.functional"] = functional


if __name__ == "__main__":
    main(Path(sys.argv[1]))
