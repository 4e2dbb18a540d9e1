"""What learns from the strokes: this package, a random forest, MONAI's BasicUNet."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from skimage.feature import multiscale_basic_features
from skimage.measure import label

import napari_unet
from napari_unet import checkpoints
from napari_unet.config import FinetuneConfig
from napari_unet.events import drain
from napari_unet.images.stack import ImageStack
from napari_unet.training.annotations import Example
from napari_unet.training.finetune import finetune

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.finetuning.sets import Pair


@dataclass(frozen=True)
class Budget:
    """How long a network may train: seconds, or steps where those are fewer."""

    seconds: float
    steps: int | None
    seed: int = 0


class Learner(Protocol):
    """Learns all strokes so far from its start, then predicts."""

    knows: bool
    """Whether it can predict before the first stroke."""

    def learn(self, pairs: list[Pair], strokes: list[np.ndarray]) -> None: ...

    def classes(self, pair: Pair) -> np.ndarray: ...

    def objects(self, pair: Pair) -> np.ndarray: ...


@dataclass
class Ours:
    """This package, from a checkpoint or from scratch."""

    folder: Path
    budget: Budget
    base: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    _numbers: Any = field(default_factory=itertools.count, repr=False)

    def __post_init__(self) -> None:
        self.path = self.base

    @property
    def knows(self) -> bool:
        return self.base is not None

    def learn(self, pairs: list[Pair], strokes: list[np.ndarray]) -> None:
        examples = [
            Example(pair.stack, ImageStack(paint, pair.axes, name="strokes"))
            for pair, paint in zip(pairs, strokes, strict=True)
            if paint.any() or self.settings.get("complete")
        ]
        config = FinetuneConfig.build(
            max_seconds=self.budget.seconds,
            seed=self.budget.seed,
            **{
                "strokes": "classes",
                "ndim": pairs[0].image.ndim if self.base is None else None,
                "max_steps": self.budget.steps,
                **self.settings,
            },
        )
        path = self.folder / f"round-{next(self._numbers)}.safetensors"
        path.unlink(missing_ok=True)
        network = None if self.base is None else checkpoints.load(self.base)
        made = drain(
            finetune(
                examples, network, config, path,
                earlier=[] if self.base is None else [self.base],
            )
        )  # fmt: skip
        # As in the dock: a round that the guard objects to is not taken over.
        if self.path is None or not made.worse:
            self.path = path

    def classes(self, pair: Pair) -> np.ndarray:
        return self._predict(pair, "labels")

    def objects(self, pair: Pair) -> np.ndarray:
        return self._predict(pair, "instances")

    def _predict(self, pair: Pair, kind: str) -> np.ndarray:
        assert self.path is not None
        found = napari_unet.predict(pair.stack, self.path, kind=kind)
        return np.asarray(found).astype(np.int32)


class Components:
    """Objects as connected components, for learners that only know classes."""

    knows = False

    def objects(self, pair: Pair) -> np.ndarray:
        return label(self.classes(pair) > 0)

    def classes(self, pair: Pair) -> np.ndarray:
        raise NotImplementedError


class Forest(Components):
    """Random forest on multiscale features, the recipe of ilastik.

    Intensity, edges (Gaussian gradient) and texture (eigenvalues of the Hessian) at
    sigma 1 to 16; 100 trees of depth 10.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._cache: dict[str, np.ndarray] = {}

    def learn(self, pairs: list[Pair], strokes: list[np.ndarray]) -> None:
        from sklearn.ensemble import RandomForestClassifier

        painted = [(p, s) for p, s in zip(pairs, strokes, strict=True) if s.any()]
        seen = np.concatenate([self._features(p)[s > 0] for p, s in painted])
        ids = np.concatenate([s[s > 0] for _, s in painted])
        self._trees = RandomForestClassifier(
            100, n_jobs=-1, max_depth=10, random_state=self._seed
        )
        self._trees.fit(seen, ids)

    def classes(self, pair: Pair) -> np.ndarray:
        seen = self._features(pair)
        ids = self._trees.predict(seen.reshape(-1, seen.shape[-1]))
        return ids.reshape(pair.image.shape).astype(np.int32) - 1

    def _features(self, pair: Pair) -> np.ndarray:
        """Features (*spatial, F), computed once; intensities per image as ours."""
        if pair.name not in self._cache:
            self._cache[pair.name] = multiscale_basic_features(
                scaled(pair.image), sigma_min=1, sigma_max=16
            ).astype(np.float32)
        return self._cache[pair.name]


class Monai(Components):
    """MONAI's BasicUNet as it comes, cross-entropy on painted pixels, Adam at 1e-3.

    Patches lie around painted pixels drawn evenly; flips unless images keep their
    orientation, no other augmentation.
    """

    def __init__(
        self, classes: int, ndim: int, budget: Budget, flips: bool = True
    ) -> None:
        self._number, self._ndim, self._budget = classes, ndim, budget
        self._flips = flips

    def learn(self, pairs: list[Pair], strokes: list[np.ndarray]) -> None:
        import time

        from monai.networks.nets import BasicUNet

        torch.manual_seed(self._budget.seed)
        random = np.random.default_rng(self._budget.seed)
        self._net = BasicUNet(self._ndim, 1, self._number)
        optimizer = torch.optim.Adam(self._net.parameters(), 1e-3)
        loss = torch.nn.CrossEntropyLoss(ignore_index=-1)
        painted = [
            (scaled(p.image), s) for p, s in zip(pairs, strokes, strict=True) if s.any()
        ]
        places = [(n, at) for n, (_, s) in enumerate(painted) for at in np.argwhere(s)]
        end, steps = time.monotonic() + self._budget.seconds, 0
        while time.monotonic() < end and steps != self._budget.steps:
            batch = [
                self._patch(painted, *places[random.integers(len(places))], random)
                for _ in range(4 if self._ndim == 2 else 2)
            ]
            images, targets = (np.stack(part) for part in zip(*batch, strict=True))
            self._net.train()
            optimizer.zero_grad()
            logits = self._net(torch.from_numpy(images)[:, None])
            loss(logits, torch.from_numpy(targets).long() - 1).backward()
            optimizer.step()
            steps += 1

    def _patch(
        self,
        painted: list[tuple[np.ndarray, np.ndarray]],
        number: int,
        at: np.ndarray,
        random: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cut a patch around a painted pixel, mirrored and unknown beyond the image."""
        size = (96, 96) if self._ndim == 2 else (32, 64, 64)
        image, strokes = painted[number]
        low = [
            int(a) - n // 2 + int(random.integers(-8, 9))
            for a, n in zip(at, size, strict=False)
        ]
        ask = [np.arange(start, start + n) for start, n in zip(low, size, strict=True)]
        cut = image[
            np.ix_(*(_mirrored(i, n) for i, n in zip(ask, image.shape, strict=False)))
        ]
        known = np.zeros(size, strokes.dtype)
        inside = [(i >= 0) & (i < n) for i, n in zip(ask, image.shape, strict=True)]
        known[np.ix_(*inside)] = strokes[
            np.ix_(*(i[m] for i, m in zip(ask, inside, strict=True)))
        ]
        axes = tuple(np.flatnonzero(random.integers(0, 1 + self._flips, self._ndim)))
        return np.flip(cut, axes).copy(), np.flip(known, axes).copy()

    @torch.inference_mode()
    def classes(self, pair: Pair) -> np.ndarray:
        self._net.eval()
        sides = [(0, -n % 16) for n in pair.image.shape]
        image = np.pad(scaled(pair.image), sides, mode="symmetric")
        logits = self._net(torch.from_numpy(image)[None, None])[0]
        whole = tuple(slice(n) for n in pair.image.shape)
        return logits.argmax(0).numpy()[whole].astype(np.int32)


def scaled(image: np.ndarray) -> np.ndarray:
    """Percentiles 1 and 99.8 to 0 and 1, as float32."""
    low, high = np.percentile(image, (1, 99.8))
    return ((image - low) / max(high - low, 1e-9)).astype(np.float32)


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    folded = np.abs(index) % max(2 * (size - 1), 1)
    return np.minimum(folded, 2 * (size - 1) - folded)
