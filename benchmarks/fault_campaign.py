"""
Does training through faulty input harm the depth? Each fault on a bag, against never training.

Every second span of so many frames is at fault. Compared are the errors of depth on the sound
frames, and over the last half of them; depth of every frame must be finite and within the
network's range. Poses pass the live node's checks: views before a jump are not used after it.
steps counts those taken on faulty frames. Target: error at most 1 % above never training.

    python benchmarks/fault_campaign.py                     # a synthetic walk
    python benchmarks/fault_campaign.py kitchen --frames 400 --policy always
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
import tempfile
from typing import Callable, Dict, List, NamedTuple

from dectrain_ros.bags.reader import Bag
from dectrain_ros.checkpoints.files import write_json
from dectrain_ros.composition import compose
from dectrain_ros.config import Config, parsed
from dectrain_ros.decision.policies import make_policy
from dectrain_ros.depth.networks.loading import load_network
from dectrain_ros.evaluation.measure import measure
from dectrain_ros.frames import Frame
from dectrain_ros.sensing.pose_stream import Limits, PoseStream
from dectrain_ros.synthetic.write_bag import Walk, write_walk
import numpy as np
from rich.console import Console
from rich.table import Table

WORSE = 0.01            # target

Fault = Callable[[Frame, Frame], Frame]         # of a frame and the bag's first


class Fared(NamedTuple):
    """What became of a run: AbsRel on sound frames, all and later half; steps on faulty ones."""

    absrel: float
    later: float
    is_sound: bool
    trained: int
    rollbacks: int


def filled(value: int) -> Fault:
    """Return images of one value."""
    return lambda frame, first: replace(frame, image=np.full_like(frame.image, value))


def noise(frame: Frame, first: Frame) -> Frame:
    """Return an image of noise."""
    rng = np.random.default_rng(frame.stamp_ns)
    return replace(frame, image=rng.integers(0, 256, frame.image.shape, dtype=np.uint8))


def swapped(frame: Frame, first: Frame) -> Frame:
    """Return the image with red and blue swapped."""
    return replace(frame, image=np.ascontiguousarray(frame.image[..., ::-1]))


def scaled(factor: float) -> Fault:
    """Return poses whose positions are wrong by a factor."""
    def change(frame: Frame, first: Frame) -> Frame:
        if frame.world_from_camera is None:
            return frame
        pose = frame.world_from_camera.copy()
        pose[:3, 3] = first.world_from_camera[:3, 3] + factor * (
            pose[:3, 3] - first.world_from_camera[:3, 3])
        return replace(frame, world_from_camera=pose)
    return change


def posed(value: float) -> Fault:
    """Return poses of one value."""
    return lambda frame, first: replace(frame, world_from_camera=np.full((4, 4), value))


def unchanged(frame: Frame, first: Frame) -> Frame:
    """Return the frame as it is."""
    return frame


FAULTS: Dict[str, Fault] = {
    'none': unchanged, 'black images': filled(0), 'white images': filled(255), 'noise': noise,
    'swapped channels': swapped,
    'frozen images': lambda frame, first: replace(frame, image=first.image),
    'frozen poses': lambda frame, first: replace(
        frame, world_from_camera=first.world_from_camera),
    'nan poses': posed(np.nan), 'infinite poses': posed(np.inf),
    'poses 10 times too far': scaled(10.0), 'poses 10 times too near': scaled(0.1)}
RATES = {'learning rate .01': 0.01, 'learning rate 1': 1.0}          # 1 is the most there is


def fared(bag: Bag, config: Config, policy_text: str, fault: Fault, options) -> Fared:
    """Go through a bag with a fault on every second span of frames."""
    pipeline, policy = compose(config), make_policy(policy_text, config.seed)
    poses = PoseStream(Limits(
        config.pose.max_gap_s, config.pose.max_speed, config.pose.max_turn_rate))
    card = load_network(
        config.depth.network, config.depth.weights, config.depth.input_size).card
    first, errors, is_sound, trained, stamp_ns = None, [], True, 0, 0
    for k, recorded in enumerate(bag.frames(0, options.frames)):
        if first is None and recorded.frame.world_from_camera is not None:
            first = recorded.frame
        is_faulty = first is not None and k // options.span % 2 == 1
        frame = fault(recorded.frame, first) if is_faulty else recorded.frame
        pose = frame.world_from_camera
        poses.add(frame.stamp_ns, pose if pose is not None and np.isfinite(pose).all() else None)
        if k and poses.jumped(stamp_ns, frame.stamp_ns):
            pipeline.forget_views()
        stamp_ns = frame.stamp_ns
        seen = pipeline.observe(frame)
        scale = card.scale * (frame.intrinsics.resized(card.width, card.height).fx
                              / card.focal_px if card.focal_px else 1.0)
        nearest, furthest = card.min_depth_m * scale, card.max_depth_m * scale
        is_sound &= bool(np.isfinite(seen.depth).all() and seen.depth.min() >= 0.999 * nearest
                         and seen.depth.max() <= 1.001 * furthest)
        was_trained = pipeline.train(policy.decide(seen.candidate)).trained
        trained += was_trained and is_faulty
        if not is_faulty:
            errors.append(measure(seen.depth, recorded.ground_truth).absrel)
    later = errors[len(errors) // 2:]
    return Fared(float(np.nanmean(errors)), float(np.nanmean(later)), is_sound, trained,
                 sum(pipeline.trainer.safety.rollbacks.values()))


def campaign(bag: Bag, options, console: Console) -> None:
    """Run every fault, and print and write what became of it."""
    config = parsed(options.assignments).replaced('decision.features', 'none')
    options.frames = min(options.frames, len(bag))
    title = f'AbsRel on sound frames, {bag.path.name}, {options.policy}; at most {WORSE:+.0%}'
    table = Table('fault', 'AbsRel', 'change', 'later half', 'change', 'steps', 'rollbacks',
                  'range', title=title)
    rows: List[dict] = []
    cases = [(name, config, fault) for name, fault in FAULTS.items()]
    cases += [(name, config.replaced('training.learning_rate', rate), unchanged)
              for name, rate in RATES.items()]
    # Depth of a sound frame does not depend on the others where nothing is trained.
    never = fared(bag, config, 'never', unchanged, options)
    for name, changed, fault in cases:
        ours = fared(bag, changed, options.policy, fault, options)
        change, later = ours.absrel / never.absrel - 1, ours.later / never.later - 1
        table.add_row(name, f'{ours.absrel:.4f}', f'{change:+.1%}', f'{ours.later:.4f}',
                      f'{later:+.1%}', str(ours.trained), str(ours.rollbacks),
                      'kept' if ours.is_sound else 'LEFT')
        rows.append({'fault': name, **ours._asdict(), 'change': change, 'later_change': later})
        console.print(f'{name}: {change:+.1%}, later half {later:+.1%}')
        write_json(options.out, {'bag': bag.path.name, 'policy': options.policy,
                                 'frames': options.frames, 'span': options.span,
                                 'never': never._asdict(), 'faults': rows})
    console.print(table)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('bag', nargs='?', type=Path, help='without one, a synthetic walk')
    parser.add_argument('--frames', type=int, default=200, help='frames used of the bag')
    parser.add_argument('--span', type=int, default=20, help='frames from sound to faulty')
    parser.add_argument('--policy', default='periodic:4')
    parser.add_argument('--set', dest='assignments', action='append', default=[],
                        metavar='ROOM.OPTION=VALUE')
    parser.add_argument('--out', type=Path, default=Path('out/fault_campaign.json'))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        path = options.bag or Path(scratch) / 'walk'
        if not options.bag:
            for _ in write_walk(path, Walk(frames=options.frames)):
                pass
        campaign(Bag(path), options, Console())


if __name__ == '__main__':
    main()
