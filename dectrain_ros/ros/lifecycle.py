"""What both nodes share: a managed life cycle whose failures have a reason, and autostart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Callable, Optional

from dectrain_ros.ros.log_handler import LogHandler
from dectrain_ros.ros.parameters import AUTOSTART
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = 'unconfigured', 'inactive', 'active', 'finalized'


class Refused(ValueError):
    """A node cannot start; it has said why in its log."""


class ManagedNode(LifecycleNode, ABC):
    """
    A node that may be configured, activated, deactivated, cleaned up and shut down.

    A transition that fails leaves what was before it, and says why in one line. One that there is
    not from the present state is refused, where rclpy would end the process. A node that was shut
    down stays, as others do, until a signal ends its process.

    state is one of the four; problem says why the last transition failed, '' if it did not.

    :param ros: rclpy.node.Node's keyword arguments.
    """

    def __init__(self, name: str, **ros):
        """Start unconfigured; a subclass then declares its parameters."""
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **ros)
        self.state, self.problem = UNCONFIGURED, ''
        self._log_handler = LogHandler(self.get_logger())
        change = self._service_change_state
        change.callback = self._refusing(change.callback)

    def destroy_node(self) -> None:
        """End the node, and its log of what the package does."""
        self._log_handler.stop()
        super().destroy_node()

    @abstractmethod
    def load(self) -> None:
        """Make what the node works with; raises ValueError or OSError where that cannot be."""

    @abstractmethod
    def listen(self) -> None:
        """Start threads and subscribe."""

    @abstractmethod
    def rest(self) -> None:
        """End threads and subscriptions, whichever there are, waiting for what is in work."""

    @abstractmethod
    def unload(self) -> None:
        """Free what load made, as far as it got."""

    @abstractmethod
    def close(self) -> bool:
        """End threads for good, in a few seconds; returns whether they ended."""

    def start(self) -> None:
        """
        Configure and activate, if parameter autostart says so.

        :raises Refused: if that failed; the reason is its text.
        """
        if not self.get_parameter(AUTOSTART.name).value:
            self.get_logger().info(f'unconfigured: waiting for ros2 lifecycle set {self.address} '
                                   'configure')
            return
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() is not TransitionCallbackReturn.SUCCESS:
                if not self.context.ok():       # a signal while starting took the context away
                    raise ExternalShutdownException()
                raise Refused(self.problem)

    @property
    def address(self) -> str:
        """Name with namespace."""
        return self.get_fully_qualified_name()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load; where that fails, unload again."""
        return self._tried('configured', INACTIVE, self.load, self.unload)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen; where that fails, rest again."""
        return self._tried('activated', ACTIVE, self.listen, self.rest)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Rest."""
        return self._tried('deactivated', INACTIVE, self.rest)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unload."""
        return self._tried('cleaned up', UNCONFIGURED, self.unload)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Rest and unload for good."""
        return self._tried('shut down', FINALIZED, self._end)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start again from nothing: rest and unload."""
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
        except Exception as error:      # whatever it is, a managed node goes on and answers
            if undo is not None:
                undo()
            expected = isinstance(error, (ValueError, OSError))
            text = str(error) if expected else f'{type(error).__name__}: {error}'
            self.problem = f'cannot be {what}: {" ".join(text.split())}'
            if self.context.ok():       # else a signal took the context away
                self.get_logger().fatal(self.problem)
            failed = TransitionCallbackReturn
            return failed.ERROR if undo is None else failed.FAILURE
        self.state = to
        return TransitionCallbackReturn.SUCCESS

    def _refusing(self, change: Callable) -> Callable:
        """Return the callback of service change_state, with a refusal where rclpy raises."""
        def changed(request, response):
            try:
                return change(request, response)
            except RuntimeError as error:       # rclpy's RCLError: no such transition from here
                wanted = request.transition.label or request.transition.id
                self.get_logger().error(f'no transition {wanted!r} from state {self.state} '
                                        f'({" ".join(str(error).split())})')
                response.success = False
                return response
        return changed
