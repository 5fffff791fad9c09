"""Answers of services: the result, or why nothing was done."""

from __future__ import annotations

from typing import Callable, NamedTuple

from dectrain_ros.checkpoints.checkpoint import Found


class Answer(NamedTuple):
    """Whether a service succeeded, and its result or the reason."""

    success: bool
    message: str


def carried_out(done: str, work: Callable[[], str]) -> Answer:
    """
    Carry out the work of a service and return its answer.

    :param done: past participle for the answer after a failure: 'nothing was {done}'.
    :param work: returns the message; an exception becomes the reason of the failure.
    """
    try:
        return Answer(True, work())
    except Exception as error:          # the caller gets the reason, and the node goes on
        kind = '' if isinstance(error, (OSError, ValueError)) else f'{type(error).__name__}: '
        return Answer(False, f'nothing was {done}: {kind}{error}')


def loaded(found: Found, as_what: str = '') -> str:
    """Return the message of a loaded checkpoint, with newer ones that are not usable."""
    passed_over = ''.join(f'; skipped: {reason}' for reason in found.refused)
    return f'loaded {found.path}{as_what}{passed_over}'
