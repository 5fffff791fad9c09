"""
What the depth node adds to the network: latency of a frame, against a node that only echoes.

One publisher drives both nodes in turn, one image at a time, each node in its own process. The
node's overhead is its latency less that of the bare network in this process, with as many threads.
Every image has a pose, 3 cm from the one before, and a decision node that never trains answers the
depth node's candidates: all that a node does for each frame is in the time but training itself.
The target is an overhead of at most 1.5 times the echo's latency.
"""

import argparse
import array
import contextlib
import json
import os
from pathlib import Path
import platform
import statistics
import subprocess
import sys
import time
from typing import Callable, Dict, List

from dectrain_ros.frames import Intrinsics
from dectrain_ros.offline.bag import header_stamp_ns
from dectrain_ros.ros.conversions import camera_info_message
from dectrain_ros.ros.messages import stamp_from_ns
from geometry_msgs.msg import PoseStamped
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

TARGET = 1.5
PATIENCE_S = 5.0
STEP_M = 0.03           # sideways from image to image
PROFILE = Path(__file__).resolve().with_name('fastdds.xml')      # lets large images through


class Echo(Node):
    """Answers every image by a blank one as large as its depth."""

    def __init__(self):
        """Listen as the depth node does."""
        super().__init__('echo_node')
        self._answers = self.create_publisher(Image, 'depth/image', 5)
        self.create_subscription(Image, 'image', self._on_image, qos_profile_sensor_data)

    def _on_image(self, message: Image) -> None:
        data = array.array('B', bytes(4 * message.width * message.height))
        self._answers.publish(Image(
            header=message.header, height=message.height, width=message.width,
            encoding='32FC1', step=4 * message.width, data=data))


class Driver(Node):
    """Publishes images to one node under test and times its answers."""

    def __init__(self, name: str, width: int, height: int):
        """Use topics under the name's namespace."""
        super().__init__(f'driver_{name}', namespace=name)
        self._images = self.create_publisher(Image, 'image', 5)
        self._infos = self.create_publisher(CameraInfo, 'camera_info', 5)
        self._poses = self.create_publisher(PoseStamped, 'pose', 5)
        self._pose = PoseStamped()
        self._pose.pose.orientation.w = 1.0
        self.create_subscription(
            Image, 'depth/image', self._on_answer, qos_profile_sensor_data, raw=True)
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        self._camera = Intrinsics(width, width, width / 2, height / 2, width, height)
        self._message = Image(height=height, width=width, encoding='rgb8', step=3 * width,
                              data=array.array('B', pixels.tobytes()))
        self._stamp_ns, self._answered_s = 1_000_000_000, None
        self.lost = 0

    def _on_answer(self, data: bytes) -> None:
        if header_stamp_ns(data) == self._stamp_ns:
            self._answered_s = time.perf_counter()

    def latency_s(self) -> float:
        """Publish one image; gives the time to its answer, nan if none came."""
        self._stamp_ns += 33_333_333
        self._answered_s = None
        header = Header(stamp=stamp_from_ns(self._stamp_ns), frame_id='camera')
        self._message.header = self._pose.header = header
        self._pose.pose.position.x += STEP_M
        self._poses.publish(self._pose)
        start_s = time.perf_counter()
        self._images.publish(self._message)
        while self._answered_s is None and time.perf_counter() - start_s < PATIENCE_S:
            rclpy.spin_once(self, timeout_sec=0.1)
        if self._answered_s is None:
            self.lost += 1
            return float('nan')
        return self._answered_s - start_s

    def connect(self, timeout_s: float = 120.0) -> None:
        """Wait until the node under test answers; raises TimeoutError if it does not."""
        until_s = time.monotonic() + timeout_s
        while not self._images.get_subscription_count():
            if time.monotonic() > until_s:
                raise TimeoutError(f'{self.get_name()}: no node listened in {timeout_s} s')
            time.sleep(0.1)
        while True:
            self._infos.publish(camera_info_message(Header(), self._camera))
            time.sleep(0.2)
            if np.isfinite(self.latency_s()):
                self.lost = 0
                return
            if time.monotonic() > until_s:
                raise TimeoutError(
                    f'{self.get_name()}: no answer in {timeout_s} s; images larger than the '
                    f'shared memory of DDS get lost: let it be as in {PROFILE}')


def bare_forward(options) -> Callable[[], float]:
    """Give a function that times one forward pass of the network, its depth on the host."""
    from dectrain_ros.depth.checkpoints import load_network, resolve_device
    from dectrain_ros.depth.estimator import image_batch
    import torch
    torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    network = load_network('lite', options.weights)
    network = network.to(device, memory_format=torch.channels_last)
    card = network.card
    image = np.random.default_rng(0).integers(0, 256, (card.height, card.width, 3), dtype=np.uint8)
    focal_px = torch.tensor([float(card.width)], device=device)

    @torch.no_grad()
    def forward() -> float:
        start_s = time.perf_counter()
        features = network.encode(image_batch([image], device))
        decoded = network.decode(features, focal_px, depth_only=True)
        decoded.depths[0].cpu()
        return time.perf_counter() - start_s
    return forward


def sampled(source: Callable[[], float], count: int, warm_up: int, pause_s: float) -> List[float]:
    """Give so many times in s, after a warm-up; pauses let the other threads come to rest."""
    times = []
    for number in range(warm_up + count):
        value = source()
        if number >= warm_up and np.isfinite(value):
            times.append(value)
        time.sleep(pause_s)
    return times


def summary(times_s: List[float]) -> Dict[str, float]:
    """Give median, spread and 95th percentile in ms."""
    ms = sorted(1e3 * t for t in times_s)
    at = {q: ms[min(len(ms) - 1, int(q * len(ms)))] for q in (0.05, 0.25, 0.75, 0.95)}
    return {'median_ms': statistics.median(ms), 'p05_ms': at[0.05], 'p95_ms': at[0.95],
            'iqr_ms': at[0.75] - at[0.25], 'count': len(ms)}


@contextlib.contextmanager
def process(*command: str):
    """Run a node in a process of its own."""
    started = subprocess.Popen([sys.executable, *command])
    try:
        yield
    finally:
        started.terminate()
        try:
            started.wait(60.0)
        finally:
            started.kill()


def machine(options) -> dict:
    """Describe what this was measured on."""
    import torch
    cpu = ''
    with contextlib.suppress(OSError):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        cpu = next((x.partition(': ')[2] for x in lines if x.startswith('model name')), '')
    return {'cpu': cpu, 'cores': os.cpu_count(), 'load': os.getloadavg()[0],
            'platform': platform.platform(), 'python': platform.python_version(),
            'torch': torch.__version__, 'threads': options.threads, 'device': options.device}


def measure(options) -> dict:
    """Measure echo, depth node and bare network in turn, several rounds."""
    rclpy.init(args=[])
    ros = ['--ros-args', '-r', '__ns:=/depth_node', '-p']
    depth = ['-m', 'dectrain_ros.ros.depth_node', *ros, f'depth.threads:={options.threads}', '-p',
             f'depth.device:={options.device}', '-p', f'depth.weights:="{options.weights}"']
    decision = ['-m', 'dectrain_ros.ros.decision_node', *ros, 'decision.policy:=never']
    times: Dict[str, List[float]] = {'echo': [], 'node': [], 'forward': []}
    with process(__file__, '--echo'), process(*depth), process(*decision):
        drivers = {'echo': Driver('echo', options.width, options.height),
                   'node': Driver('depth_node', options.width, options.height)}
        sources = {**{name: driver.latency_s for name, driver in drivers.items()},
                   'forward': bare_forward(options)}
        for driver in drivers.values():
            driver.connect()
        for _ in range(options.rounds):
            for name, source in sources.items():
                times[name] += sampled(source, options.frames, options.warm_up, 0.01)
        lost = {name: driver.lost for name, driver in drivers.items()}
    rclpy.try_shutdown()
    forward_s = statistics.median(times['forward'])
    times['overhead'] = [t - forward_s for t in times['node']]
    parts = {name: summary(values) for name, values in times.items()}
    return {
        'width': options.width, 'height': options.height, 'machine': machine(options),
        'lost': lost, 'latency': parts, 'target': TARGET,
        'overhead_over_echo': parts['overhead']['median_ms'] / parts['echo']['median_ms']}


def show(result: dict) -> None:
    """Print the table."""
    table = Table(title=f'{result["width"]}x{result["height"]} rgb8 in, 32FC1 out')
    for column in ('', 'median ms', 'p95 ms', 'iqr ms', 'frames', 'lost'):
        table.add_column(column, justify='left' if not column else 'right')
    names = {'echo': 'echo node', 'node': 'depth node', 'forward': 'bare network',
             'overhead': 'depth node less bare network'}
    for key, name in names.items():
        part = result['latency'][key]
        table.add_row(name, *(f'{part[k]:.2f}' for k in ('median_ms', 'p95_ms', 'iqr_ms')),
                      str(part['count']), str(result['lost'].get(key, '')))
    console = Console()
    console.print(table)
    console.print(f'overhead / echo: {result["overhead_over_echo"]:.2f} (target at most {TARGET})')


def echo() -> None:
    """Run the echo node until a signal."""
    rclpy.init(args=['echo', '--ros-args', '-r', '__ns:=/echo'])
    try:
        rclpy.spin(Echo())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


def main() -> None:
    """Measure, show and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--width', type=int, default=640)
    parser.add_argument('--height', type=int, default=480)
    parser.add_argument('--frames', type=int, default=100, help='in each of the rounds')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--warm-up', type=int, default=20)
    parser.add_argument('--threads', type=int, default=1, help='CPU threads for torch')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--weights', default='', help='of lite; empty takes the shipped ones')
    parser.add_argument('--out', type=Path, default=Path('out/node_overhead.json'))
    parser.add_argument('--echo', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        echo()
        return
    for name in ('FASTDDS', 'FASTRTPS'):        # new and old name of the variable
        os.environ.setdefault(f'{name}_DEFAULT_PROFILES_FILE', str(PROFILE))
    result = measure(options)
    show(result)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_name(options.out.name + '.partial')
    partial.write_text(json.dumps(result, indent=2) + '\n')
    os.replace(partial, options.out)


if __name__ == '__main__':
    main()
