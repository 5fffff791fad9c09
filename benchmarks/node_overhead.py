"""
What the depth node adds to the network, and what it loses, against a node that only echoes.

For every image size and transport, with each node in its own process:
- one image at a time: latency from image to depth. The node's overhead is its latency less that of
  the bare network in this process, with as many threads; the target is at most 1.5 times the
  echo's latency.
- images at a fixed rate, as a camera sends them: latency, rate of depth, images lost. Where a
  forward pass takes less than the time between images none may be lost; else those that a newer
  one overtook, each counted in /diagnostics, and never the newest.

Every image has a pose, 3 cm from the one before, and a decision node that never trains answers the
depth node's candidates: all that a node does for each frame is in the time but training itself.
"""

import argparse
import array
import contextlib
import itertools
import json
import os
from pathlib import Path
import platform
import subprocess
import sys
import time
from typing import Callable, Dict, List, NamedTuple

import cv2
from dectrain_ros.bags.reader import header_stamp_ns
from dectrain_ros.checkpoints.files import write_bytes
from dectrain_ros.frames import Intrinsics
from dectrain_ros.ros.conversions import camera_info_message
from dectrain_ros.ros.messages import stamp_from_ns
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

TARGET = 1.5            # overhead over echo's latency
PATIENCE_S = 5.0
STEP_M = 0.03           # sideways from image to image
PROFILE = Path(__file__).resolve().parents[1] / 'config' / 'fastdds.xml'     # for large images
SPACES = {'echo': 'echo', 'node': 'bench'}      # namespace of each node under test
OVERTAKEN = 'dropped: newer image came before its turn'


class Case(NamedTuple):
    """What images are sent."""

    width: int
    height: int
    transport: str

    @property
    def title(self) -> str:
        """Return it as text."""
        return f'{self.width}x{self.height} {self.transport}'


class Echo(Node):
    """Answers every image by a blank one as large as its depth."""

    def __init__(self, case: Case):
        """Listen as the depth node does."""
        super().__init__('echo_node')
        self._case = case
        self._answers = self.create_publisher(Image, 'depth/image', 5)
        self.create_subscription(
            _kind(case), 'image', self._on_image, qos_profile_sensor_data)

    def _on_image(self, message) -> None:
        width, height = self._case.width, self._case.height
        data = array.array('B', bytes(4 * width * height))
        self._answers.publish(Image(
            header=message.header, height=height, width=width, encoding='32FC1', step=4 * width,
            data=data))


class Driver(Node):
    """Publishes images to one node under test and times its answers."""

    def __init__(self, space: str, case: Case):
        """Use topics under a namespace."""
        super().__init__(f'driver_{space}', namespace=space)
        self._images = self.create_publisher(_kind(case), 'image', 5)
        self._infos = self.create_publisher(CameraInfo, 'camera_info', 5)
        self._poses = self.create_publisher(PoseStamped, 'pose', 5)
        self._pose = PoseStamped()
        self._pose.pose.orientation.w = 1.0
        self.create_subscription(Image, 'depth/image', self._on_answer, 50, raw=True)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 50)
        self._camera = Intrinsics(case.width, case.width, case.width / 2, case.height / 2,
                                  case.width, case.height)
        self._message = image_message(case)
        self._stamp_ns = 1_000_000_000
        self._sent_s: Dict[int, float] = {}
        self._answered_s: Dict[int, float] = {}         # in the order they came
        self._own = f'{space}/depth_node: '
        self._reports, self._counts = 0, {}

    def _on_answer(self, data: bytes) -> None:
        self._answered_s[header_stamp_ns(data)] = time.perf_counter()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self._own):
                self._reports += 1
                self._counts = {pair.key: int(pair.value) for pair in status.values
                                if pair.key.startswith('dropped: ')}

    def _send(self) -> int:
        """Publish one image with its pose; gives its stamp."""
        self._stamp_ns += 33_333_333
        header = Header(stamp=stamp_from_ns(self._stamp_ns), frame_id='camera')
        self._message.header = self._pose.header = header
        self._pose.pose.position.x += STEP_M
        self._poses.publish(self._pose)
        self._sent_s[self._stamp_ns] = time.perf_counter()
        self._images.publish(self._message)
        return self._stamp_ns

    def latency_s(self) -> float:
        """Publish one image; gives the time to its answer, nan if none came."""
        stamp_ns = self._send()
        self._spin(lambda: stamp_ns in self._answered_s, PATIENCE_S)
        return self._answered_s.get(stamp_ns, float('nan')) - self._sent_s[stamp_ns]

    def _spin(self, done: Callable[[], bool], timeout_s: float) -> None:
        until_s = time.perf_counter() + timeout_s
        while not done() and time.perf_counter() < until_s:
            rclpy.spin_once(self, timeout_sec=max(0.0, min(0.1, until_s - time.perf_counter())))

    def stream(self, rate_hz: float, count: int) -> dict:
        """Publish images at a rate; gives latency, rate of depth and what became of the images."""
        before = self._fresh_counts()
        self._sent_s.clear()
        self._answered_s.clear()
        start_s = time.perf_counter()
        for number in range(count):
            due_s = start_s + number / rate_hz
            self._spin(lambda: False, due_s - time.perf_counter())
            stamp_ns = self._send()
        sending_s = time.perf_counter() - start_s
        self._spin(lambda: stamp_ns in self._answered_s, PATIENCE_S)
        after = self._fresh_counts()
        answered = [stamp for stamp in self._answered_s if stamp in self._sent_s]
        dropped = {key: after[key] - before.get(key, 0) for key in after
                   if after[key] > before.get(key, 0)}
        return {
            **summary([self._answered_s[s] - self._sent_s[s] for s in answered]),
            'sent': count, 'sent_hz': count / max(sending_s, 1e-9),
            'depth_hz': len(answered) / (max(self._answered_s.values(), default=start_s)
                                         - start_s + 1 / rate_hz),
            'lost': count - len(answered), 'dropped': dropped,
            'in_order': answered == sorted(answered), 'newest_answered': stamp_ns in answered}

    def _fresh_counts(self) -> Dict[str, int]:
        """Return the node's counters of drops as of now; an echo has none."""
        if self.get_namespace() == f'/{SPACES["echo"]}':
            return {}
        seen = self._reports
        self._spin(lambda: self._reports >= seen + 2, PATIENCE_S)
        return dict(self._counts)

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
                return
            if time.monotonic() > until_s:
                raise TimeoutError(
                    f'{self.get_name()}: no answer in {timeout_s} s; images larger than the '
                    f'shared memory of DDS get lost: let it be as in {PROFILE}')


def _kind(case: Case) -> type:
    return CompressedImage if case.transport == 'compressed' else Image


def image_message(case: Case):
    """Return a message of a picture as smooth as a camera's, so that its JPEG is of usual size."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (case.height // 16, case.width // 16, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (case.width, case.height), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(-4, 5, pixels.shape)
    pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if case.transport == 'compressed':
        data = cv2.imencode('.jpg', pixels, (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
        return CompressedImage(format='jpeg', data=array.array('B', data.tobytes()))
    return Image(height=case.height, width=case.width, encoding='rgb8', step=3 * case.width,
                 data=array.array('B', pixels.tobytes()))


def bare_forward(options) -> Callable[[], float]:
    """Return a function that times one forward pass of the network, its depth on the host."""
    from dectrain_ros.depth.estimator import image_batch
    from dectrain_ros.depth.networks.loading import load_network, resolve_device
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
        network.depth(network.encode(image_batch([image], device)), focal_px).cpu()
        return time.perf_counter() - start_s
    return forward


def sampled(source: Callable[[], float], count: int, warm_up: int, pause_s: float) -> List[float]:
    """Return so many times in s, after a warm-up; pauses let the other threads come to rest."""
    times: List[float] = []
    for number in range(warm_up + count):
        value = source()
        if number >= warm_up and np.isfinite(value):
            times.append(value)
        time.sleep(pause_s)
    return times


def summary(times_s: List[float]) -> Dict[str, float]:
    """Return percentiles and spread in ms; nan of nothing."""
    ms = 1e3 * np.array(times_s or [np.nan])
    p25, p50, p75, p95, p99 = map(float, np.percentile(ms, (25, 50, 75, 95, 99)))
    return {'p50_ms': p50, 'p95_ms': p95, 'p99_ms': p99, 'iqr_ms': p75 - p25,
            'count': len(times_s)}


@contextlib.contextmanager
def process(*command: str):
    """Run a node in a process of its own."""
    started = subprocess.Popen([sys.executable, *command])
    try:
        yield
    finally:
        started.terminate()
        try:
            started.wait(20.0)
        except subprocess.TimeoutExpired:       # what was measured is not lost with it
            print(f'{" ".join(command)}: did not end at SIGTERM, killed', file=sys.stderr)
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


def measure(case: Case, options) -> dict:
    """Measure echo, depth node and bare network on one kind of images."""
    rclpy.init(args=[])
    ros = ['--ros-args', '-r', f'__ns:=/{SPACES["node"]}', '-p']
    depth = ['-m', 'dectrain_ros.ros.depth_node', *ros, f'depth.threads:={options.threads}', '-p',
             f'depth.device:={options.device}', '-p', f'depth.weights:="{options.weights}"', '-p',
             f'image.transport:={case.transport}']
    decision = ['-m', 'dectrain_ros.ros.decision_node', *ros, 'decision.policy:=never']
    echo = [__file__, '--echo', *map(str, case)]
    try:
        with process(*echo), process(*depth), process(*decision):
            drivers = {name: Driver(space, case) for name, space in SPACES.items()}
            for driver in drivers.values():
                driver.connect()
            latency = one_at_a_time(drivers, options)
            streams = {name: driver.stream(options.rate, round(options.seconds * options.rate))
                       for name, driver in drivers.items()}
    finally:
        rclpy.try_shutdown()
    return judged({'case': case._asdict(), 'latency': latency, 'stream': streams}, options)


def one_at_a_time(drivers: Dict[str, Driver], options) -> dict:
    """Return latencies of every node and of the bare network, in turn, several rounds."""
    sources = {**{name: driver.latency_s for name, driver in drivers.items()},
               'forward': bare_forward(options)}
    times: Dict[str, List[float]] = {name: [] for name in sources}
    for _ in range(options.rounds):
        for name, source in sources.items():
            times[name] += sampled(source, options.frames, options.warm_up, 0.01)
    forward_s = float(np.median(times['forward']))
    times['overhead'] = [t - forward_s for t in times['node']]
    return {name: summary(values) for name, values in times.items()}


def judged(result: dict, options) -> dict:
    """Add how the numbers are to their targets."""
    latency, node = result['latency'], result['stream']['node']
    ratio = latency['overhead']['p50_ms'] / latency['echo']['p50_ms']
    in_time = latency['forward']['p50_ms'] < 1e3 / options.rate
    overtaken = node['dropped'].get(OVERTAKEN, 0)
    as_wanted = node['in_order'] and node['newest_answered'] and (
        node['lost'] == 0 if in_time else node['lost'] == overtaken)
    return {**result, 'overhead_over_echo': ratio, 'forward_in_time': in_time,
            'met': {'overhead': ratio <= TARGET, 'lost': as_wanted}}


def show(results: List[dict], options) -> None:
    """Print the tables."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    names = {'echo': 'echo node', 'node': 'depth node', 'forward': 'bare network',
             'overhead': 'depth node less bare network'}
    table = Table(title='One image at a time: ms from image to depth')
    for column in ('images', '', 'p50', 'p95', 'p99', 'iqr', 'frames', 'overhead / echo'):
        table.add_column(column, justify='right' if column not in ('', 'images') else 'left')
    for result in results:
        table.add_section()
        for key, name in names.items():
            part = result['latency'][key]
            verdict = f'{result["overhead_over_echo"]:.2f}' if key == 'overhead' else ''
            table.add_row(Case(**result['case']).title if key == 'echo' else '', name,
                          *(f'{part[k]:.2f}' for k in ('p50_ms', 'p95_ms', 'p99_ms', 'iqr_ms')),
                          str(part['count']), verdict)
    console.print(table)
    table = Table(title=f'Images at {options.rate:g} Hz')
    for column in ('images', '', 'p50 ms', 'p95 ms', 'p99 ms', 'depth Hz', 'sent', 'lost', 'why'):
        left = column in ('', 'images', 'why')
        table.add_column(column, justify='left' if left else 'right')
    for result in results:
        table.add_section()
        for key in ('echo', 'node'):
            part = result['stream'][key]
            table.add_row(Case(**result['case']).title if key == 'echo' else '', names[key],
                          *(f'{part[k]:.2f}' for k in ('p50_ms', 'p95_ms', 'p99_ms')),
                          f'{part["depth_hz"]:.1f}', str(part['sent']), str(part['lost']),
                          ', '.join(f'{n} {why}' for why, n in part['dropped'].items()))
    console.print(table)
    for result in results:
        met = ', '.join(f'{what} {"met" if good else "MISSED"}'
                        for what, good in result['met'].items())
        console.print(f'{Case(**result["case"]).title}: {met}; overhead / echo '
                      f'{result["overhead_over_echo"]:.2f} (at most {TARGET})',
                      highlight=False, soft_wrap=True)


def echo(case: Case) -> None:
    """Run the echo node until a signal."""
    rclpy.init(args=['echo', '--ros-args', '-r', f'__ns:=/{SPACES["echo"]}'])
    try:
        rclpy.spin(Echo(case))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


def _size(text: str) -> List[int]:
    return [int(number) for number in text.split('x')]


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    given = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument('--sizes', nargs='+', type=_size, metavar='WxH',
                       default=[[640, 480], [1280, 720]])
    given.add_argument('--transports', nargs='+', choices=('raw', 'compressed'),
                       default=['raw', 'compressed'])
    given.add_argument('--frames', type=int, default=100, help='one at a time, in each round')
    given.add_argument('--rounds', type=int, default=3)
    given.add_argument('--warm-up', type=int, default=20)
    given.add_argument('--rate', type=float, default=30.0, help='of the stream, Hz')
    given.add_argument('--seconds', type=float, default=20.0, help='of the stream')
    given.add_argument('--threads', type=int, default=1, help='CPU threads for torch')
    given.add_argument('--device', default='cpu')
    given.add_argument('--weights', default='', help='of lite; empty takes the shipped ones')
    given.add_argument('--out', type=Path, default=Path('out/node_overhead.json'))
    given.add_argument('--echo', nargs=3, help=argparse.SUPPRESS)
    return given


def main() -> None:
    """Measure, show and write JSON."""
    options = parser().parse_args()
    if options.echo:
        width, height, transport = options.echo
        echo(Case(int(width), int(height), transport))
        return
    for name in ('FASTDDS', 'FASTRTPS'):        # new and old name of the variable
        os.environ.setdefault(f'{name}_DEFAULT_PROFILES_FILE', str(PROFILE))
    results = [measure(Case(*size, transport), options)
               for size, transport in itertools.product(options.sizes, options.transports)]
    show(results, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(options.out, json.dumps(
        {'machine': machine(options), 'rate_hz': options.rate, 'target': TARGET,
         'cases': results}, indent=2).encode())


if __name__ == '__main__':
    main()
