"""The loop itself; several processes train the model that one trains, and end together."""

import csv
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed

from pipeline_lib.config import Training
from pipeline_lib.dataset import SampleIndex
from pipeline_lib.errors import UserError
from pipeline_lib.models import load_encoder
from pipeline_lib.training import loop
from pipeline_lib.training.data import SampleDataset
from pipeline_lib.training.runs import TrainingData
from pipeline_lib.training.tasks import CRITERION, Task

ROUNDING = 0.05
"""What several processes give equals what one gives but for rounding, which grows from step to
step and differs between CPUs. Over a whole run it stays far below what another seed changes: the
tests allow this part of the spread over seeds."""
SEEDS = (7, 8, 9)
DEVICES = pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not multiprocessing.active_children()
    assert not torch.distributed.is_initialized()


class Toy(Task):
    """Learns to make 1 of each value; a part of it learns nothing."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])

    def embedding(self, batch):
        return self.model[0](batch)

    def forward(self, batch):
        loss = (self.embedding(batch)[:, 0] - 1) ** 2
        return {"loss": loss, CRITERION: loss.detach()}


class Values(SampleDataset):
    """Random values, of which one may be broken."""

    def __init__(self, count=65, broken=None):
        self.count, self.broken = count, broken

    def draw(self, rng, count, where, *, augment=False):
        zeros = np.zeros((self.count, 1), np.int64)
        rows = np.arange(self.count)
        return SampleIndex(rows, zeros, zeros.astype(bool), zeros[:, 0], zeros[:, 0])

    def __getitem__(self, drawn):
        values = torch.from_numpy(np.random.default_rng(0).random((self.count, 1), np.float32))
        values[torch.arange(self.count) == self.broken] = torch.inf
        return values[torch.from_numpy(drawn.cube)]


def fit(state, *, task=None, broken=None, **keys):
    """Train on 65 values in batches of 32: the last one has a single sample."""
    block = Training(**{"threads": 1, "batch_size": 32} | keys)
    torch.manual_seed(0)
    task = task or Toy()
    datasets = {"training": Values(broken=broken), "validation": Values()}
    data = TrainingData("toy", 1, block, datasets)
    return loop.fit(task, data, state=state, identity="toy"), task


def checkpoint(state):
    return torch.load(state / "last.ckpt", weights_only=True)


@DEVICES
def test_a_loss_that_is_not_finite_in_one_process_is_named(tmp_path, devices):
    """The sample is the sixth one of the second batch, which the second process has."""
    with pytest.raises(UserError, match=r"^the loss .* in epoch 1, batch 1, sample 5;"):
        fit(tmp_path / "state", devices=devices, broken=37)


@DEVICES
def test_a_time_limit_ends_all_processes(tmp_path, devices):
    outcome, _ = fit(tmp_path / "s", devices=devices, max_epochs=10**6, max_minutes=0.3 / 60)
    assert 1 <= outcome.epochs < 10**6


@DEVICES
def test_a_job_of_a_cluster_trains_as_elsewhere(tmp_path, monkeypatch, devices):
    """As `srun` describes a job with one task: Lightning would start one of four."""
    variables = {"JOB_NAME": "train", "NTASKS": "4", "PROCID": "3", "LOCALID": "3", "NODEID": "0"}
    variables |= {"JOB_ID": "7", "STEP_NODELIST": "node", "NNODES": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    outcome, _ = fit(tmp_path / "state", devices=devices, max_epochs=2)
    assert outcome.epochs == 2


def test_the_learning_rate_warms_up_and_falls_on_plateaus(tmp_path):
    """Three steps per epoch; a criterion that cannot fall is a plateau from the second one on."""
    keys = {"learning_rate": 1e-3, "warmup_steps": 9, "plateau_patience": 2, "plateau_factor": 0.5}
    rates = {}
    for epochs in (1, 2, 3, 4, 5, 7):
        task = Toy()
        task.forward = lambda batch, own=task: {
            "loss": 0 * own.model[0](batch)[:, 0] + 1,
            CRITERION: torch.ones(len(batch)),
        }
        state = tmp_path / str(epochs)
        fit(state, task=task, max_epochs=epochs, **keys)
        rates[epochs] = checkpoint(state)["optimizer_states"][0]["param_groups"][0]["lr"]
    # Of the step that follows: the fourth of nine, and so on.
    expected = {1: 4 / 9, 2: 7 / 9, 3: 1, 4: 0.5, 5: 0.5, 7: 0.25}
    assert rates == pytest.approx({epoch: 1e-3 * rate for epoch, rate in expected.items()})


@pytest.mark.parametrize(
    "end",
    [{"max_epochs": 2}, {"stop_patience": 1, "learning_rate": 3.0}, {"max_minutes": 1e-6}],
    ids=["last epoch", "early stop", "time limit"],
)
def test_a_training_that_has_ended_is_not_trained_further(tmp_path, monkeypatch, end):
    first, task = fit(tmp_path / "state", **end)
    assert first.epochs < Training().max_epochs

    def trained(*_):
        raise AssertionError("trained")

    monkeypatch.setattr(loop._Module, "training_step", trained)
    again, other = fit(tmp_path / "state", **end)
    assert again == first
    for name, value in task.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_progress_is_shown_on_a_terminal_and_not_in_a_log(tmp_path, monkeypatch, capsys):
    fit(tmp_path / "log", max_epochs=1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    fit(tmp_path / "terminal", max_epochs=1)
    shown = capsys.readouterr().out
    assert "Epoch 0" in shown and CRITERION in shown


def test_the_start_is_kept_where_no_epoch_is_better_and_the_average_where_it_is(tmp_path):
    torch.manual_seed(0)
    start = Toy().model.state_dict()
    for rate, best in ((1e-3, 3), (1e3, 0)):
        keys = {"max_epochs": 3, "learning_rate": rate, "warmup_steps": 0}
        outcome, task = fit(tmp_path / str(rate), **keys)
        rows = [row for row in outcome.curves if row["split"] == "validation"]
        assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
        assert (outcome.epochs, outcome.best_epoch) == (3, best)
        assert outcome.metrics["validation"]["loss"] == rows[best]["loss"]
        batch = Values()[Values().draw(None, None, "")]
        assert float(task(batch)["loss"].detach().mean()) == pytest.approx(rows[best]["loss"])
        last = checkpoint(tmp_path / str(rate))["state_dict"]
        for name, value in task.model.state_dict().items():
            kept = last[f"averaged.module.model.{name}"] if best else start[name]
            assert torch.equal(value, kept)
        assert not torch.equal(last["task.model.0.weight"], last["averaged.module.model.0.weight"])


def test_averaged_weights_follow_those_of_the_steps():
    """Of equal weights they are these, and they forget a first one like the steps' power of -9."""
    averaged, one = [torch.tensor([0.3, 0.0])], torch.tensor([0.3, 1.0])
    for step in range(1, 991):
        loop._average(averaged, [one], step)
    kept = np.prod([1 - 9 / (10 + step) for step in range(1, 991)])
    np.testing.assert_allclose(averaged[0], [0.3, 1 - kept], rtol=1e-6)
    assert averaged[0][0] == one[0]


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_a_part_without_gradient_stays_as_it_was(tmp_path):
    """The last batch of each epoch leaves the second process no sample."""
    keys = {"max_epochs": 4, "learning_rate": 0.1, "warmup_steps": 0}
    (_, one), (_, two) = (
        fit(tmp_path / str(devices), devices=devices, **keys) for devices in (1, 2)
    )
    torch.manual_seed(0)
    untouched = Toy().model
    for number, name in ((0, "weight"), (0, "bias"), (1, "weight"), (1, "bias")):
        mine, theirs = (getattr(task.model[number], name).detach() for task in (one, two))
        torch.testing.assert_close(theirs, mine, rtol=0, atol=1e-6)
        same = torch.equal(mine, getattr(untouched[number], name))
        assert same == (number == 1)


class Listening(Toy):
    """Fails if its process listens on any address but the loopback's."""

    def forward(self, batch):
        inodes = {
            str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
        }
        lines = [
            line.split()
            for name in ("tcp", "tcp6")
            for line in Path("/proc/net", name).read_text().splitlines()[1:]
        ]
        listens = [
            words[1].partition(":")[0]
            for words in lines
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes
        ]
        assert listens and set(listens) == {"0100007F"}, listens
        return super().forward(batch)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_processes_that_train_together_listen_on_the_loopback_alone(tmp_path):
    """What they send each other is unpickled."""
    fit(tmp_path / "state", task=Listening(), devices=2, max_epochs=1)


@pytest.fixture(scope="module")
def uneven(world):
    """The last batch of each epoch has one sample, which leaves a second process none."""
    return world.training.model_copy(update={"max_samples": 61, "batch_size": 15})


@pytest.fixture(scope="module")
def alone(world, uneven):
    """The same training in one process, with several seeds."""
    folders = [world.root / f"alone {seed}" for seed in SEEDS]
    for seed, folder in zip(SEEDS, folders, strict=True):
        world.train("optical", folder, world.root / "state" / "alone", training=uneven, seed=seed)
    return folders


def rows_of(folder):
    with (folder / "curves.csv").open() as handle:
        return list(csv.DictReader(handle))


def reconstruction(folder):
    generator = torch.Generator().manual_seed(0)
    values = torch.rand((4, 5, 3, 9, 9), generator=generator)
    days = torch.tensor([-20.0, -10.0, 0.0, 5.0, 15.0]).expand(4, 5)
    return load_encoder(folder).autoencoder(values, torch.ones(4, 5, 9, 9, dtype=bool), days)


def assert_differs_by_rounding(folder, seeds):
    """Curves and reconstructions are those of the first folder, next to the spread of all."""
    for own, *others in zip(rows_of(folder), *map(rows_of, seeds), strict=True):
        for name, value in own.items():
            if name in ("epoch", "step", "split"):
                assert value == others[0][name]
            else:
                truth = [float(other[name]) for other in others]
                assert abs(float(value) - truth[0]) <= ROUNDING * np.std(truth), name
    truth = torch.stack([reconstruction(seed) for seed in seeds])
    apart = (reconstruction(folder) - truth[0]).square().mean().sqrt()
    assert apart <= ROUNDING * truth.std(dim=0).square().mean().sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_killed_and_resumed_with_any_number_of_processes(world, uneven, alone, tmp_path, devices):
    steps = {int(row["step"]) for row in rows_of(alone[0])}
    assert steps == {0, 5, 10, 15}, "61 samples in batches of 15"
    with world.killed(1, 2):
        world.train("optical", tmp_path / "model", tmp_path / "state", training=uneven)
    both = uneven.model_copy(update={"devices": devices})
    world.train("optical", tmp_path / "model", tmp_path / "state", training=both)
    assert_differs_by_rounding(tmp_path / "model", alone)
    assert not (tmp_path / "state").exists()
