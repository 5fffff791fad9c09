"""Cost of a step: counted or measured, in steps as first measured."""

import importlib.util
import math

from dectrain_ros.decision.cost import (
    EnergyCost, FlopCost, make_cost_model, SOURCES, Spent, StepAmounts, TimeCost)
from dectrain_ros.decision.power import find_sensor, InaSensor
import pytest


def chip(root, number, name, *rails):
    """Write a power monitor as Linux shows it: (label, mV, mA) for each channel."""
    folder = root / f'hwmon{number}'
    folder.mkdir()
    (folder / 'name').write_text(f'{name}\n')
    for channel, (label, millivolts, milliamperes) in enumerate(rails, 1):
        (folder / f'in{channel}_label').write_text(f'{label}\n')
        (folder / f'in{channel}_input').write_text(f'{millivolts}\n')
        (folder / f'curr{channel}_input').write_text(f'{milliamperes}\n')
    return folder


def test_flops_give_the_same_cost_whatever_is_measured():
    model = FlopCost(60e9)
    assert model.observe(100.0) == pytest.approx((100.0, math.nan), nan_ok=True)
    assert (model.cost(), model.amount(), model.unit) == (1.0, 60e9, 'FLOP')


def test_without_a_count_a_step_costs_one():
    assert FlopCost().cost() == 1.0 and math.isnan(FlopCost().amount())


@pytest.mark.parametrize('flops', [0.0, -1.0, math.inf])
def test_a_step_without_flops_is_refused(flops):
    with pytest.raises(ValueError, match=f'a step is counted at {flops} FLOPs: it must be posit'):
        make_cost_model('flops', flops)


def test_milliseconds_are_a_running_median_in_steps_as_first_measured():
    model = TimeCost()
    assert model.cost() == 1.0 and math.isnan(model.amount())
    for seconds in (5.0, 0.1, 0.1, 0.1, 0.2):           # the first one warms up
        assert model.observe(seconds).seconds == seconds
        assert model.cost() == 1.0
    assert (model.amount(), model.unit) == (pytest.approx(100.0), 'ms')
    for _ in range(31):                                 # the device slows down by half
        model.observe(0.15)
    assert (model.amount(), model.cost()) == (pytest.approx(150.0), pytest.approx(1.5))


def test_a_step_that_was_not_measured_changes_nothing():
    amounts = StepAmounts()
    for amount in (math.nan, -1.0, 0.0, math.inf):
        amounts.add(amount)
    assert math.isnan(amounts.median) and len(amounts) == 0


def test_a_median_goes_over_so_many_steps_and_no_more():
    amounts = StepAmounts(window=3)
    for amount in (9.0, 9.0, 9.0, 1.0, 2.0):
        amounts.add(amount)
    assert amounts.median == 2.0 and len(amounts) == 3


def test_joules_are_the_power_by_the_time(tmp_path):
    folder = chip(tmp_path, 0, 'ina3221', ('VDD_IN', 5000, 2000))        # 10 W
    model = EnergyCost(find_sensor(tmp_path))
    for _ in range(5):
        assert model.observe(0.1) == Spent(0.1, pytest.approx(1.0))
    (folder / 'curr1_input').write_text('1000\n')                        # 5 W
    for _ in range(6):
        assert model.observe(0.1).joules == pytest.approx(0.5)
    assert (model.amount(), model.unit) == (pytest.approx(0.5), 'J')
    assert model.cost() == pytest.approx(0.5)


def test_the_modules_input_is_read_before_a_rail_of_the_gpu(tmp_path):
    chip(tmp_path, 0, 'thermal', ('VDD_IN', 1, 1))
    chip(tmp_path, 1, 'ina3221', ('VDD_GPU_SOC', 5000, 100), ('VDD_CPU_CV', 5000, 200))
    assert find_sensor(tmp_path).watts() == pytest.approx(0.5)
    chip(tmp_path, 2, 'ina3221', ('VDD_CPU_GPU_CV', 5000, 300), ('VDD_IN', 5000, 400))
    assert find_sensor(tmp_path).watts() == pytest.approx(2.0)


def test_a_channel_without_current_is_no_sensor(tmp_path):
    (chip(tmp_path, 0, 'ina3221', ('VDD_IN', 5000, 100)) / 'curr1_input').unlink()
    if importlib.util.find_spec('pynvml'):
        pytest.skip('pynvml is installed: another sensor may be found')
    with pytest.raises(ValueError, match=f'^no power sensor was found: no INA chip .*{tmp_path}, '
                       'and pynvml is not installed .* take the cost from milliseconds or flops'):
        find_sensor(tmp_path)


def test_a_channel_that_cannot_be_read_is_named(tmp_path):
    folder = chip(tmp_path, 0, 'ina3221', ('VDD_IN', 5000, 100))
    with pytest.raises(ValueError, match=f'power sensor {folder}, channel 2: .*in2_input'):
        InaSensor(folder, 2)


def test_a_source_of_cost_is_one_there_is():
    assert SOURCES == ('flops', 'milliseconds', 'joules')
    assert type(make_cost_model('flops')) is FlopCost
    assert type(make_cost_model('milliseconds')) is TimeCost
    with pytest.raises(ValueError, match="^'euros' is no source of cost: use flops, millisec"):
        make_cost_model('euros')
