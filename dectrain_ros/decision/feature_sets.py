"""The table of feature sets, by name."""

from __future__ import annotations

from typing import Dict, NamedTuple, Type

from dectrain_ros.decision.features import LeanFeatures, NoFeatures
from dectrain_ros.decision.published.features import ReferenceFeatures

FEATURE_SETS: Dict[str, Type[NamedTuple]] = {
    'lean': LeanFeatures, 'reference': ReferenceFeatures, 'none': NoFeatures}


def feature_set_of(features: tuple) -> str:
    """Return the name of the set that features are of."""
    return next(name for name, kind in FEATURE_SETS.items() if isinstance(features, kind))
