"""
What a depth model of a Hugging Face folder costs: milliseconds, GFLOP and memory of every scope.

Without a folder, a model of the shape of Depth Anything V2 Small (24.8 M parameters) with random
weights is measured: cost does not depend on what the weights are. Times are processor time of one
thread, which other work on the machine changes little. Every scope has a process of its own.
"""

import argparse
import json
import multiprocessing
import os
from pathlib import Path
import platform
import resource
import statistics
import tempfile
import time
from typing import Dict

from dectrain_ros.composition import compose
from dectrain_ros.config import parsed
from dectrain_ros.depth.flops import flop_counter
from dectrain_ros.frames import Decision, Frame, Intrinsics
import numpy as np
from rich.console import Console
from rich.table import Table

CAMERA = Intrinsics(500.0, 500.0, 319.5, 239.5, 640, 480)


def write_small(folder: Path) -> None:
    """Write a random model of the shape of Depth Anything V2 Small, metric to 20 m."""
    from transformers import (
        DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config)
    backbone = Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14,
        out_indices=[3, 6, 9, 12], reshape_hidden_states=False)
    DepthAnythingForDepthEstimation(DepthAnythingConfig(
        backbone_config=backbone, depth_estimation_type='metric', max_depth=20,
    )).save_pretrained(folder)
    (folder / 'preprocessor_config.json').write_text(json.dumps({
        'size': {'height': 518, 'width': 518}, 'keep_aspect_ratio': True,
        'image_mean': [0.485, 0.456, 0.406], 'image_std': [0.229, 0.224, 0.225]}))


def frame(number: int) -> Frame:
    """Return a frame of a camera that moves sideways along noise."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 1280, 3), np.uint8)
    pose = np.eye(4)
    pose[0, 3] = 0.1 * number
    return Frame(1_000_000_000 + 100_000_000 * number, noise[:, 4 * number:4 * number + 640],
                 CAMERA, pose, 'camera')


def measure(folder: str, size: str, scope: str, frames: int) -> Dict[str, float]:
    """Return the cost of one scope: medians over frames, and the process's peak memory."""
    pipeline = compose(parsed((
        'depth.network=transformers', f'depth.weights={folder}', f'depth.input_size={size}',
        'depth.threads=1', 'depth.device=cpu', f'training.scope={scope}',
        'training.replay_similarity=1.0', 'training.min_baseline=0', 'training.max_baseline=2',
        'training.min_overlap=0', 'safety.check_every=0', 'safety.forgetting_every=0')))
    inference_ms, step_ms = [], []
    with flop_counter() as counter:
        pipeline.estimator.predict(frame(0), 0)
    for k in range(frames):
        shown = frame(k)
        seen = pipeline.observe(shown)
        began = time.process_time()
        pipeline.estimator.predict(shown, 0)
        inference_ms.append(1e3 * (time.process_time() - began))
        began = time.process_time()
        result = pipeline.train(Decision(
            seen.candidate.stamp_ns, seen.candidate.trainable, 'benchmark'))
        if result.trained:
            step_ms.append(1e3 * (time.process_time() - began))
    # The first steps are of fewer replayed frames.
    return {'inference_ms': statistics.median(inference_ms),
            'step_ms': statistics.median(step_ms[2:]),
            'inference_gflop': counter.get_total_flops() / 1e9,
            'step_gflop': pipeline.step_flops / 1e9,
            'peak_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            'trained_parameters': sum(p.numel() for p in pipeline.trainer.step.parameters)}


def main() -> None:
    """Measure, show and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--folder', default='', help='of a model; a random one without')
    parser.add_argument('--sizes', nargs='+', default=['336x252', '518x392'])
    parser.add_argument('--scopes', nargs='+', default=['head', 'decoder', 'lora:8', 'full'])
    parser.add_argument('--frames', type=int, default=7)
    parser.add_argument('--out', type=Path, default=Path('out/own_model.json'))
    options = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = '1'
    table = Table(title=options.folder or 'Depth Anything V2 Small, random weights')
    for column in ('input', 'scope', 'inference, ms', 'step, ms', 'inference, GFLOP',
                   'step, GFLOP', 'peak, MB', 'trained, M'):
        table.add_column(column, justify='right')
    results = {}
    with tempfile.TemporaryDirectory() as random:
        if not options.folder:
            try:
                write_small(Path(random))
            except ImportError:
                Console().print("not measured: pip install 'dectrain_ros[transformers]'")
                return
        for size in options.sizes:
            for scope in options.scopes:
                # A new process, so that peak memory is this scope's.
                with multiprocessing.get_context('spawn').Pool(1) as process:
                    r = results[f'{size} {scope}'] = process.apply(
                        measure, (options.folder or random, size, scope, options.frames))
                table.add_row(
                    size, scope, f'{r["inference_ms"]:.0f}', f'{r["step_ms"]:.0f}',
                    f'{r["inference_gflop"]:.1f}', f'{r["step_gflop"]:.1f}', f'{r["peak_mb"]:.0f}',
                    f'{r["trained_parameters"] / 1e6:.2f}')
    Console().print(table)
    machine = {'cores': os.cpu_count(), 'load': os.getloadavg()[0],
               'platform': platform.platform(), 'python': platform.python_version()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({'machine': machine, 'results': results}, indent=2) + '\n')


if __name__ == '__main__':
    main()
