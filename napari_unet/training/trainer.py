"""Trainer: the optimisation of one network, step by step."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from napari_unet.errors import DeviceError, StrokesError
from napari_unet.networks.device import is_out_of_memory
from napari_unet.training import consistency
from napari_unet.training.consistency import consistency_loss
from napari_unet.training.losses import stroke_loss
from napari_unet.training.pixels import soft_loss
from napari_unet.training.recipe import learning_rate
from napari_unet.training.sampling import Patches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from napari_unet.training.coding import Coding
    from napari_unet.training.recipe import Recipe
    from napari_unet.training.rehearsal import Rehearsal
    from napari_unet.training.sampling import PatchSampler

    State = dict[str, torch.Tensor]

_KEEP = 0.99  # of the averaged weights at each step
_DRAWS = 100  # of a batch until one has paint
_CLIP = 5.0  # greatest norm of a gradient


class _Task(NamedTuple):
    """Patches to learn, what their targets stand for, and how much they count."""

    batch: Patches
    coding: Coding
    share: float = 1.0


class Trainer:
    """Trains a copy of a module and averages its weights.

    The average (Polyak and Juditsky 1992, here exponential) is what is scored and kept.
    The original module is never changed.

    Attributes
    ----------
    steps : int
        Steps taken so far.
    rate : float
        Peak of the learning rate, halved by every roll-back.
    parts : int
        In how many parts a batch is computed, more than 1 where memory was short.
    average : torch.nn.Module
        The averaged network.

    Parameters
    ----------
    module : torch.nn.Module
        Float32 network.
    coding : Coding
        What the targets stand for.
    sampler : PatchSampler
        Where patches come from.
    recipe : Recipe
        How to train.
    device : torch.device
        Where to train.
    seed : int
        Seed of all random choices.
    rehearsal : Rehearsal, optional
        What is practised along with it: half of every step's loss.
    """

    def __init__(
        self,
        module: nn.Module,
        coding: Coding,
        sampler: PatchSampler,
        recipe: Recipe,
        device: torch.device,
        seed: int,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        self.steps, self.parts = 0, 1
        self._coding, self._sampler, self._recipe = coding, sampler, recipe
        self._device, self._rehearsal = device, rehearsal
        sampler.to(device)
        if rehearsal is not None:
            rehearsal.sampler.to(device)
        self._generator = torch.Generator().manual_seed(seed)
        self._layout: Any = (
            torch.channels_last if len(recipe.margin) == 2 else torch.channels_last_3d
        )
        own: Any = copy.deepcopy(module).to(device)
        self._module: nn.Module = own.to(memory_format=self._layout)
        self.average = copy.deepcopy(self._module).eval().requires_grad_(False)
        self.rate, self._agreement = recipe.learning_rate, 0.0
        self._good = self._start()

    def _start(self) -> tuple[State, State]:
        """Begin to optimise from the present weights; returns them."""
        self._module.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(
            self._module.parameters(), self.rate, weight_decay=self._recipe.decay
        )
        return _copy(self._module), _copy(self.average)

    def step(self, progress: float) -> float:
        """Take one step and return its loss.

        Parameters
        ----------
        progress : float
            How much of the training is done, 0 to 1.

        Returns
        -------
        float
            NaN or infinite if the training failed; the weights are then unchanged.
        """
        share = consistency.weight(progress, self.steps)
        self._agreement = self._recipe.consistency * share
        tasks = list(self._tasks())
        seed = int(torch.randint(1 << 62, (), generator=self._generator))
        value = self._gradient(tasks, seed)
        norm = nn.utils.clip_grad_norm_(self._module.parameters(), _CLIP)
        if not math.isfinite(value) or not math.isfinite(float(norm)):
            return math.nan
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate * learning_rate(progress, self._recipe.falling)
        self._optimizer.step()
        self.steps += 1
        self._follow()
        return value

    def learn_from(self, sampler: PatchSampler) -> None:
        """Take patches from another sampler from the next step on."""
        sampler.to(self._device)
        self._sampler = sampler

    def _tasks(self) -> Iterator[_Task]:
        """Draw what a step learns: strokes, and what is rehearsed."""
        if self._rehearsal is None:
            yield _Task(self._draw(), self._coding)
            return
        yield _Task(self._draw(), self._coding, 0.5)
        old = self._rehearsal
        batch = self._drawn(old.sampler, -(-self._recipe.batch // 2))
        yield _Task(batch, old.coding, 0.5)

    def _draw(self) -> Patches:
        """Draw a batch with paint where the network gives an output."""
        for _ in range(_DRAWS):
            batch = self._drawn(self._sampler, self._recipe.batch)
            if self._crop(batch.targets).any():
                return batch
        raise StrokesError(
            "No stroke lies where the network gives an output",
            found=f"patches that lose {self._recipe.margin} pixels on each side",
            hint="Paint farther from the edges, or choose larger patches.",
        )

    def _drawn(self, sampler: PatchSampler, size: int) -> Patches:
        """Draw a batch, on the CPU from now on where a device has no room for it."""
        try:
            return sampler.draw(size, self._generator)
        except RuntimeError as error:
            if self._device.type == "cpu" or not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()
        sampler.to(torch.device("cpu"))
        return sampler.draw(size, self._generator)

    def _gradient(self, tasks: list[_Task], seed: int) -> float:
        """Compute the gradient and return the loss, in parts where memory is short."""
        while True:
            self._optimizer.zero_grad(set_to_none=True)
            try:
                with torch.random.fork_rng():
                    # Dropout draws from torch's own generator; it follows the seed too.
                    torch.manual_seed(seed)
                    parts = (part for task in tasks for part in self._split(task))
                    return sum(self._backward(part) for part in parts)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(error)

    def _split(self, task: _Task) -> Iterator[_Task]:
        """Parts of a batch that have paint, and how much each counts."""
        batch = task.batch
        size = -(-len(batch.images) // self.parts)
        for start in range(0, len(batch.images), size):
            here = slice(start, start + size)
            weights, soft = (
                None if part is None else part[here]
                for part in (batch.weights, batch.soft)
            )
            part = Patches(batch.images[here], batch.targets[here], weights, soft)
            if self._crop(part.targets).any():
                share = task.share * len(part.images) / len(batch.images)
                yield _Task(part, task.coding, share)

    def _backward(self, task: _Task) -> float:
        """Add the gradient of a part of a batch, and return its loss."""
        part = task.batch
        logits, targets = self._forward(part.images), self._crop(part.targets)
        weights = None if part.weights is None else self._crop(part.weights)
        balanced = self._recipe.balanced
        loss = stroke_loss(logits, targets, task.coding, weights, balanced)
        if self._agreement:
            teacher = self.predict(part.images)
            apart = consistency_loss(logits, teacher, targets, task.coding)
            loss = loss + self._agreement * apart
        if part.soft is not None:
            soft = torch.stack([self._crop(each) for each in part.soft.unbind(1)], 1)
            apart = soft_loss(logits, soft, targets, task.coding)
            loss = loss + self._recipe.soft * apart
        loss = task.share * loss
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _shrink(self, error: BaseException) -> None:
        """Go on with smaller parts of a batch after running out of memory."""
        if self.parts >= self._recipe.batch:
            raise DeviceError(
                "The memory does not suffice for training",
                found="a single patch that does not fit",
                hint="Choose a smaller patch, a smaller network or another device.",
            ) from error
        self.parts *= 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def remember(self) -> bool:
        """Mark the present weights as good, or answer False if any is not finite."""
        states = _copy(self._module), _copy(self.average)
        if not all(torch.isfinite(t).all() for s in states for t in s.values()):
            return False
        self._good = states
        return True

    def roll_back(self) -> None:
        """Return to the last good weights at half the learning rate."""
        self._module.load_state_dict(self._good[0])
        self.average.load_state_dict(self._good[1])
        self.rate /= 2
        self._good = self._start()

    def snapshot(self) -> State:
        """Copy all that the next steps depend on, but `steps` and `rate`."""
        tensors = {f"module.{n}": t for n, t in self._module.state_dict().items()}
        tensors |= {f"average.{n}": t for n, t in self.average.state_dict().items()}
        for name, parameter in self._module.named_parameters():
            for moment, value in self._optimizer.state[parameter].items():
                tensors[f"optimizer.{moment}.{name}"] = value
        tensors["generator"] = self._generator.get_state()
        plain = torch.contiguous_format
        return {
            name: t.detach().cpu().clone(memory_format=plain)
            for name, t in tensors.items()
        }

    def restore(self, tensors: State, steps: int, rate: float) -> None:
        """Take over a `snapshot` and go on from it.

        Raises
        ------
        KeyError, RuntimeError
            If it is none of this network.
        """
        self._module.load_state_dict(_part(tensors, "module."))
        self.average.load_state_dict(_part(tensors, "average."))
        self.steps, self.rate = steps, rate
        self._good = self._start()
        for name, parameter in self._module.named_parameters():
            state = self._optimizer.state[parameter]
            if f"optimizer.step.{name}" not in tensors:
                continue  # the first step is yet to come
            state["step"] = tensors[f"optimizer.step.{name}"].clone()
            for moment in ("exp_avg", "exp_avg_sq"):
                # In the layout of the weights, as the optimiser would have it.
                kept = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state[moment] = kept.copy_(tensors[f"optimizer.{moment}.{name}"])
        self._generator.set_state(tensors["generator"])

    def state(self, averaged: bool = True) -> State:
        """Copy of the averaged weights, or of those in training."""
        return _copy(self.average if averaged else self._module)

    @torch.no_grad()
    def predict(self, images: torch.Tensor, averaged: bool = True) -> torch.Tensor:
        """Logits of the averaged network, or of the one in training."""
        network = self.average if averaged else self._module.eval()
        with self._precision():
            logits: torch.Tensor = network(
                images.to(self._device, memory_format=self._layout)
            )
        return logits.float()

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the network in training."""
        self._module.train()
        if self._recipe.frozen_statistics:
            for layer in self._module.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()
        with self._precision():
            logits: torch.Tensor = self._module(
                images.to(self._device, memory_format=self._layout)
            )
        return logits

    def _crop(self, targets: torch.Tensor) -> torch.Tensor:
        """Targets or weights that the output covers, on the device."""
        for axis, margin in enumerate(self._recipe.margin, start=1):
            targets = targets.narrow(axis, margin, targets.shape[axis] - 2 * margin)
        return targets.to(self._device)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the network, fast at first to forget the start."""
        keep = min(_KEEP, (1 + self.steps) / (10 + self.steps))
        module = self._module.state_dict()
        for name, mean in self.average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(module[name], 1 - keep)
            else:
                mean.copy_(module[name])

    def _precision(self) -> AbstractContextManager[Any]:
        if self._recipe.autocast is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._recipe.autocast)


def _part(tensors: State, prefix: str) -> State:
    return {
        name.removeprefix(prefix): t
        for name, t in tensors.items()
        if name.startswith(prefix)
    }


def _copy(module: nn.Module) -> State:
    return {name: t.detach().clone() for name, t in module.state_dict().items()}
