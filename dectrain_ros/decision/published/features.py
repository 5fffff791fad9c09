"""The published features, from which the gain of a step is predicted."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

_SLOTS = 3


class ReferenceFeatures(NamedTuple):
    """
    The published features of DecTrain (arXiv 2410.02980; ALGORITHMS.md section 5.1).

    Slots 0 and 1 are the replayed frames of the training batch and slot 2 the current one; one
    that is missing is 0 throughout. avg, var (unbiased), mid (the lower median) and max are over
    the pixels of a map.

    depth: predicted for the current frame, m (var: m^2).
    aleatoric: the log-variance head's map of the slot's frame, ln m^2 (var: its square).
    translation: from the oldest of the slot's frames (its source views and itself) to each of the
    others, m.
    rotation: between the same pairs, sum of the absolute Euler angles of R0^T Rk about the fixed
    axes z, y and x (scipy's 'zyx'), degrees.
    landmarks: SIFT keypoints at full resolution, mean over the slot's frames.
    epistemic: Uncertainty from Motion of the current frame, m^2 (var: m^4).
    loss: self-supervised loss of the current frame before training.
    """

    depth_avg: float
    depth_var: float
    depth_mid: float
    depth_max: float
    aleatoric_avg_0: float
    aleatoric_var_0: float
    aleatoric_mid_0: float
    aleatoric_max_0: float
    translation_avg_0: float
    translation_max_0: float
    translation_min_0: float
    rotation_avg_0: float
    rotation_max_0: float
    rotation_min_0: float
    landmarks_0: float
    aleatoric_avg_1: float
    aleatoric_var_1: float
    aleatoric_mid_1: float
    aleatoric_max_1: float
    translation_avg_1: float
    translation_max_1: float
    translation_min_1: float
    rotation_avg_1: float
    rotation_max_1: float
    rotation_min_1: float
    landmarks_1: float
    aleatoric_avg_2: float
    aleatoric_var_2: float
    aleatoric_mid_2: float
    aleatoric_max_2: float
    translation_avg_2: float
    translation_max_2: float
    translation_min_2: float
    rotation_avg_2: float
    rotation_max_2: float
    rotation_min_2: float
    landmarks_2: float
    epistemic_avg: float
    epistemic_var: float
    epistemic_mid: float
    epistemic_max: float
    loss: float


def reference_features(
    depth: np.ndarray, aleatoric: Sequence[Optional[np.ndarray]],
    world_from_camera: Sequence[Optional[np.ndarray]], landmarks: Sequence[Optional[np.ndarray]],
    epistemic: np.ndarray, loss: float
) -> ReferenceFeatures:
    """
    Compute the published features.

    The sequences hold three slots, [replayed, replayed, current], None where a slot is missing.

    :param depth: predicted for the current frame, m, (H, W).
    :param aleatoric: avg, var, mid and max of each slot's log-variance map, ln m^2, (4,).
    :param world_from_camera: rigid transforms in m of each slot's F >= 2 frames, oldest first,
        (F, 4, 4).
    :param landmarks: keypoints in each of the slot's frames, (F,).
    :param epistemic: variance of the current frame's depth, m^2, (H, W).
    :param loss: of the current frame before training; 0 where there is none.
    :raises ValueError: if there are not three slots, one is missing in part, has poses of another
        shape, or a map has fewer than two pixels.
    """
    counts = {len(aleatoric), len(world_from_camera), len(landmarks)}
    if counts != {_SLOTS}:
        raise ValueError(
            f'there are {sorted(counts)} slots: every list needs {_SLOTS}, [replayed, replayed, '
            'current], with None where one is missing')
    numbers = map_statistics(depth)
    for slot, parts in enumerate(zip(aleatoric, world_from_camera, landmarks)):
        missing = sum(part is None for part in parts)
        if missing not in (0, len(parts)):
            raise ValueError(
                f'slot {slot} lacks {missing} of aleatoric, world_from_camera and landmarks: give '
                'all of them or None for each')
        numbers += [0.0] * 11 if missing else [
            *parts[0], *_motion(slot, parts[1]), np.mean(parts[2])]
    return ReferenceFeatures(*map(float, (*numbers, *map_statistics(epistemic), loss)))


def map_statistics(values: np.ndarray) -> List[float]:
    """
    Return average, unbiased variance, lower median and maximum of all values.

    :raises ValueError: if there are fewer than two.
    """
    values = np.asarray(values).ravel()
    if values.size < 2:
        raise ValueError(f'a map has {values.size} pixels: its variance needs at least 2')
    middle = (values.size - 1) // 2
    return [values.mean(dtype=np.float64), values.var(dtype=np.float64, ddof=1),
            np.partition(values, middle)[middle], values.max()]


def _motion(slot: int, world_from_camera: np.ndarray) -> List[float]:
    """Return avg, max and min of the translations, m, then of the rotations, degrees."""
    poses = np.asarray(world_from_camera, dtype=np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or len(poses) < 2:
        raise ValueError(
            f'world_from_camera of slot {slot} is {poses.shape}: it must be (F, 4, 4) of at least '
            '2 frames')
    offsets = poses[1:, :3, 3] - poses[0, :3, 3]
    turns = poses[0, :3, :3].T @ poses[1:, :3, :3]
    angles = Rotation.from_matrix(turns).as_euler('zyx', degrees=True)      # (F - 1, 3)
    both = np.linalg.norm(offsets, axis=1), np.abs(angles).sum(axis=1)
    return [f(values) for values in both for f in (np.mean, np.max, np.min)]
