"""How a network is pre-trained, step by step."""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """
    How to pre-train.

    The learning rate warms up, stays, and falls linearly to zero over the last decay share. The
    first share of the steps sees images at half size, four times as many in the same time: what
    a room's scale looks like is learnt there, edges later. glimpse: one in so many of these sees
    half a batch at full size all the same, so that the weights are of use at any time; 0 for none.
    start: weights to begin with, '' for fresh ones.

    Of elastic alone: encoder, ImageNet weights to begin with, and the learning rate's factor for
    it; alone, the share of the steps that trains the largest subnet only; ramp, the steps over
    which the others' weight then rises to one.

    grow: steps after which another room is rendered and drawn from, beyond first_rooms; 0 has all
    of them from the start. cool_from, cool_steps: a separate end, in which the learning rate falls
    to zero over cool_steps, at full size; 0 for none. validate_every: steps after which the run is
    judged on its held-out rooms; the best weights are kept. 0 for never.
    """

    seed: int
    steps: int
    batch: int = 16
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    warm_up: int = 300
    decay: float = 0.4
    half_size: float = 0.7
    glimpse: int = 0
    checkpoint_every: int = 200
    start: str = ''
    network: str = 'lite'
    encoder: str = ''
    encoder_rate: float = 0.3
    alone: float = 0.5
    ramp: int = 2000
    grow: int = 0
    first_rooms: int = 20
    cool_from: int = 0
    cool_steps: int = 0
    validate_every: int = 0

    @property
    def end(self) -> int:
        """Return the number of steps after which the run is over."""
        return self.cool_from + self.cool_steps if self.cool_steps else self.steps

    @property
    def shrink_from(self) -> int:
        """Return the first step that trains smaller subnets; none of lite's does."""
        return int(self.alone * self.steps) if self.network == 'elastic' else self.end

    def is_full_size(self, step: int) -> bool:
        """Whether a step sees images at full size."""
        return (step >= self.half_size * self.steps or self._cools(step)
                or self._glimpses(step))

    def images(self, step: int) -> int:
        """Return the number of images a step sees."""
        early = step < self.half_size * self.steps and not self._cools(step)
        return self.batch // 2 if early and self._glimpses(step) else self.batch

    def rooms(self, step: int, at_most: int) -> int:
        """Return the number of rooms a step draws from."""
        return min(at_most, self.first_rooms + step // self.grow) if self.grow else at_most

    def _cools(self, step: int) -> bool:
        return self.cool_steps > 0 and step >= self.cool_from

    def _glimpses(self, step: int) -> bool:
        return self.glimpse > 0 and step % self.glimpse == self.glimpse - 1

    def _sees(self, step: int) -> tuple:
        return (self.rate(step), self.is_full_size(step), self.images(step),
                self.rooms(step, 1 << 30), step < self.shrink_from)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        if self._cools(step):
            return self.rate(self.cool_from - 1) * (self.end - step) / self.cool_steps
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = min(1.0, (self.steps - step) / max(self.decay * self.steps, 1))
        return self.learning_rate * rise * fall

    def agrees(self, other: 'Recipe', steps: int) -> bool:
        """Whether both come to the same weights after so many steps."""
        same = ('seed', 'batch', 'weight_decay', 'start', 'network', 'encoder', 'encoder_rate',
                'ramp')
        return all(getattr(self, name) == getattr(other, name) for name in same) and all(
            self._sees(k) == other._sees(k) for k in range(steps))
