"""What readers of others see in a file: ``python -m interop.readers READER PATH OUT``.

Runs in any environment that has the reader; this package is not needed. Each reader
gives the pixels, their axes, and of scale, units, channels, colours and levels what it
tells. The program writes the pixels to OUT as .npy and prints the rest as JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np


def ome_types(path):
    """The OME model; checks the text against the schema of OME."""
    from ome_types import from_tiff

    image = from_tiff(path, validate=True).images[0]
    pixels = image.pixels
    scale = {a: getattr(pixels, f"physical_size_{a.lower()}") for a in "ZYX"}
    units = {a: getattr(pixels, f"physical_size_{a.lower()}_unit") for a in "ZYX"}
    if pixels.time_increment is not None:
        scale["T"], units["T"] = pixels.time_increment, pixels.time_increment_unit
    return {
        "sizes": {a: getattr(pixels, f"size_{a.lower()}") for a in "TCZYX"},
        "scale": scale,
        "units": {a: unit.value for a, unit in units.items()},
        "channels": [channel.name for channel in pixels.channels],
    }


def napari_ome_zarr(path):
    """The usual OME-Zarr plugin of napari."""
    from napari_ome_zarr import napari_get_reader

    layers = napari_get_reader(path)(path)
    data, facts, kind = layers[0]
    axes = "".join(facts["axis_labels"]).upper()
    found = {
        "kind": kind,
        "axes": axes,
        "scale": dict(zip(axes, facts["scale"], strict=True)),
        "units": dict(zip(axes, map(str, facts["units"]), strict=True)),
        "levels": len(data),
        "pixels": np.asarray(data[0]),
    }
    if kind == "image":
        names, place = facts["name"], facts.get("channel_axis")
        if place is None:  # a layer for each channel, from 0.11 on
            names, place = [more["name"] for _, more, _ in layers], axes.index("T") + 1
            every = [np.asarray(levels[0]) for levels, _, _ in layers]
            found["pixels"] = np.stack(every, place)
        found["channels"] = [name.split(": ")[-1] for name in names]
        found["axes"] = f"{axes[:place]}C{axes[place:]}"
    elif "colormap" in facts:
        shown = facts["colormap"]
        shown = getattr(shown, "color_dict", shown)
        whole = {k: np.rint(np.multiply(v, 255)) for k, v in shown.items() if k}
        found["colours"] = {k: v.astype(int).tolist() for k, v in whole.items()}
    return found


def bioio_ome_tiff(path):
    """The successor of aicsimageio."""
    from bioio_ome_tiff import Reader

    return _bioio(Reader(path))


def bioio_ome_zarr(path):
    """The same for OME-Zarr."""
    from bioio_ome_zarr import Reader

    reader = Reader(path)
    units = {a: getattr(reader.dimension_properties, a).unit for a in "TZYX"}
    scale = reader.scale._asdict()
    return {
        **_bioio(reader),
        "scale": {a: scale[a] for a in "TZYX" if scale[a] is not None},
        "units": {a: str(unit) for a, unit in units.items() if unit is not None},
        "levels": len(reader.resolution_levels),
    }


def _bioio(reader):
    sizes = reader.physical_pixel_sizes._asdict()
    return {
        "axes": reader.dims.order,
        "scale": {a: size for a, size in sizes.items() if size is not None},
        "channels": [str(name) for name in reader.channel_names or ()],
        "pixels": reader.data,
    }


def ome_zarr(path):
    """The reference implementation of OME-Zarr."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    node = next(iter(Reader(parse_url(path))()))
    facts = node.metadata
    axes = "".join(axis["name"] for axis in facts["axes"]).upper()
    scale = facts["coordinateTransformations"][0][0]["scale"]
    colours = facts.get("color", {}).items()
    return {
        "axes": axes,
        "scale": {a: s for a, s in zip(axes, scale, strict=True) if a != "C"},
        "units": {a["name"].upper(): a["unit"] for a in facts["axes"] if "unit" in a},
        "channels": facts.get("channel_names", []),
        "colours": {i: [round(c * 255) for c in rgba] for i, rgba in colours},
        "levels": len(node.data),
        "pixels": np.asarray(node.data[0]),
    }


def ngff_zarr(path):
    """Another implementation; checks against the JSON schema of OME-Zarr."""
    from ngff_zarr import from_ngff_zarr

    whole = from_ngff_zarr(path, validate=True)
    image = whole.images[0]
    shown = whole.metadata.omero
    return {
        "axes": "".join(image.dims).upper(),
        "scale": {a.upper(): s for a, s in image.scale.items() if a != "c"},
        "units": {a.upper(): unit for a, unit in image.axes_units.items() if unit},
        "channels": [c.label for c in shown.channels] if shown else [],
        "levels": len(whole.images),
        "pixels": np.asarray(image.data),
    }


def ome_zarr_models(path):
    """A strict model of the metadata."""
    import zarr
    from ome_zarr_models import open_ome_zarr

    found = open_ome_zarr(zarr.open_group(path, mode="r"), version="0.5")
    image = found.attributes.ome.multiscales[0]
    axes = "".join(axis.name for axis in image.axes).upper()
    scale = image.datasets[0].coordinateTransformations[0].scale
    label = getattr(found.attributes.ome, "image_label", None)
    return {
        "kind": "labels" if label is not None else "image",
        "axes": axes,
        "scale": {a: s for a, s in zip(axes, scale, strict=True) if a != "C"},
        "units": {a.name.upper(): a.unit for a in image.axes if a.unit},
        "colours": {c.label_value: c.rgba for c in (label and label.colors) or ()},
        "levels": len(image.datasets),
    }


def main(reader: str, path: str, out: str) -> None:
    found = globals()[reader](path)
    if "pixels" in found:
        np.save(out, found.pop("pixels"))
    print(json.dumps(found, default=list))


if __name__ == "__main__":
    main(*sys.argv[1:])
