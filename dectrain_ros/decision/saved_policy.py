"""A policy whose state survives restarts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Optional

from dectrain_ros.checkpoints.autosave import Autosave
from dectrain_ros.checkpoints.checkpoint import Contents, Found
from dectrain_ros.decision.policy import Policy
from dectrain_ros.frames import Candidate, Decision, StepResult
import numpy as np


class SavedPolicy:
    """
    Saves and loads the state of a policy; nothing is saved of a policy without state.

    Every policy has files of its own in the folder. policy: the one in use; loading replaces it.
    steps: asked for, those of earlier runs included. saved, save_failures: automatic checkpoints
    that were written, and those that could not be.

    :param name: of the policy, without what follows a colon.
    :param checkpoints: folder, save_every, keep and resume, as for Autosave; save_every counts
        the steps asked for.
    :raises ValueError: if the folder cannot be used, or there is nothing usable to resume from.
    """

    def __init__(self, name: str, policy: Policy, **checkpoints: Any):
        """Load the newest checkpoint where configured."""
        self.policy, self.steps = policy, 0
        self._name = name
        self._has_stepped = False
        self._autosave: Optional[Autosave] = None
        if policy.basis:
            self._autosave = Autosave(
                f'decision-{name}', {'policy': name, **policy.basis}, **checkpoints)
            found = self._autosave.start()
            if found:
                self._load(found)

    @property
    def saved(self) -> int:
        """Automatic checkpoints that were written."""
        return self._autosave.saved if self._autosave else 0

    @property
    def save_failures(self) -> int:
        """Automatic checkpoints that could not be written."""
        return self._autosave.failures if self._autosave else 0

    def decide(self, candidate: Candidate) -> Decision:
        """Decide about a candidate; to be called once for every frame."""
        decision = self.policy.decide(candidate)
        self.steps += decision.train
        self._has_stepped |= decision.train
        return decision

    def save_if_due(self) -> None:
        """Save every few steps; call it after a decision was published, as disks are slow."""
        if self._has_stepped and self._autosave:
            self._autosave.stepped(self.steps, self._contents)
        self._has_stepped = False

    def learn(self, result: StepResult) -> None:
        """Learn from the outcome of a decision."""
        self.policy.learn(result)
        if self._autosave:
            self._autosave.is_unsaved = True

    def save(self, path: Optional[Path] = None) -> Path:
        """
        Write the policy's state.

        :param path: of the file; None writes the next of the folder.
        :raises ValueError: if the policy has no state, or there is no folder.
        :raises OSError: if it cannot be written; older files are then as they were.
        """
        return self._with_state().save(self._contents(), path)

    def load(self, path: Optional[Path] = None) -> Found:
        """
        Read the policy's state.

        :param path: of the file; None takes the newest usable one of the folder.
        :raises ValueError: if the policy has no state, or there is no usable file, with what is
            wrong with each; nothing is changed.
        """
        found = self._with_state().find(path)
        self._load(found)
        self._with_state().is_unsaved = False
        return found

    def close(self) -> None:
        """Save a last time, where there is a folder and something changed since the last save."""
        if self._autosave:
            self._autosave.end(self._contents)

    def _with_state(self) -> Autosave:
        if self._autosave is None:
            raise ValueError(f'policy {self._name} learns nothing')
        return self._autosave

    def _contents(self) -> Contents:
        state = self.policy.state_dict()
        arrays = {name: m for name, m in state.items() if isinstance(m, np.ndarray)}
        return Contents(self.steps, arrays, {
            name: m for name, m in state.items() if name not in arrays})

    def _load(self, found: Found) -> None:
        """Load into a copy, so that a state that fails half way changes nothing."""
        steps, arrays, values = found.contents
        policy = copy.deepcopy(self.policy)
        try:
            policy.load_state_dict({**arrays, **values})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{found.path} is no state of policy {self._name} ({error})'
                             ) from error
        self.policy, self.steps = policy, steps
