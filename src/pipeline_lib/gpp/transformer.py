"""The paper's regressor: from a window of daily embeddings to the GPP of its last day."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline_lib.config import Regressor

PREDICTION_BATCH = 256
"""Windows predicted at once; bounds memory and changes no result."""


def day_positions(days: int, width: int) -> Tensor:
    """Sines and cosines of the days before the last one, ``(days, width)``.

    Vaswani et al. 2017, doi 10.48550/arXiv.1706.03762, section 3.5.
    """
    before = torch.arange(days - 1, -1, -1, dtype=torch.float32)
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = before[:, None] * rate[None, :]
    waves: Tensor = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
    return waves[:, :width]


class Block(nn.Module):
    """Pre-norm transformer encoder block: attention, then a two-layer perceptron.

    What `nn.TransformerEncoderLayer` computes, at a third to a half of its time: only the last
    tokens that are asked for are updated, and attention itself has no dropout.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, queries: int) -> Tensor:
        """Update the last ``queries`` tokens: ``(B, day, width)`` -> ``(B, queries, width)``."""
        normed = self.attention_norm(tokens)
        key, value = self.key_value(normed).chunk(2, dim=-1)
        query = self.query(normed[:, -queries:])
        heads = [
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)
        ]
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        kept = tokens[:, -queries:] + self.dropout(self.output(mixed))
        updated: Tensor = kept + self.dropout(self.perceptron(kept))
        return updated


class WindowTransformer(nn.Module):
    """Linear input, positions, encoder blocks, and a head on the last day.

    The last block updates the last day alone: no other token reaches the head.
    """

    positions: Tensor

    def __init__(self, features: int, days: int, block: Regressor) -> None:
        super().__init__()
        self.input = nn.Linear(features, block.width)
        self.register_buffer("positions", day_positions(days, block.width))
        self.blocks = nn.ModuleList(
            Block(block.width, block.heads, block.dropout) for _ in range(block.blocks)
        )
        self.head = nn.Sequential(nn.LayerNorm(block.width), nn.Linear(block.width, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Scaled windows ``(B, day, feature)`` -> scaled GPP ``(B,)``."""
        tokens = self.input(inputs) + self.positions
        for index, block in enumerate(self.blocks, start=1):
            tokens = block(tokens, 1 if index == len(self.blocks) else tokens.shape[1])
        predicted: Tensor = self.head(tokens[:, -1]).squeeze(-1)
        return predicted


@dataclass(frozen=True)
class FittedRegressor:
    """A trained regressor with the means and standard deviations of its inputs and target."""

    network: WindowTransformer
    inputs: tuple[NDArray[np.float32], NDArray[np.float32]]
    target: tuple[float, float]
    epochs: int
    """Epochs until the stop."""
    best_epoch: int
    """Epoch of the weights that were kept."""

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict the GPP (g C m-2 d-1, ``(n,)``) of windows ``(n, day, feature)``."""
        if len(inputs) == 0:
            return np.zeros(0)
        self.network.eval()
        mean, std = self.inputs
        with _one_thread(), torch.no_grad():
            scaled = _forward(self.network, torch.from_numpy((inputs - mean) / std))
        return scaled.double().numpy() * self.target[1] + self.target[0]


def fit_regressor(
    *,
    inputs: NDArray[np.float32],
    target: NDArray[np.float32],
    held_out: NDArray[np.bool_],
    block: Regressor,
    seed: int,
) -> FittedRegressor:
    """Train a regressor on windows ``(n, day, feature)`` with the GPP of their last days ``(n,)``.

    Mean absolute error, AdamW. Training stops after ``stop_patience`` epochs without improvement
    on the ``held_out`` windows ``(n,)``, which are not trained on, and the best epoch's weights
    are kept: the validation part decides nothing. Inputs and target are scaled by the mean and
    standard deviation of all windows given here.
    """
    mean = inputs.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    std = inputs.std(axis=(0, 1), dtype=np.float64)
    std = np.where(std > 0, std, 1.0).astype(np.float32)
    centre, scale = float(target.mean(dtype=np.float64)), float(target.std(dtype=np.float64)) or 1.0
    x = torch.from_numpy((inputs - mean) / std)
    y = torch.from_numpy((target - centre) / scale).float()
    watched = torch.from_numpy(held_out)
    x_train, y_train, x_watched, y_watched = x[~watched], y[~watched], x[watched], y[watched]
    with _one_thread(), torch.random.fork_rng(devices=[]):
        # Layers draw weights and dropout from torch's global generator; the fork gives it
        # back as it was.
        torch.manual_seed(seed)
        network = WindowTransformer(inputs.shape[2], inputs.shape[1], block)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=block.learning_rate, weight_decay=block.weight_decay
        )
        best, best_epoch, best_weights = math.inf, 0, copy.deepcopy(network.state_dict())
        epoch = 0
        for epoch in range(1, block.max_epochs + 1):
            network.train()
            for chosen in torch.split(torch.randperm(len(x_train)), block.batch_size):
                optimiser.zero_grad()
                torch.autograd.backward(F.l1_loss(network(x_train[chosen]), y_train[chosen]))
                optimiser.step()
            network.eval()
            with torch.no_grad():
                error = float(F.l1_loss(_forward(network, x_watched), y_watched))
            if error < best:
                best, best_epoch = error, epoch
                best_weights = copy.deepcopy(network.state_dict())
            elif epoch - best_epoch >= block.stop_patience:
                break
    network.load_state_dict(best_weights)
    return FittedRegressor(network, (mean, std), (centre, scale), epoch, best_epoch)


def _forward(network: WindowTransformer, windows: Tensor) -> Tensor:
    """Predict in steps whose memory does not grow with the number of windows."""
    return torch.cat([network(batch) for batch in torch.split(windows, PREDICTION_BATCH)])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are split by threads, so results would depend on the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
