"""Checkpoints of known numbers, and processes that are killed while they write them."""

import os
from pathlib import Path
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import Iterator, Tuple

from dectrain_ros.training.checkpoint import Checkpoint, Checkpoints, Found, Model
from dectrain_ros.training.snapshot import Snapshot
import numpy as np
import torch

MODEL = Model('lite', 'full', 'abc')


def stored(number=0.0, shape=(3, 4)):
    """Give a checkpoint whose every number is this."""
    def whole(*size):
        return torch.full(size, number)
    return Checkpoint(
        MODEL, Snapshot((whole(*shape), whole(2)), {0: {'exp_avg': whole(*shape),
                                                        'step': torch.tensor(number)}}),
        {'replay_keys': np.full((2, 3), number, np.float32)}, {'steps': int(number)}, {'seed': 0})


def killed_while_saving(folder: Path, times: int, longest_s: float = 0.1
                        ) -> Iterator[Tuple[Found, int]]:
    """
    Kill a process that saves without end at random moments; gives what it left each time.

    :returns: the newest checkpoint, and the number of the last that the process said it saved.
    :raises ValueError: if nothing usable is left.
    """
    rng = random.Random(0)
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as server:
        for k in range(times):
            print(folder / str(k), file=server.stdin, flush=True)
            # Once the first is there, one always must be.
            saver, said = map(int, server.stdout.readline().split())
            time.sleep(rng.uniform(0, longest_s))
            os.kill(saver, signal.SIGKILL)
            while (line := server.stdout.readline()) != 'killed\n':
                said = int(line.split()[1])
            yield Checkpoints(folder / str(k), keep=2).newest(MODEL), said
            shutil.rmtree(folder / str(k))
        server.stdin.close()


def _save_for_ever(folder: str) -> None:
    saved, number = Checkpoints(Path(folder), keep=2), 0
    while True:
        number += 1
        saved.save(stored(float(number), (500, 1000)))
        os.write(1, f'{os.getpid()} {number}\n'.encode())


def _serve() -> None:
    """Fork a saver for every folder named; importing torch takes longer than all the saving."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        saver = os.fork()
        if not saver:
            _save_for_ever(line.strip())
        os.waitpid(saver, 0)
        os.write(1, b'killed\n')


if __name__ == '__main__':
    _serve()
