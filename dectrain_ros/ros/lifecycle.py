"""Base class of both nodes: a managed life cycle that reports why a transition failed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Callable, Optional

from dectrain_ros.ros.log_handler import LogHandler
from dectrain_ros.ros.parameters import AUTOSTART
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = 'unconfigured', 'inactive', 'active', 'finalized'


class Refused(ValueError):
    """A node cannot start; the reason is in its log."""


class ManagedNode(LifecycleNode, ABC):
    """
    A node that can be configured, activated, deactivated, cleaned up and shut down.

    A failed transition keeps the previous state and logs the reason in one line. A transition that
    does not exist in the present state is refused, where rclpy would end the process. After
    shutdown the process runs on until a signal ends it.

    state: one of the four. problem: why the last transition failed, '' if it did not.

    :param ros: rclpy.node.Node's keyword arguments.
    """

    def __init__(self, name: str, **ros):
        """Start unconfigured; the subclass declares its parameters."""
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **ros)
        self.state, self.problem = UNCONFIGURED, ''
        self._log_handler = LogHandler(self.get_logger())
        change = self._service_change_state
        change.callback = self._refusing(change.callback)

    def destroy_node(self) -> None:
        """Remove the node and its log handler."""
        self._log_handler.stop()
        super().destroy_node()

    @abstractmethod
    def load(self) -> None:
        """Make the parts of the node; raise ValueError or OSError if that fails."""

    @abstractmethod
    def listen(self) -> None:
        """Start threads and subscribe."""

    @abstractmethod
    def rest(self) -> None:
        """End threads and subscriptions, and wait for the current work."""

    @abstractmethod
    def unload(self) -> None:
        """Free the parts that load made, also after a failure."""

    @abstractmethod
    def close(self) -> bool:
        """End threads within a few seconds; return whether they ended."""

    def start(self) -> None:
        """
        Configure and activate if parameter autostart is true.

        :raises Refused: with the reason, if that fails.
        """
        if not self.get_parameter(AUTOSTART.name).value:
            self.get_logger().info(f'unconfigured: waiting for ros2 lifecycle set {self.address} '
                                   'configure')
            return
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() is not TransitionCallbackReturn.SUCCESS:
                if not self.context.ok():       # a signal shut the context down
                    raise ExternalShutdownException()
                raise Refused(self.problem)

    @property
    def address(self) -> str:
        """Name of the node with its namespace."""
        return self.get_fully_qualified_name()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load; unload after a failure."""
        return self._tried('configured', INACTIVE, self.load, self.unload)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen; rest after a failure."""
        return self._tried('activated', ACTIVE, self.listen, self.rest)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Rest."""
        return self._tried('deactivated', INACTIVE, self.rest)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unload."""
        return self._tried('cleaned up', UNCONFIGURED, self.unload)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Rest and unload."""
        return self._tried('shut down', FINALIZED, self._end)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Rest and unload, to start again unconfigured."""
        return self._tried('recovered', UNCONFIGURED, self._end)

    def _end(self) -> None:
        self.rest()
        self.unload()

    def _tried(self, what: str, to: str, work: Callable[[], None],
               undo: Optional[Callable[[], None]] = None) -> TransitionCallbackReturn:
        """Do the work of a transition; where it fails, say why and undo it if that is known."""
        self.problem = ''
        try:
            work()
        except Exception as error:      # a managed node must go on and answer, whatever the error
            if undo is not None:
                undo()
            expected = isinstance(error, (ValueError, OSError))
            text = str(error) if expected else f'{type(error).__name__}: {error}'
            self.problem = f'cannot be {what}: {" ".join(text.split())}'
            if self.context.ok():       # else a signal shut the context down
                self.get_logger().fatal(self.problem)
            failed = TransitionCallbackReturn
            return failed.ERROR if undo is None else failed.FAILURE
        self.state = to
        return TransitionCallbackReturn.SUCCESS

    def _refusing(self, change: Callable) -> Callable:
        """Return the callback of change_state, with a refusal instead of rclpy's exception."""
        def changed(request, response):
            try:
                return change(request, response)
            except RuntimeError as error:       # RCLError: no such transition
                wanted = request.transition.label or request.transition.id
                self.get_logger().error(f'no transition {wanted!r} from state {self.state} '
                                        f'({" ".join(str(error).split())})')
                response.success = False
                return response
        return changed
