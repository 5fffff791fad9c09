"""A policy whose learning survives restarts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Optional

from dectrain_ros.checkpoints.autosave import Autosave
from dectrain_ros.checkpoints.checkpoint import Contents, Found
from dectrain_ros.decision.policy import GainPredictor, Policy
from dectrain_ros.frames import Candidate, Decision, StepResult
import numpy as np


class Kept(Policy):
    """
    A policy, with what it has learnt kept as configured; one that learns nothing keeps nothing.

    Every policy has files of its own in the folder. saved and save_failures count checkpoints
    written by themselves, and those that could not be.

    :param name: of the policy, without what follows a colon.
    :param keeping: folder, save_every, keep and resume, as for Autosave; save_every counts the
        steps asked for.
    :raises ValueError: if the folder cannot be used, or there is nothing usable to resume from.
    """

    def __init__(self, name: str, policy: Policy, **keeping: Any):
        """Resume where so told."""
        self._name, self._policy, self._steps = name, policy, 0
        self._has_stepped = False
        self.takes_back = policy.takes_back
        self.looks, self.learns = policy.looks, policy.learns
        self._autosave: Optional[Autosave] = None
        if policy.basis:
            self._autosave = Autosave(
                f'decision-{name}', {'policy': name, **policy.basis}, **keeping)
            found = self._autosave.resume()
            if found:
                self._take_up(found)

    @property
    def predictor(self) -> Optional[GainPredictor]:
        """The policy's predictor of gain, if it has one."""
        return self._policy.predictor

    @property
    def steps(self) -> int:
        """Steps asked for, those of earlier runs with them."""
        return self._steps

    @property
    def saved(self) -> int:
        """Checkpoints written by themselves."""
        return self._autosave.saved if self._autosave else 0

    @property
    def save_failures(self) -> int:
        """Checkpoints that could not be written."""
        return self._autosave.failures if self._autosave else 0

    def decide(self, candidate: Candidate) -> Decision:
        """Decide what to do with the candidate."""
        decision = super().decide(candidate)
        self._steps += decision.train
        self._has_stepped |= decision.train
        return decision

    def save_if_due(self) -> None:
        """Save when it is time; to be called once a decision is on its way, as disks are slow."""
        if self._has_stepped and self._autosave:
            self._autosave.after_step(self._steps, self._contents)
        self._has_stepped = False

    def learn(self, result: StepResult) -> None:
        """Let the policy learn."""
        self._policy.learn(result)
        if self._autosave:
            self._autosave.has_changes = True

    def keeps(self, result: StepResult) -> bool:
        """Say whether a step just taken stays."""
        return self._policy.keeps(result)

    def take_alpha(self, alpha: float) -> None:
        """Go on with another value of gain, keeping what was learned."""
        self._policy.take_alpha(alpha)

    def take_epsilon(self, epsilon: float) -> None:
        """Explore with another probability, keeping what was learned."""
        self._policy.take_epsilon(epsilon)

    def save(self, path: Optional[Path] = None) -> Path:
        """
        Write what was learnt.

        :param path: of the file; None writes the next of the folder.
        :raises ValueError: if the policy learns nothing, or there is no folder.
        :raises OSError: if it cannot be written; older files are then as they were.
        """
        return self._kept().save(self._contents(), path)

    def load(self, path: Optional[Path] = None) -> Found:
        """
        Take up what was learnt before.

        :param path: of the file; None takes the newest usable one of the folder.
        :raises ValueError: if the policy learns nothing, or there is none, with what is wrong
            with each; nothing is changed.
        """
        found = self._kept().find(path)
        self._take_up(found)
        self._kept().has_changes = False
        return found

    def close(self) -> None:
        """Save a last time, where there is a folder and something new was learnt."""
        if self._autosave:
            self._autosave.save_last(self._contents)

    def _wants(self, candidate):
        return self._policy._wants(candidate)

    def _kept(self) -> Autosave:
        if self._autosave is None:
            raise ValueError(f'policy {self._name} learns nothing')
        return self._autosave

    def _contents(self) -> Contents:
        memory = self._policy.memory()
        arrays = {name: m for name, m in memory.items() if isinstance(m, np.ndarray)}
        return Contents(self._steps, arrays, {
            name: m for name, m in memory.items() if name not in arrays})

    def _take_up(self, found: Found) -> None:
        """Let a copy remember: one that fails half way is let go."""
        steps, arrays, values = found.contents
        policy = copy.deepcopy(self._policy)
        try:
            policy.remember({**arrays, **values})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{found.path} is no memory of policy {self._name} ({error})'
                             ) from error
        self._policy, self._steps = policy, steps
