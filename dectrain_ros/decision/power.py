"""The device's power, where it has a sensor: INA chips of Jetson boards, or NVML."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Optional, Protocol

_HWMON = Path('/sys/class/hwmon')
_CHIPS = ('ina3221', 'ina3221x', 'ina226', 'ina219', 'ina238')
# The whole module's input first, as the battery feels it; else the GPU's rail.
_RAILS = ('VDD_IN', 'POM_5V_IN', 'VDD_GPU_SOC', 'VDD_CPU_GPU_CV', 'VDD_GPU', 'POM_5V_GPU', 'GPU')


class PowerSensor(Protocol):
    """Measures the power that the device draws at this moment."""

    def watts(self) -> float:
        """Return the power, W."""


class InaSensor:
    """
    One channel of an INA power monitor of the Linux hwmon interface.

    :param folder: of the chip, e.g. /sys/class/hwmon/hwmon3.
    :param channel: its number, from 1.
    :raises ValueError: if the channel cannot be read.
    """

    def __init__(self, folder: Path, channel: int):
        """Read once, so that a channel that cannot be read is refused at the start."""
        self._volts = folder / f'in{channel}_input'         # mV
        self._amperes = folder / f'curr{channel}_input'     # mA
        try:
            self.watts()
        except OSError as error:
            raise ValueError(f'power sensor {folder}, channel {channel}: {error}') from error

    def watts(self) -> float:
        """Return the power, W."""
        return float(self._volts.read_text()) * float(self._amperes.read_text()) * 1e-6


class NvmlSensor:
    """
    A board's power as NVIDIA's management library reports it.

    :param nvml: the module pynvml.
    :param index: of the device, as nvidia-smi counts.
    :raises ValueError: if the library or the device gives no power.
    """

    def __init__(self, nvml, index: int = 0):
        """Read once, so that a device without a power reading is refused at the start."""
        self._nvml = nvml
        try:
            nvml.nvmlInit()
            self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
            self.watts()
        except nvml.NVMLError as error:
            raise ValueError(f'NVML gives no power of device {index}: {error}') from error

    def watts(self) -> float:
        """Return the power, W; NVML returns mW."""
        return self._nvml.nvmlDeviceGetPowerUsage(self._handle) * 1e-3


def find_sensor(hwmon: Path = _HWMON) -> PowerSensor:
    """
    Find the device's power sensor.

    :param hwmon: where Linux lists its sensors.
    :raises ValueError: if there is none.
    """
    found = _find_ina(hwmon)
    if found is not None:
        return found
    missing = (f'no power sensor was found: no INA chip with a rail {" or ".join(_RAILS[:2])} or '
               f'of the GPU under {hwmon}')
    try:
        nvml = importlib.import_module('pynvml')
    except ImportError:
        raise ValueError(f'{missing}, and pynvml is not installed (pip install nvidia-ml-py); '
                         'take the cost from milliseconds or flops') from None
    try:
        return NvmlSensor(nvml)
    except ValueError as error:
        raise ValueError(
            f'{missing}, and {error}; take the cost from milliseconds or flops') from error


def _find_ina(hwmon: Path) -> Optional[InaSensor]:
    rails = {}
    for name in sorted(hwmon.glob('hwmon*/name')):
        if name.read_text().strip() not in _CHIPS:
            continue
        for label in sorted(name.parent.glob('in*_label')):
            number = label.name[2:-len('_label')]
            if (name.parent / f'curr{number}_input').exists():
                rails.setdefault(label.read_text().strip(), (name.parent, int(number)))
    for rail in _RAILS:
        if rail in rails:
            return InaSensor(*rails[rail])
    return None
