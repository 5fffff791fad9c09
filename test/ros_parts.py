"""Real nodes on real topics for tests: a context and a network domain of their own."""

import contextlib
import fcntl
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import threading
import time

from processes import popen
import pytest

pytest.importorskip('rclpy')

from rclpy.context import Context                       # noqa: E402,I100,I202
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor    # noqa: E402
from rclpy.node import Node                             # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy     # noqa: E402

BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


class Domains:
    """
    Network domains, one at a time, in which nobody else on this machine tests.

    A test has one of its own because who has just left the last one is still heard there: once in
    many runs Fast DDS went on counting an end of a service that was gone, and called the one that
    was there unavailable for good. A lock keeps others out; it ends with the process.
    """

    def __init__(self):
        """Be in one."""
        self._number, self._lock = os.getpid(), None
        os.environ.update({'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'OMP_NUM_THREADS': '1'})
        self.move()

    def move(self):
        """Be in the next one, and so processes that are started; gives its number."""
        if self._lock is not None:
            self._lock.close()
        for _ in range(100):            # above 101, a domain's ports may be somebody's already
            self._number = self._number % 100 + 1
            with contextlib.suppress(OSError):      # also of a file that is another user's
                self._lock = _locked(
                    Path(tempfile.gettempdir()) / f'dectrain_domain_{self._number}')
                os.environ['ROS_DOMAIN_ID'] = str(self._number)
                return self._number
        raise AssertionError('100 tests run on this machine at once')


def _locked(path):
    """Give a file that is open and locked; raises OSError if somebody has it."""
    file = path.open('a')
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


_DOMAINS = Domains()


class Ros:
    """A context whose nodes are spun in the background."""

    def __init__(self):
        """Start without nodes."""
        self.context = Context()
        self.context.init(args=[], domain_id=_DOMAINS.move())
        self._executor = SingleThreadedExecutor(context=self.context)
        self._nodes = []
        self._clients = {}
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self.tester = self.add(Node('tester', context=self.context))

    def _spin(self):
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def add(self, node):
        """Spin a node until the end of the test."""
        self._nodes.append(node)
        self._executor.add_node(node)
        return node

    def remove(self, node):
        """End a node before the test ends."""
        self._nodes.remove(node)
        self._executor.remove_node(node)
        node.destroy_node()

    def close(self):
        """End the nodes and the context."""
        self._executor.shutdown(2.0)
        self._thread.join(5.0)
        for node in self._nodes:
            if hasattr(node, 'close'):
                node.close()
            node.destroy_node()
        self.context.try_shutdown()

    def listen(self, kind, topic, qos=50, raw=False):
        """Collect the messages of a topic, or their bytes."""
        heard = Heard()
        self.tester.create_subscription(kind, topic, heard, qos, raw=raw)
        return heard

    def speak(self, kind, topic, qos=50, timeout_s=15.0):
        """Give a publisher that somebody listens to."""
        publisher = self.tester.create_publisher(kind, topic, qos)
        wait_until(lambda: publisher.get_subscription_count() > 0, timeout_s)
        return publisher

    def call(self, kind, service, request, timeout_s=30.0):
        """Give the answer of a service of this process."""
        return self.ask(kind, service, request).wait_for(1, timeout_s)[0]

    def call_again(self, kind, service, request):
        """Give the answer of another process, whose first may be lost: it must not matter."""
        for _ in range(10):
            heard = self.ask(kind, service, request)
            with contextlib.suppress(AssertionError):
                return heard.wait_for(1, 3.0)[0]
        raise AssertionError(f'no answer from {service}')

    def ask(self, kind, service, request):
        """Call a service; gives what hears its answer."""
        for _ in range(3):      # discovery may lose a service: a new client asks again
            client = self._clients.get(service)
            if client is None:
                client = self._clients[service] = self.tester.create_client(kind, service)
            if client.wait_for_service(20.0):
                break
            self.tester.destroy_client(self._clients.pop(service))
        else:
            raise AssertionError(f'no service {service}')
        heard = Heard()
        client.call_async(request).add_done_callback(lambda done: heard(done.result()))
        return heard


class Heard:
    """The messages of one topic."""

    def __init__(self):
        """Start empty."""
        self.messages = []
        self._changed = threading.Condition()

    def __call__(self, message):
        """Take one."""
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait_for(self, count=1, timeout_s=15.0):
        """Give the messages once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.messages) >= count, timeout_s), (
                f'{len(self.messages)} of {count} messages in {timeout_s} s')
            return list(self.messages)


def wait_until(true, timeout_s=15.0):
    """Wait for a condition."""
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, f'not true within {timeout_s} s'
        time.sleep(0.01)


def start(module, *arguments):
    """Start an executable of ours as a process."""
    return python('-m', f'dectrain_ros.ros.{module}', *arguments)


def python(*arguments):
    """Start Python as a process."""
    return popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(process, timeout_s=120.0):
    """Give exit status and stderr of a process that ends."""
    try:
        _, errors = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return process.returncode, errors
