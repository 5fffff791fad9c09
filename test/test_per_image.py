"""The value of an image among those published beside images."""

from dectrain_ros.sensing.per_image import PerImage

S = 1_000_000_000


def test_the_newest_value_holds_where_stamps_never_meet():
    values = PerImage('first')
    assert not values.is_decided(1) and values.take(1) == 'first'
    values.add(5, 'a')
    assert values.is_decided(1) and values.is_decided(3 * S) and values.take(3 * S) == 'a'
    values.add(7 * S, 'b')
    assert values.is_decided(3 * S) and values.take(3 * S) == 'b'      # years apart: clocks differ


def test_after_an_image_that_had_its_own_value_the_next_one_is_waited_for():
    values = PerImage()
    values.take(10)
    values.add(10, 'a')                 # late, but there: this topic has one per image
    assert not values.is_decided(20)
    values.add(20, 'b')
    assert values.is_decided(20) and values.take(20) == 'b'
    values.take(30)                     # the wait was over: it seems to have ended
    assert values.is_decided(40) and values.take(40) == 'b'


def test_a_lost_value_is_not_waited_for_once_a_later_one_is_there():
    values = PerImage()
    values.add(10, 'a')
    values.take(10)
    values.add(30, 'c')
    assert values.is_decided(20) and values.take(20) == 'a' and values.take(30) == 'c'


def test_values_of_before_a_jump_back_say_nothing_of_the_images_after_it():
    values = PerImage()
    values.add(9 * S, 'old')
    values.take(9 * S)
    assert not values.is_decided(1 * S)
    values.add(1 * S, 'new')
    assert values.take(1 * S) == 'new'


def test_only_so_many_values_are_kept():
    values = PerImage()
    for number in range(1000):
        values.add(number, number)
    values.take(0)
    assert values.is_decided(10 * S) and values.take(999) == 999       # that of 0 is gone
