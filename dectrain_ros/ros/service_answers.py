"""What services answer: what was done, or why nothing was."""

from __future__ import annotations

from typing import Callable, NamedTuple

from dectrain_ros.checkpoints.checkpoint import Found


class Answer(NamedTuple):
    """What a service did, or why not."""

    success: bool
    message: str


def carried_out(done: str, work: Callable[[], str]) -> Answer:
    """
    Do what a service is asked for.

    :param done: what would have happened, for the answer where nothing did.
    :param work: gives the answer; OSError and ValueError are failures that it explains.
    """
    try:
        return Answer(True, work())
    except Exception as error:          # whatever it is, who asked is to know, and work goes on
        kind = '' if isinstance(error, (OSError, ValueError)) else f'{type(error).__name__}: '
        return Answer(False, f'nothing was {done}: {kind}{error}')


def loaded(found: Found, as_what: str = '') -> str:
    """Return what was loaded, and which newer checkpoints could not be."""
    passed_over = ''.join(f'; passed over: {reason}' for reason in found.refused)
    return f'loaded {found.path}{as_what}{passed_over}'
