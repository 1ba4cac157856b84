"""The training loop: Lightning, with curves and a state that survives a kill."""

from __future__ import annotations

import copy
import logging
import math
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import lightning
import torch
import torch.distributed
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.optim.lr_scheduler import LinearLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from pipeline_lib.config import Training
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, read_json, remove_folder, write_json
from pipeline_lib.training.data import Batch, ShardSampler
from pipeline_lib.training.runs import TrainingData, threads
from pipeline_lib.training.tasks import Task

LOG = logging.getLogger("pipeline_lib.training")

BEST, LAST = "best.ckpt", "last.ckpt"
IDENTITY = "identity.json"
AVERAGED_STEPS = 1000
"""Steps, at most, that the averaged weights remember; before, about a ninth of those taken."""


@dataclass(frozen=True)
class Outcome:
    """Result of a training whose best weights are in the task's model.

    ``curves`` are the rows of ``curves.csv``, ``metrics`` those of the best epoch by split. Epochs
    are counted from 1; epoch 0 is the validation before the first step.
    """

    curves: list[dict[str, Any]]
    metrics: dict[str, dict[str, float]]
    epochs: int
    best_epoch: int


def fit(task: Task, data: TrainingData, *, state: Path, identity: str) -> Outcome:
    """Optimise ``task.model`` and leave its best weights in it.

    What is validated, and kept where it is best, is an exponential moving average of the weights
    over steps (Polyak and Juditsky 1992), which depends less on the order of the samples and on
    rounding than the last step's. The weights of the start are kept where no epoch is better.

    With several devices there is a process for each, which works on its shard of every batch; the
    result is that of one device but for rounding. ``task`` and ``data`` are then pickled, and the
    program must guard its start by ``if __name__ == "__main__"``.

    ``state`` is the folder of the checkpoints: a killed training goes on from its last whole
    epoch. ``identity`` is a digest of everything the training depends on; checkpoints of another
    one are discarded.

    Raises UserError if the loss or the criterion becomes non-finite, naming the batch or the
    epoch, or if there are fewer GPUs than ``training.devices``.
    """
    block, limit = data.block, data.block.max_minutes
    gpus = torch.cuda.device_count()
    if 0 < gpus < block.devices:
        raise UserError(f"training.devices: {block.devices} GPUs are asked for, {gpus} found")
    resume = _prepare(state, identity)
    start = copy.deepcopy(task.model.state_dict())
    module = _Module(task, data)
    each_epoch: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    with _quiet(), threads(block.threads), tempfile.TemporaryDirectory() as meeting:
        trainer = lightning.Trainer(
            accelerator="cuda" if gpus else "cpu",
            devices=block.devices,
            strategy=_Processes(Path(meeting, "store")) if block.devices > 1 else "auto",
            # Without the first, Lightning would take a cluster's variables for orders of its own.
            plugins=[LightningEnvironment(), _AtomicIO()],
            precision="bf16-mixed" if gpus else "32-true",
            max_epochs=block.max_epochs,
            gradient_clip_val=block.gradient_clip,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            # The start is validated as a whole.
            num_sanity_val_steps=0 if resume else -1,
            # What is computed once in inference mode cannot be used in a training step.
            inference_mode=False,
            logger=False,
            enable_progress_bar=sys.stdout.isatty(),
            enable_model_summary=False,
            callbacks=[
                Timer(None if limit is None else timedelta(minutes=limit), verbose=False),
                _EarlyStopping(task.criterion, patience=block.stop_patience),
                _Best(state, filename="best", monitor=task.criterion, **each_epoch),
                ModelCheckpoint(state, filename="last", **each_epoch),
            ],
        )
        try:
            trainer.fit(module, ckpt_path=resume, weights_only=True)
        except ProcessRaisedException as error:
            # The error of another process arrives as the text of its traceback.
            kind, _, text = str(error).rstrip().rpartition("\n")[2].partition(": ")
            if kind.endswith("UserError"):
                raise UserError(text) from error
            raise
    return _outcome(task, state, start)


def _prepare(state: Path, identity: str) -> Path | None:
    """Checkpoint to go on from, if the state is of this training; otherwise a fresh folder."""
    known = state / IDENTITY
    if known.exists() and read_json(known) == {"identity": identity}:
        return state / LAST if (state / LAST).exists() else None
    if state.exists():
        remove_folder(state)
    write_json(known, {"identity": identity})
    return None


def _outcome(task: Task, state: Path, start: dict[str, Tensor]) -> Outcome:
    curves = torch.load(state / LAST, weights_only=True)["curves"]
    validation = [row for row in curves if row["split"] == "validation"]
    best = min(validation, key=lambda row: row[task.criterion])["epoch"]
    task.cpu().eval()
    if best > 0:
        weights = torch.load(state / BEST, weights_only=True)["state_dict"]
        own = "averaged.module.model."
        start = {
            name.removeprefix(own): value.cpu()
            for name, value in weights.items()
            if name.startswith(own)
        }
    task.model.load_state_dict(start)
    metrics = {
        row["split"]: {
            name: value
            for name, value in row.items()
            if name not in ("epoch", "step", "split") and math.isfinite(value)
        }
        for row in curves
        if row["epoch"] == best
    }
    return Outcome(curves, metrics, len(validation) - 1, best)


class _Means:
    """Sums and counts of per-sample metrics over batches; NaN means one does not apply."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take the metrics ``(B,)`` of one batch."""
        for name, values in terms.items():
            values = values.detach().double()
            applies = ~values.isnan()
            sums = torch.stack([torch.where(applies, values, 0.0).sum(), applies.sum()])
            self._sums[name] = self._sums.get(name, 0) + sums

    def take(self, strategy: Any) -> dict[str, float]:
        """Means over all ranks so far, NaN where nothing applied; starts anew."""
        total = strategy.reduce(torch.stack(list(self._sums.values())), reduce_op="sum")
        means = (total[:, 0] / total[:, 1]).tolist()
        names, self._sums = list(self._sums), {}
        return dict(zip(names, means, strict=True))


def _average(averaged: Any, current: Any, steps: Tensor | int) -> None:
    """Move averaged weights towards the current ones, in place, after so many steps."""
    torch._foreach_lerp_(averaged, current, max(1 / AVERAGED_STEPS, 9 / (10 + int(steps))))


class _Module(lightning.LightningModule):
    """A task with its optimiser, measured epoch by epoch."""

    def __init__(self, task: Task, data: TrainingData) -> None:
        super().__init__()
        self.task = task
        self.averaged = AveragedModel(task, multi_avg_fn=_average).requires_grad_(False)
        self.data = data
        self.block: Training = data.block
        self.means = {"train": _Means(), "validation": _Means()}
        self.samplers: dict[str, ShardSampler] = {}
        # Lightning's own CSV logger deletes the rows of a killed training.
        self.curves: list[dict[str, Any]] = []
        self.plateau_state: dict[str, Any] = {}

    def setup(self, stage: str) -> None:
        torch.set_num_threads(self.block.threads)
        if torch.cuda.is_available():
            self.task.compile()
            self.averaged.module.compile()

    def configure_optimizers(self) -> Any:
        learning = [p for p in self.task.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            learning, lr=self.block.learning_rate, weight_decay=self.block.weight_decay
        )
        # Not Lightning's to step: it would do so after the epoch's checkpoint, and so not at all
        # where a training is resumed.
        self.plateau = ReduceLROnPlateau(
            optimiser,
            factor=self.block.plateau_factor,
            patience=self.block.plateau_patience,
            threshold=0.0,
            eps=0.0,
        )
        self.plateau.load_state_dict(self.plateau_state)
        steps = self.block.warmup_steps
        if steps < 2:
            return optimiser
        warm = LinearLR(optimiser, start_factor=1 / steps, total_iters=steps - 1)
        return [optimiser], [{"scheduler": warm, "interval": "step"}]

    def train_dataloader(self) -> DataLoader[Batch]:
        loader = self.data.training(self.current_epoch, *self._rank)
        self.samplers["train"] = cast(ShardSampler, loader.sampler)
        return loader

    def val_dataloader(self) -> DataLoader[Batch]:
        loader = self.data.validation(*self._rank)
        self.samplers["validation"] = cast(ShardSampler, loader.sampler)
        return loader

    @property
    def _rank(self) -> tuple[int, int]:
        return self.trainer.global_rank, self.trainer.world_size

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        own, total = self.samplers["train"].counts(batch_idx)
        terms = {name: term[:own] for name, term in self.task(batch).items()}
        self._check_finite(terms["loss"], batch_idx, "training")
        self.means["train"].add(terms)
        # DDP takes the mean of the ranks' gradients: this makes it the mean over all samples.
        return terms["loss"].sum() * self.trainer.world_size / total

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.averaged.update_parameters(self.task)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        own, _ = self.samplers["validation"].counts(batch_idx)
        terms = {name: term[:own] for name, term in self.averaged.module(batch).items()}
        self._check_finite(terms["loss"], batch_idx, "validation")
        self.means["validation"].add(terms)

    @property
    def _epoch(self) -> int:
        """Number of the epoch, from 1; 0 before the first step."""
        return 0 if self.trainer.sanity_checking else self.current_epoch + 1

    def _check_finite(self, loss: Tensor, batch: int, split: str) -> None:
        """Raise UserError, naming the first sample, if a loss ``(B,)`` is not finite."""
        rank, world = self._rank
        broken = (~torch.isfinite(loss)).nonzero()
        if len(broken):
            # Inputs are scaled and clipped to 0..1: only the weights can have grown beyond.
            raise UserError(
                f"the loss of the {split} of {self.data.name} is not finite in epoch "
                f"{self._epoch}, batch {batch}, sample {rank + world * int(broken[0])}; "
                f"lower training.learning_rate ({self.block.learning_rate:g})"
            )

    def on_validation_epoch_end(self) -> None:
        epoch, step, criterion = self._epoch, self.global_step, self.task.criterion
        rows = {
            split: means.take(self.trainer.strategy)
            for split, means in self.means.items()
            if epoch or split == "validation"
        }
        for split, values in rows.items():
            self.curves.append({"epoch": epoch, "step": step, "split": split, **values})
        value = rows["validation"][criterion]
        # Neither a plateau nor early stopping knows the start, which training may leave first.
        if epoch:
            self.plateau.step(value)
        self.log(criterion, torch.tensor(value, dtype=torch.float64), prog_bar=True)
        if self.trainer.is_global_zero:
            LOG.info(
                "epoch %d, step %d: loss %s, validation loss %.5f, %s %.5f (best %.5f)",
                epoch,
                step,
                f"{rows['train']['loss']:.5f}" if epoch else "-",
                rows["validation"]["loss"],
                criterion,
                value,
                min(row[criterion] for row in self.curves if row["split"] == "validation"),
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"curves": self.curves, "plateau": self.plateau.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curves, self.plateau_state = checkpoint["curves"], checkpoint["plateau"]


class _EarlyStopping(EarlyStopping):
    """Early stopping that trains no further either if it is killed after the last epoch."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class _Best(ModelCheckpoint):
    """The best epoch, in a folder that may be moved between two runs."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = str(Path(str(self.dirpath), BEST))
        here = {
            "dirpath": self.dirpath,
            "best_model_path": best,
            "kth_best_model_path": best,
            "best_k_models": {best: state_dict["best_model_score"]},
        }
        super().load_state_dict(state_dict | here)


class _AtomicIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place first; Lightning does so in another file system."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        with atomic_path(path) as partial:
            torch.save(checkpoint, partial)


class _Processes(DDPStrategy):
    """DistributedDataParallel in processes that meet in a file.

    What they send each other is unpickled, so nobody else may send it: with Lightning's own store
    the first process listens to the whole network.
    """

    def __init__(self, store: Path) -> None:
        # The same parameters have gradients in every step, but perhaps not all of them: a loss may
        # give a part of the model no weight.
        super().__init__(start_method="spawn", static_graph=True)
        self.store = store

    def setup_distributed(self) -> None:
        # The job's log is open in the first process alone: here the epochs go to standard error.
        logging.basicConfig()
        LOG.setLevel(logging.INFO)
        self.silence = _quiet()
        self.silence.__enter__()  # for as long as the process lives
        self.set_world_ranks()
        # Gloo would listen where the name of this machine leads.
        loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        torch.distributed.init_process_group(
            self._get_process_group_backend(),
            init_method=self.store.as_uri(),
            rank=self.global_rank,
            world_size=self.world_size,
        )
        super().setup_distributed()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about hardware and loaders: the log holds our own lines."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
