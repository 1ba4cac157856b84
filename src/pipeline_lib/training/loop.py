"""The training loop: Lightning, with curves, patience, and a state that survives a kill.

Several processes (ranks) take their shares of each batch. What they decide, they decide alike:
from means over all of them, and from the least of numbers that each one contributes.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline_lib.config import Training
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, read_json, write_json
from pipeline_lib.training.batches import Batches, Share, Shares
from pipeline_lib.training.patience import Patience, learning_rate
from pipeline_lib.training.processes import Parallel, Place, run_together
from pipeline_lib.training.tasks import Task

LOG = logging.getLogger("pipeline_lib.training")

CHECKPOINT = "last.ckpt"
BEST = "best.safetensors"
IDENTITY = "identity.json"


class Means:
    """Means of per-sample numbers over batches; NaN means that a number does not apply."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take the numbers ``(B,)`` of one batch."""
        for name, values in terms.items():
            values = values.detach().double()
            applies = ~values.isnan()
            total, count = torch.where(applies, values, 0.0).sum(), applies.sum()
            self._sums[name] = self._sums.get(name, torch.zeros_like(total)) + total
            self._counts[name] = self._counts.get(name, torch.zeros_like(count)) + count

    def counts(self) -> dict[str, int]:
        """How many samples each number applied to."""
        return {name: int(count) for name, count in self._counts.items()}

    def take(self, total: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """Means so far, NaN where nothing applied; starts anew.

        Parameters
        ----------
        total
            Adds up a tensor over several processes, all of which have the same numbers.
        """
        names = list(self._sums)
        if not names:
            return {}
        table = [[self._sums[name], self._counts[name].double()] for name in names]
        found = total(torch.stack([torch.stack(row) for row in table])).tolist()
        self._sums, self._counts = {}, {}
        return {
            name: value / count if count else math.nan
            for name, (value, count) in zip(names, found, strict=True)
        }


@dataclass(frozen=True)
class Outcome:
    """Result of a training whose best weights were put back into the task's model.

    Parameters
    ----------
    curves
        Rows of the curves.
    metrics
        Split -> metric -> value, of the best epoch.
    epochs, best_epoch
        Epochs done; the best one, counted from 0.
    """

    curves: list[dict[str, Any]]
    metrics: dict[str, dict[str, float]]
    epochs: int
    best_epoch: int


@dataclass
class _History:
    """How far a training has come; all that its checkpoint holds beside Lightning's part."""

    patience: Patience = field(default_factory=Patience)
    curves: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def of(cls, checkpoint: dict[str, Any]) -> _History:
        stored = checkpoint["progress"]
        return cls(Patience(**stored["patience"]), list(stored["curves"]), stored["seconds"])

    def complete(self, block: Training) -> bool:
        """Whether the training has ended."""
        if not self.curves:
            return False
        epoch = int(self.curves[-1]["epoch"])
        late = block.max_minutes is not None and self.seconds > 60 * block.max_minutes
        return late or epoch + 1 >= block.max_epochs or self.patience.spent(epoch, block)


class _Module(lightning.LightningModule):
    """A task with its optimiser, measured epoch by epoch."""

    def __init__(
        self,
        task: Task,
        block: Training,
        train: Callable[[int], Batches[Any]],
        validation: Batches[Any],
        worker: Executor,
    ) -> None:
        super().__init__()
        self.task = task
        self.block = block
        self.train_batches = train
        self.validation_batches = validation
        self.worker = worker
        self.history = _History()
        self.started = time.monotonic()
        self.late = False
        self.means = {"train": Means(), "validation": Means()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        learning = [p for p in self.task.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            learning, lr=self.block.learning_rate, weight_decay=self.block.weight_decay
        )

    def train_dataloader(self) -> Shares[Any]:
        return self._shares(self.train_batches(self.current_epoch))

    def val_dataloader(self) -> Shares[Any]:
        return self._shares(self.validation_batches)

    def _shares(self, batches: Batches[Any]) -> Shares[Any]:
        return Shares(batches, self.trainer.global_rank, self.trainer.world_size, self.worker)

    def on_after_batch_transfer(self, batch: Share[Any], dataloader_idx: int) -> Share[Any]:
        return batch._replace(batch=self.validation_batches.scale(batch.batch))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        rate = learning_rate(self.block, self.global_step, self.history.patience.scale)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def training_step(self, batch: Share[Any], batch_idx: int) -> Tensor:
        terms = self._terms(batch)
        self.means["train"].add(terms)
        rank, world = self.trainer.global_rank, self.trainer.world_size
        broken = (~torch.isfinite(terms["loss"])).nonzero()
        first = rank + world * int(broken[0]) if len(broken) else batch.total
        sample, in_time = self.least(first, self.in_time())
        if sample < batch.total:
            raise UserError(
                f"the loss is not finite in epoch {self.current_epoch}, batch {batch_idx}, sample "
                f"{sample}; lower the learning rate or look for broken values in the cubes"
            )
        self.late = not in_time
        # DDP takes the mean of the ranks' gradients: this makes it the mean over all samples.
        return terms["loss"].sum() * world / batch.total

    def validation_step(self, batch: Share[Any], batch_idx: int) -> None:
        self.means["validation"].add(self._terms(batch))

    def _terms(self, share: Share[Any]) -> dict[str, Tensor]:
        return {name: term[: share.counted] for name, term in self.task(share.batch).items()}

    def total(self, sums: Tensor) -> Tensor:
        """Sum over the ranks."""
        return self.trainer.strategy.reduce(sums, reduce_op="sum")

    def least(self, *numbers: int) -> list[int]:
        """The least of each number over the ranks."""
        own = torch.tensor(numbers, device=self.device)
        return self.trainer.strategy.reduce(own, reduce_op="min").tolist()

    def in_time(self) -> bool:
        """Whether the time limit has not passed on this rank."""
        limit = self.block.max_minutes
        elapsed = self.history.seconds + time.monotonic() - self.started
        return limit is None or elapsed <= 60 * limit

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["progress"] = asdict(self.history)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = _History.of(checkpoint)


class _Keeper(lightning.Callback):
    """Closes each epoch: curves, best weights, checkpoint, and the decision to stop."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.late:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        module: _Module = pl_module
        history, epoch = module.history, trainer.current_epoch
        rows = {name: means.take(module.total) for name, means in module.means.items()}
        for split, values in rows.items():
            history.curves.append(
                {"epoch": epoch, "step": trainer.global_step, "split": split, **values}
            )
        criterion = module.task.criterion
        value = rows["validation"][criterion]
        if not math.isfinite(value):
            raise UserError(
                f"{criterion} of the validation is not finite in epoch {epoch}; lower the learning "
                "rate or look for broken values in the validation cubes"
            )
        best = history.patience.update(value, epoch, module.block)
        (in_time,) = module.least(module.in_time())
        elapsed = time.monotonic() - module.started
        module.started += elapsed
        history.seconds += elapsed
        if trainer.is_global_zero:
            LOG.info(
                "epoch %d, step %d: loss %.5f, validation loss %.5f, %s %.5f (best %.5f in epoch "
                "%d), %.1f s",
                epoch,
                trainer.global_step,
                rows["train"]["loss"],
                rows["validation"]["loss"],
                criterion,
                value,
                history.patience.best,
                history.patience.best_epoch,
                elapsed,
            )
            if best:
                with atomic_path(self.state / BEST) as partial:
                    save_file(module.task.model.state_dict(), partial)
            with atomic_path(self.state / CHECKPOINT) as partial:
                trainer.save_checkpoint(partial)
        else:
            # Writes nothing, but the first rank waits for it.
            trainer.save_checkpoint(self.state / CHECKPOINT)
        if history.patience.spent(epoch, module.block) or not in_time:
            trainer.should_stop = True


class _Display(lightning.Callback):
    """Shows on a terminal how far the training has come."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.row = bar.add_task("", total=None)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.started, self.samples = time.monotonic(), 0
        self.bar.reset(self.row, total=trainer.num_training_batches)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Share[Any], batch_idx: int
    ) -> None:
        self.samples += batch.total
        rate = self.samples / (time.monotonic() - self.started)
        text = (
            f"epoch {trainer.current_epoch}, step {trainer.global_step}, {rate:.0f} samples/s, "
            f"best {pl_module.task.criterion} {pl_module.history.patience.best:.5f}"
        )
        self.bar.update(self.row, advance=1, description=text)


def fit(
    task: Task,
    *,
    block: Training,
    train: Callable[[int], Batches[Any]],
    validation: Batches[Any],
    state: Path,
    identity: str,
) -> Outcome:
    """Optimise ``task.model`` and leave its best weights in it.

    Parameters
    ----------
    task
        What learns.
    block
        Optimisation. With several devices there is a process for each, which works on its share
        of every batch; the result is that of one device but for rounding.
    train
        Batches of an epoch, from its number alone: this makes a resumed training equal an
        uninterrupted one. It, ``task`` and ``validation`` must be picklable.
    validation
        The same batches for every epoch.
    state
        Folder of the checkpoint. A killed training goes on from its last whole epoch.
    identity
        Digest of everything the training depends on; the checkpoint of another identity is
        discarded.

    Raises
    ------
    UserError
        If the loss or the criterion becomes non-finite, naming the batch or the epoch, or if
        there are fewer GPUs than ``block.devices``.
    """
    resume = _prepare(state, identity)
    history = _History()
    if resume is not None:
        history = _History.of(torch.load(resume, weights_only=True))
    if not history.complete(block):
        found = torch.cuda.device_count()
        if 0 < found < block.devices:
            raise UserError(f"training.devices: {block.devices} GPUs are asked for, {found} found")
        run = partial(_run, task, block, train, validation, state, resume)
        history = run(0) if block.devices == 1 else run_together(block.devices, run)
    task.model.load_state_dict(load_file(state / BEST))
    task.cpu().eval()
    best = history.patience.best_epoch
    metrics = {
        row["split"]: {
            name: value
            for name, value in row.items()
            if name not in ("epoch", "step", "split") and math.isfinite(value)
        }
        for row in history.curves
        if row["epoch"] == best
    }
    return Outcome(history.curves, metrics, history.curves[-1]["epoch"] + 1, best)


def _prepare(state: Path, identity: str) -> Path | None:
    """Checkpoint to go on from, if the state is of this training; otherwise a fresh folder."""
    known = state / IDENTITY
    if known.exists() and read_json(known) == {"identity": identity}:
        checkpoint = state / CHECKPOINT
        return checkpoint if checkpoint.exists() else None
    if state.exists():
        shutil.rmtree(state)
    write_json(known, {"identity": identity})
    return None


def _run(
    task: Task,
    block: Training,
    train: Callable[[int], Batches[Any]],
    validation: Batches[Any],
    state: Path,
    resume: Path | None,
    rank: int,
) -> _History:
    """One process's part of a training."""
    gpu = torch.cuda.is_available()
    if gpu:
        task.compile()
    several = block.devices > 1
    terminal = Console(stderr=True)
    with (
        _quiet(),
        threads(block.threads),
        ThreadPoolExecutor(1) as worker,
        Progress(console=terminal, disable=rank > 0 or not terminal.is_terminal) as bar,
    ):
        module = _Module(task, block, train, validation, worker)
        trainer = lightning.Trainer(
            accelerator="cuda" if gpu else "cpu",
            devices=block.devices,
            # The same parameters have gradients in every step, but perhaps not all of them: a
            # loss may give a part of the model no weight.
            strategy=Parallel(static_graph=True) if several else "auto",
            # Lightning would take what a cluster tells of a job for an order of its own.
            plugins=[Place(rank)],
            precision="bf16-mixed" if gpu else "32-true",
            max_epochs=block.max_epochs,
            gradient_clip_val=block.gradient_clip,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            # What is computed once in inference mode cannot be used in a training step.
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Keeper(state), _Display(bar)],
        )
        trainer.fit(module, ckpt_path=resume, weights_only=True)
    return module.history


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about hardware and loaders: the log holds our own lines."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute with a number of threads, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
