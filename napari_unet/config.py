"""Frozen settings: the only source of defaults, ranges, labels and help.

The command line, the dock and the Python API all build these same objects. `title` is
the label in a form, `description` the tooltip and the command-line help.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_unet.errors import UsageError

Kind = Literal["labels", "probabilities", "logits", "instances"]
Tiling = Literal["auto", "stream", "exact", "blend", "whole"]
Window = Literal["gaussian", "hann", "linear"]
Averaging = Literal["none", "flips", "rotations"]
Backend = Literal["auto", "eager", "compile", "openvino"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Target = Literal["auto", "native", "state-dict", "bioimageio", "onnx", "pt2"]
Normalize = Literal["auto", "none", "zscore", "minmax", "percentile"]


class Config(BaseModel):
    """Base of all settings: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def build(cls, **fields: Any) -> Self:
        """Make the settings, telling a wrong value in one sentence.

        Raises
        ------
        UsageError
            If a name is unknown or a value is out of range.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or cls.__name__
            raise UsageError(
                f"The setting {name} cannot be used",
                found=repr(first.get("input")),
                expected=first["msg"][:1].lower() + first["msg"][1:],
            ) from error


class ReadConfig(Config):
    """How an image is read and where the network runs."""

    axes: str | None = Field(
        None,
        title="Axes",
        description="Axes of the image in order, such as ZYX or TCYX; read from the "
        "file's metadata when not given.",
    )
    series: str | None = Field(
        None,
        title="Series",
        description="Name or number of the series in a file that holds several; pages "
        "reads a TIFF page by page, where its metadata contradict them.",
    )
    channels: tuple[int, ...] | None = Field(
        None,
        title="Channels",
        description="Numbers of the image channels that feed the network, in order; "
        "all of them when not given.",
    )
    normalize: Normalize = Field(
        "auto",
        title="Normalize",
        description="Intensity scaling before the network; auto is the model's own.",
    )
    nan: Literal["refuse", "zero"] = Field(
        "refuse",
        title="NaN pixels",
        description="Refuse images with NaN or infinite pixels, or treat them as 0.",
    )
    device: Device = Field(
        "auto",
        title="Device",
        description="Where the network runs; auto takes a GPU where there is one.",
    )
    precision: Precision = Field(
        "auto",
        title="Precision",
        description="Arithmetic of the network; auto is float32, and bfloat16 for the "
        "labels of large stacks where it changes few of them, and in training.",
    )


class PredictConfig(ReadConfig):
    """How a network is run over an image."""

    kind: Kind = Field(
        "labels",
        title="Result",
        description="What to compute: class labels, probabilities, raw logits, or "
        "one number per object (instances).",
    )
    tiling: Tiling = Field(
        "auto",
        title="Tiling",
        description="stream: rows after rows, each computed once, equal to the whole "
        "image; exact: tiles with a halo as wide as the receptive field, equal too; "
        "blend: overlapping patches; whole: one pass; auto: whole where it is small, "
        "stream where the network allows it, else blend.",
    )
    tile: tuple[int, ...] | None = Field(
        None,
        title="Tile size",
        description="Tile size in pixels with its halo, one number for all spatial "
        "axes or one per axis (Z Y X); chosen from the network and the memory when "
        "not given.",
    )
    overlap: float | None = Field(
        None,
        ge=0.0,
        le=0.9,
        title="Overlap",
        description="Share of a patch that overlaps its neighbour; blend only; chosen "
        "when not given.",
    )
    window: Window = Field(
        "gaussian",
        title="Window",
        description="How a patch's weight falls from its middle to its border; blend "
        "only.",
    )
    tta: Averaging = Field(
        "none",
        title="Flips",
        description="Test-time augmentation: average the logits over all flips of the "
        "image, or over flips and rotations by 90° between Y and X; takes 4 or 8 times "
        "as long in 2D, 8 or 16 times in 3D.",
    )
    threshold: float = Field(
        0.5,
        gt=0.0,
        lt=1.0,
        title="Threshold",
        description="Probability from which a pixel is foreground; for networks with "
        "one sigmoid output per class.",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        le=4096,
        title="Batch size",
        description="Tiles or planes per forward pass; chosen when not given.",
    )
    memory: float | None = Field(
        None,
        gt=0.0,
        title="Memory (GB)",
        description="GB that one forward pass of the network may take at most; a frame "
        "that takes more is streamed or cut, patches to blend stay as they are. Chosen "
        "from what is free when not given.",
    )
    backend: Backend = Field(
        "auto",
        title="Backend",
        description="What runs the layers of tiles, patches and whole frames: PyTorch "
        "(eager), PyTorch compiled for one shape of tile, or OpenVINO; built once a "
        "model and shape, and kept. Pays for long runs that do not stream; auto is "
        "eager.",
    )
    gpus: int = Field(
        1,
        ge=1,
        le=64,
        title="GPUs",
        description="Number of CUDA devices of this machine that share the tiles or "
        "planes; streaming uses one.",
    )

    @model_validator(mode="after")
    def _tile_is_positive(self) -> Self:
        if self.tile is not None and (not self.tile or min(self.tile) < 1):
            raise ValueError("tile sizes must be 1 or more")
        return self


class FinetuneConfig(ReadConfig):
    """How a network learns from strokes."""

    max_seconds: float = Field(
        60.0,
        gt=0.0,
        le=7 * 24 * 3600.0,
        title="Time budget",
        description="Seconds after which training stops and keeps the best state.",
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        title="Most steps",
        description="Steps after which training ends, if the time has not before. A "
        "CPU then gives the same weights for the same seed, however fast it is.",
    )
    seed: int = Field(
        0, ge=0, title="Seed", description="Seed of all random choices in training."
    )
    learning_rate: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        title="Learning rate",
        description="Step size of the optimiser; chosen when not given.",
    )
    patch: tuple[int, ...] | None = Field(
        None,
        title="Patch size",
        description="Training patch in pixels, one number or one per spatial axis; "
        "chosen when not given.",
    )
    validation: float | None = Field(
        None,
        ge=0.0,
        le=0.5,
        title="Held-out share",
        description="Share of the strokes kept out of training to score it honestly; "
        "a fifth when not given, and a tenth for a new network of classes, which "
        "learns them once they have scored it.",
    )
    augment: bool = Field(
        True,
        title="Augmentation",
        description="Train on flipped, rotated, scaled, bent and re-lit patches too.",
    )
    orientation: Literal["auto", "any", "fixed"] = Field(
        "auto",
        title="Orientation",
        description="any: patches are flipped and turned; fixed: images always look "
        "the same way up, as those of a body do; auto: fixed where complete labels lie "
        "on the same side of every image.",
    )
    unpainted: bool = Field(
        True,
        title="Unpainted pixels",
        description="New network from strokes, where nothing is painted: it learns to "
        "agree with a classifier of single pixels that learned the same strokes, or, "
        "where objects are painted in 2D, with the average of itself (mean teacher).",
    )
    strokes: Literal["auto", "classes", "instances"] = Field(
        "auto",
        title="Stroke ids",
        description="Whether a stroke id is a class (1 = background, 2 = first kind of "
        "object ...) or one object; auto looks at the ids.",
    )
    complete: bool = Field(
        False,
        title="Complete labels",
        description="The labels are complete, as results are: 0 is background and not "
        "unpainted, 1 the first kind of object (or the first object).",
    )
    changed_images: Literal["refuse", "use"] = Field(
        "refuse",
        title="Changed images",
        description="Of a project: refuse images that have changed since they were "
        "painted on, or use them, with the strokes where they were.",
    )
    ndim: Literal[2, 3] | None = Field(
        None,
        title="Dimensions",
        description="New network: 2 for planes, 3 for volumes; from the strokes when "
        "not given.",
    )
    depth: int | None = Field(
        None,
        ge=1,
        le=6,
        title="Depth",
        description="New network: number of poolings; planned when not given.",
    )
    width: int | None = Field(
        None,
        ge=4,
        le=256,
        title="Width",
        description="New network: channels of the first level; planned when not given.",
    )
    poolings: tuple[int, ...] | None = Field(
        None,
        title="Poolings",
        description="New network: how often each axis (Z Y X) is halved, where that "
        "differs between them; planned when not given.",
    )
    batch: int | None = Field(
        None,
        ge=1,
        le=4096,
        title="Batch size",
        description="Training patches a step; chosen when not given.",
    )

    @model_validator(mode="after")
    def _poolings_are_few(self) -> Self:
        if self.poolings is not None and not all(0 <= n <= 6 for n in self.poolings):
            raise ValueError("poolings are 0 to 6 an axis")
        return self


class ExportConfig(Config):
    """In which form a model is written, and what a description in it says."""

    to: Target = Field(
        "auto",
        title="Target",
        description="native: this plugin's own format; state-dict: plain weights under "
        "the names of the library the model came from; bioimageio: a bioimage.io "
        "package; onnx; pt2: for torch.export.load; auto: by the ending of the name.",
    )
    title: str | None = Field(
        None,
        title="Name",
        description="Name of the model in a bioimage.io package; its own when not "
        "given.",
    )
    description: str | None = Field(
        None,
        title="Description",
        description="What the model does, for a bioimage.io package.",
    )
    authors: tuple[str, ...] = Field(
        (),
        title="Author",
        description="Who made the model, for a bioimage.io package; left open when not "
        "given.",
    )
    license: str | None = Field(
        None,
        title="Licence",
        description="Licence of the model as an SPDX id such as CC-BY-4.0, for a "
        "bioimage.io package; left open when not given.",
    )


class BatchConfig(PredictConfig):
    """How a folder of images is done."""

    pattern: str = Field(
        "*",
        title="Pattern",
        description="Only files whose name matches this pattern, such as *.tif; with "
        "a slash also in folders below, such as **/*.tif.",
    )
    table: str | None = Field(
        None,
        title="Exceptions",
        description="CSV file with the columns file and some of axes, channels, "
        "series, for files that differ from the rest.",
    )
    suffix: Literal[".ome.tif", ".ome.zarr", ".imagej.tif"] = Field(
        ".ome.tif",
        title="Format",
        description="Format of the results; .imagej.tif is a hyperstack that ImageJ "
        "opens without a plugin, of at most 4 GB.",
    )
    retry_failed: bool = Field(
        False,
        title="Retry failed",
        description="Also do the files again that failed last time.",
    )
    measure: bool = Field(
        False,
        title="Table of measurements",
        description="Also write size, place and intensity of each label as CSV, in "
        "physical units; for labels and instances.",
    )
    probabilities: bool = Field(
        False,
        title="Probabilities",
        description="Also write the probabilities, from the same pass of the network, "
        "as name.probabilities beside each result.",
    )
    by_content: bool = Field(
        False,
        title="Compare contents",
        description="Tell by their content whether images of a new time have changed.",
    )
    memory_limit: float | None = Field(
        None,
        gt=0.0,
        title="Memory limit (GB)",
        description="GB that the computing process may take; an image that needs more "
        "fails, and the rest goes on.",
    )
    time_limit: float | None = Field(
        None,
        gt=0.0,
        title="Time limit (min)",
        description="Minutes that one image, or a slab of a divided one, may take; "
        "beyond, it fails, and the rest goes on.",
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=256,
        title="Workers",
        description="Number of processes on this computer that do images, or slabs of "
        "a huge one, at the same time, with its cores shared out among them; needs the "
        "extra [dask].",
    )
    scheduler: str | None = Field(
        None,
        title="Scheduler",
        description="Dask scheduler whose workers do the images: its address, such as "
        "tls://10.0.0.1:8786, or the file it wrote.",
    )
    certificates: str | None = Field(
        None,
        title="Certificates",
        description="Folder with ca.pem, cert.pem and key.pem for the scheduler; what "
        "Dask is configured with when not given.",
    )
    dashboard: bool = Field(
        False,
        title="Dashboard",
        description="Show the work of the workers in a browser, on this computer only.",
    )

    @model_validator(mode="after")
    def _can_be_measured(self) -> Self:
        if self.measure and self.kind not in ("labels", "instances"):
            raise ValueError("only labels and instances can be measured")
        return self

    @model_validator(mode="after")
    def _probabilities_are_beside(self) -> Self:
        if self.probabilities and self.kind == "probabilities":
            raise ValueError("the result itself is the probabilities")
        return self

    @model_validator(mode="after")
    def _one_cluster(self) -> Self:
        if self.workers and self.scheduler:
            raise ValueError("either workers of this computer or a scheduler")
        if self.certificates and not self.scheduler:
            raise ValueError("certificates are for a scheduler")
        if self.dashboard and not self.workers:
            raise ValueError("the dashboard is for workers of this computer")
        return self
