"""
Kill a process that saves checkpoints at 200 random moments; every time one must be loadable.

    python benchmarks/kill_while_saving.py [TIMES]
"""

from pathlib import Path
import sys
import tempfile
import time

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'test'))

from saving import killed_while_saving  # noqa: E402


def main() -> None:
    """Count what was left."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    started, whole, newer = time.perf_counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for found, said in killed_while_saving(Path(folder), times):
            steps = found.contents.steps
            whole += not found.refused and steps in (said, said + 1)
            newer += steps == said + 1
    print(f'{whole} of {times} kills left the newest checkpoint loadable, {newer} of them one not '
          f'yet reported; {time.perf_counter() - started:.0f} s')
    sys.exit(whole != times)


if __name__ == '__main__':
    main()
