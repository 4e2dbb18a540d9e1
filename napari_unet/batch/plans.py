"""What is to be done with an image, and whether that was done before."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_unet import __version__
from napari_unet.batch.ledger import Record
from napari_unet.batch.names import files_of, way
from napari_unet.files import digest

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.batch.inputs import Input
    from napari_unet.batch.ledger import Ledger
    from napari_unet.batch.names import Names
    from napari_unet.config import BatchConfig
    from napari_unet.networks.network import Network

# Settings that choose which images are done, or how fast, but not what comes out.
_NO_MATTER = {
    "pattern", "retry_failed", "device", "batch_size", "table", "measure",
    "probabilities", "by_content", "memory_limit", "time_limit", "workers",
    "scheduler", "certificates", "dashboard",
}  # fmt: skip


def is_same(plan: Record, last: Record) -> bool:
    """Whether image, model and settings are those of the last record."""
    same = ("size", "mtime_ns", "model", "settings")
    return all(getattr(plan, name) == getattr(last, name) for name in same)


def settings_digest(config: BatchConfig, network: Network) -> str:
    """SHA-256 of all settings that decide a result, of the run and of the model."""
    chosen = config.model_dump(mode="json", exclude=_NO_MATTER)
    spec = network.spec.model_dump(mode="json", exclude={"name", "provenance"})
    text = json.dumps([chosen, spec], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Plans:
    """What is to be done with an image, and whether it was done already."""

    network: Network
    output: Path
    config: BatchConfig
    ledger: Ledger
    names: Names
    _digests: dict[BatchConfig, str] = field(default_factory=dict)
    _contents: dict[Input, str] = field(default_factory=dict)
    _ways: dict[Path, str] = field(default_factory=dict)

    def settings(self, image: Input) -> BatchConfig:
        """Give the settings of one image: those of the batch, and what is told."""
        series = None if self.config.series == "all" else self.config.series
        told = {"series": image.series or series}
        if image.axes is not None:
            told["axes"] = image.axes
        changed: dict[str, object] = dict(told)
        if image.channels is not None:
            changed["channels"] = image.channels
        return self.config.model_copy(update=changed)

    def plan(self, image: Input) -> Record:
        """Make the record with which the work on an image begins."""
        config = self.settings(image)
        if config not in self._digests:
            self._digests[config] = settings_digest(config, self.network)
        folder, part = image.path.parent, ""
        if folder not in self._ways:
            self._ways[folder] = way(folder, self.output)
        name = self._ways[folder] + image.path.name
        if image.series is not None:
            name, part = f"{name}|{image.series}", f" {image.series}"
        label = image.label or image.path.name
        output = self.names.name(name, label, part)
        files = files_of(self.output / output, config)
        return Record(
            input=name,
            size=image.size,
            mtime_ns=self._changed(image, name),
            model=self.network.digest,
            settings=self._digests[config],
            version=__version__,
            outcome="started",
            **{name: path.name for name, path in files.items()},
        )

    def content(self, image: Input) -> str:
        """Hash of an image, if the settings ask for it and it can be read."""
        if not self.config.by_content or image.fault:
            return ""
        if image not in self._contents:
            try:
                self._contents[image] = digest(image.path)
            except OSError:  # which the work on the image will tell
                return ""
        return self._contents[image]

    def _changed(self, image: Input, name: str) -> int:
        """Time of the last change; that of the record where the content is the same."""
        last = self.ledger[name]
        if last is None or image.mtime_ns == last.mtime_ns or not last.input_sha256:
            return image.mtime_ns
        same = image.size == last.size and self.content(image) == last.input_sha256
        return last.mtime_ns if same else image.mtime_ns

    def is_settled(self, plan: Record, last: Record) -> bool:
        """Whether nothing changed since the last record and it needs no second try."""
        if not is_same(plan, last) or last.output != plan.output:
            return False
        if last.outcome == "failed":
            return not (last.passing or self.config.retry_failed)
        return last.outcome == "done" and self._are_untouched(plan, last)

    def _are_untouched(self, plan: Record, last: Record) -> bool:
        """Whether all that is wanted was written and has the recorded hash."""
        wanted = {file: last.sha256(name) for name, file in plan.files.items()}
        return all(
            sha256 and self.standing(file) == sha256 for file, sha256 in wanted.items()
        )

    def standing(self, name: str) -> str:
        """Hash of what stands under a name, empty where nothing does.

        A pipe or a device, which nobody can hash, is something too.
        """
        path = self.output / name
        if path.is_file() or path.is_dir():
            return digest(path)
        return "no regular file" if path.exists() else ""
