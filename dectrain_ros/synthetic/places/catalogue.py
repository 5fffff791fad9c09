"""
All kinds of places, and what each is for.

The places of PRETRAINING alone are trained in beforehand. What is fitted on the places of FITTING
(the decision) is judged on those of EVALUATION; neither is ever pre-trained on, and no two look
alike.
"""

from __future__ import annotations

from typing import Callable, Dict

from dectrain_ros.synthetic.place import Place
from dectrain_ros.synthetic.places.attic import attic
from dectrain_ros.synthetic.places.corridor import corridor
from dectrain_ros.synthetic.places.garage import garage
from dectrain_ros.synthetic.places.greenhouse import greenhouse
from dectrain_ros.synthetic.places.library import library
from dectrain_ros.synthetic.places.room import room
from dectrain_ros.synthetic.places.varied import varied
from dectrain_ros.synthetic.places.warehouse import warehouse
from dectrain_ros.synthetic.places.workshop import workshop
import numpy as np

Maker = Callable[[np.random.Generator], Place]

PRETRAINING: Dict[str, Maker] = {'room': room, 'varied': varied}
DEMO: Dict[str, Maker] = {'warehouse': warehouse}
FITTING: Dict[str, Maker] = {'attic': attic, 'garage': garage, 'greenhouse': greenhouse}
EVALUATION: Dict[str, Maker] = {'corridor': corridor, 'library': library, 'workshop': workshop}
PLACES: Dict[str, Maker] = {**PRETRAINING, **DEMO, **FITTING, **EVALUATION}
