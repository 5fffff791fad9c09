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

from dectrain_ros.checkpoints.checkpoint import Checkpoints, Contents, Found
import numpy as np

MODEL = {'network': 'lite', 'scope': 'full', 'source': 'abc'}


def stored(number=0.0, shape=(3, 4)):
    """Return a checkpoint's contents, of which every number is this."""
    return Contents(
        int(number), {'weight.0': np.full(shape, number, np.float32), 'step': np.array(number)},
        {'number': number, 'never': float('nan'), 'words': ['a', {'b': 2 ** 70}]})


def folder_of(path: Path, keep: int = 2, model=MODEL) -> Checkpoints:
    """Return the checkpoints of a folder."""
    return Checkpoints(path, keep, 'checkpoint', model)


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
            yield folder_of(folder / str(k)).newest(), said
            shutil.rmtree(folder / str(k))
        server.stdin.close()


def _save_for_ever(folder: str) -> None:
    saved, number = folder_of(Path(folder)), 0
    while True:
        number += 1
        saved.save(stored(float(number), (500, 1000)))
        os.write(1, f'{os.getpid()} {number}\n'.encode())


def _serve() -> None:
    """Fork a saver for every folder named; to import takes longer than all the saving."""
    for line in sys.stdin:
        saver = os.fork()
        if not saver:
            _save_for_ever(line.strip())
        os.waitpid(saver, 0)
        os.write(1, b'killed\n')


if __name__ == '__main__':
    _serve()
