"""The training loop: Lightning, with curves, patience, and a state that survives a kill."""

from __future__ import annotations

import logging
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline_lib.config import Training
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, read_json, write_json
from pipeline_lib.training.patience import Patience, learning_rate
from pipeline_lib.training.tasks import CRITERION, Task

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

    def take(self) -> dict[str, float]:
        """Means so far, NaN where nothing applied; starts anew."""
        means = {name: float(self._sums[name] / self._counts[name]) for name in self._sums}
        self._sums, self._counts = {}, {}
        return means


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


class _Module(lightning.LightningModule):
    """A task with its optimiser, measured epoch by epoch."""

    def __init__(
        self,
        task: Task,
        block: Training,
        train: Callable[[int], Iterable[Any]],
        validation: Iterable[Any],
    ) -> None:
        super().__init__()
        self.task = task
        self.block = block
        self.train_batches = train
        self.validation_batches = validation
        self.patience = Patience()
        self.curves: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.means = {"train": Means(), "validation": Means()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        learning = [p for p in self.task.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            learning, lr=self.block.learning_rate, weight_decay=self.block.weight_decay
        )

    def train_dataloader(self) -> Iterable[Any]:
        return self.train_batches(self.current_epoch)

    def val_dataloader(self) -> Iterable[Any]:
        return self.validation_batches

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        rate = learning_rate(self.block, self.global_step, self.patience.scale)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        terms = self.task(batch)
        self.means["train"].add(terms)
        loss = terms["loss"]
        if not bool(torch.isfinite(loss).all()):
            sample = int((~torch.isfinite(loss)).nonzero()[0])
            raise UserError(
                f"the loss is not finite in epoch {self.current_epoch}, batch {batch_idx}, sample "
                f"{sample}; lower the learning rate or look for broken values in the cubes"
            )
        return loss.mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.means["validation"].add(self.task(batch))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["progress"] = {
            "patience": asdict(self.patience),
            "curves": self.curves,
            "seconds": self.seconds,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        progress = checkpoint["progress"]
        self.patience = Patience(**progress["patience"])
        self.curves = list(progress["curves"])
        self.seconds = float(progress["seconds"])


class _Keeper(lightning.Callback):
    """Closes each epoch: curves, best weights, checkpoint, and the decision to stop."""

    def __init__(self, state: Path, block: Training) -> None:
        self.state = state
        self.block = block
        self.started = time.monotonic()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._out_of_time(pl_module):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        module: _Module = pl_module
        epoch = trainer.current_epoch
        rows = {name: means.take() for name, means in module.means.items()}
        for split, values in rows.items():
            module.curves.append(
                {"epoch": epoch, "step": trainer.global_step, "split": split, **values}
            )
        value = rows["validation"][CRITERION]
        if not math.isfinite(value):
            raise UserError(
                f"{CRITERION} of the validation is not finite in epoch {epoch}; lower the learning "
                "rate or look for broken values in the validation cubes"
            )
        if module.patience.update(value, epoch, self.block):
            with atomic_path(self.state / BEST) as partial:
                save_file(module.task.model.state_dict(), partial)
        elapsed, self.started = time.monotonic() - self.started, time.monotonic()
        module.seconds += elapsed
        LOG.info(
            "epoch %d, step %d: loss %.5f, validation loss %.5f, %s %.5f (best %.5f in epoch %d), "
            "%.1f s",
            epoch,
            trainer.global_step,
            rows["train"]["loss"],
            rows["validation"]["loss"],
            CRITERION,
            value,
            module.patience.best,
            module.patience.best_epoch,
            elapsed,
        )
        with atomic_path(self.state / CHECKPOINT) as partial:
            trainer.save_checkpoint(partial)
        if module.patience.spent(epoch, self.block) or self._out_of_time(module):
            trainer.should_stop = True

    def _out_of_time(self, module: _Module) -> bool:
        limit = self.block.max_minutes
        elapsed = module.seconds + time.monotonic() - self.started
        return limit is not None and elapsed > 60 * limit


def fit(
    task: Task,
    *,
    block: Training,
    train: Callable[[int], Iterable[Any]],
    validation: Iterable[Any],
    state: Path,
    identity: str,
) -> Outcome:
    """Optimise ``task.model`` and leave its best weights in it.

    Parameters
    ----------
    task
        What learns.
    block
        Optimisation.
    train
        Batches of an epoch, from its number alone: this makes a resumed training equal an
        uninterrupted one.
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
        If the loss or the criterion becomes non-finite, naming the batch or the epoch.
    """
    resume = _prepare(state, identity)
    module = _Module(task, block, train, validation)
    if resume is not None:
        module.on_load_checkpoint(torch.load(resume, weights_only=True))
    if not _complete(module, block):
        _run(module, block, state, resume)
    task.model.load_state_dict(load_file(state / BEST))
    task.cpu().eval()
    best = module.patience.best_epoch
    metrics = {
        row["split"]: {
            name: value
            for name, value in row.items()
            if name not in ("epoch", "step", "split") and math.isfinite(value)
        }
        for row in module.curves
        if row["epoch"] == best
    }
    return Outcome(module.curves, metrics, module.curves[-1]["epoch"] + 1, best)


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


def _complete(module: _Module, block: Training) -> bool:
    """Whether a restored training had ended before it was killed."""
    if not module.curves:
        return False
    epoch = int(module.curves[-1]["epoch"])
    late = block.max_minutes is not None and module.seconds > 60 * block.max_minutes
    return late or epoch + 1 >= block.max_epochs or module.patience.spent(epoch, block)


def _run(module: _Module, block: Training, state: Path, resume: Path | None) -> None:
    gpu = torch.cuda.is_available()
    if gpu:
        module.task.model.compile()
    with _quiet(), _threads(block.threads):
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            precision="bf16-mixed" if gpu else "32-true",
            max_epochs=block.max_epochs,
            gradient_clip_val=block.gradient_clip,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Keeper(state, block)],
        )
        trainer.fit(module, ckpt_path=resume, weights_only=True)


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
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
