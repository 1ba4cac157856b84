"""Several processes that train one model together.

They are started here rather than by Lightning, whose launchers either run the program's own
command again, which would run a whole job twice, or make even the first process a new one,
without the log of the job. Here the first process is the calling one.

What the processes send each other is pickled, so nobody else may send it: the function travels
through a pipe that only the two ends have, and what listens, listens on the loopback alone.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.cuda import is_available as gpu_is_available
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import start_processes

from pipeline_lib.errors import UserError

Result = TypeVar("Result")

HOST = "127.0.0.1"
POLL_S = 0.2
GRACE_S = 10.0
"""How long a process that fails waits to hear whether another one failed before it."""


class Place(LightningEnvironment):
    """Tells Lightning which of the processes it runs in."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        """The processes exist already."""
        return True

    def local_rank(self) -> int:
        """Number of this process."""
        return self._rank

    def node_rank(self) -> int:
        """All processes are on one machine."""
        return 0


class Parallel(DDPStrategy):
    """DistributedDataParallel among processes that are running and connected."""

    def _configure_launcher(self) -> None:
        # Lightning's launcher would also set the number of threads.
        pass


def run_together(count: int, function: Callable[[int], Result]) -> Result:
    """Call a function in several processes that are connected by `torch.distributed`.

    A program that calls this must guard its own start by ``if __name__ == "__main__"``, since
    the new processes import it.

    Parameters
    ----------
    count
        Processes, this one among them.
    function
        Takes the number of its process; picklable. A `UserError` must be raised by all of them.

    Returns
    -------
    Result
        What the function returned here, with 0.

    Raises
    ------
    Exception
        What the function raised here, or the failure of another process that led to it. No
        process is left.
    """
    store = _listening(count)
    # Pickled by hand: multiprocessing would put the weights into memory that all of them share.
    content = pickle.dumps(function)
    others = start_processes(  # type: ignore[no-untyped-call]
        _other, (content, store.port, count), count - 1, join=False, start_method="spawn"
    )
    try:
        while not store.check([_ready(rank) for rank in range(1, count)]):
            others.join(POLL_S)
        _connect(store, 0, count)
        result = function(0)
        dist.destroy_process_group()
        while not others.join():
            pass
        return result
    except UserError:
        raise
    except Exception:
        others.join(GRACE_S)
        raise
    finally:
        for process in others.processes:
            process.kill()
            process.join()
        if dist.is_initialized():
            dist.destroy_process_group()


def _listening(count: int) -> TCPStore:
    """The store of the first process; by itself it would listen to the whole network."""
    listener = socket.socket()
    listener.bind((HOST, 0))
    return TCPStore(
        HOST,
        listener.getsockname()[1],
        count,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )


def _other(index: int, content: bytes, port: int, count: int) -> None:
    rank = index + 1
    function: Callable[[int], Any] = pickle.loads(content)
    store = TCPStore(HOST, port, count, is_master=False)
    store.set(_ready(rank), "")
    _connect(store, rank, count)
    try:
        function(rank)
    finally:
        dist.destroy_process_group()


def _ready(rank: int) -> str:
    return f"process {rank} is ready"


def _connect(store: Store, rank: int, count: int) -> None:
    backend = "nccl" if gpu_is_available() else "gloo"
    # Gloo would listen where the name of this machine leads.
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)
