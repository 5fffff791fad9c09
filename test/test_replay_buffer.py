"""The replay buffer: what enters, what leaves, what it weighs."""

from dectrain_ros.frames import Intrinsics
from dectrain_ros.memory.replay_buffer import ReplayBuffer
from dectrain_ros.memory.samples import Sample
from dectrain_ros.memory.views import View
import numpy as np
import pytest
import torch

CAMERA = Intrinsics(4.0, 4.0, 1.5, 1.5, 4, 4)
IMAGE_BYTES = 4 * 4 * 3


def picture():
    return np.zeros((4, 4, 3), np.uint8)


def sample(image=None, sources=(), features=None):
    views = tuple(View(s, CAMERA, np.eye(4), 0) for s in sources)
    return Sample(picture() if image is None else image, CAMERA, views,
                  np.zeros((len(views), 4, 4), np.float32), features)


def key(degrees):
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def make(capacity=10, max_bytes=1e6, max_similarity=0.95):
    return ReplayBuffer(capacity=capacity, max_bytes=max_bytes, max_similarity=max_similarity)


def everything(replay):
    return replay.draw(len(replay), np.random.default_rng(0))


def test_an_empty_buffer_finds_everything_new_and_draws_nothing():
    replay = make()
    assert (len(replay), replay.nbytes) == (0, 0)
    assert replay.novelty(key(0)) == 1.0
    assert replay.draw(2, np.random.default_rng(0)) == ()


def test_novelty_is_the_distance_to_the_most_similar():
    replay = make()
    replay.offer(key(0), sample())
    replay.offer(key(90), sample())
    assert replay.novelty(key(60)) == pytest.approx(1 - np.cos(np.radians(30)), abs=1e-6)
    assert replay.novelty(key(180)) == pytest.approx(1.0, abs=1e-6)
    assert replay.novelty(key(225)) == pytest.approx(1 + np.sqrt(0.5), abs=1e-6)


def test_only_what_is_unlike_all_others_enters():
    replay = make(max_similarity=0.95)          # cos(18.19 degrees)
    assert replay.offer(key(0), sample())
    assert replay.offer(key(90), sample())
    assert not replay.offer(key(17), sample())
    assert not replay.offer(key(72), sample())
    assert len(replay) == 2
    assert replay.offer(key(20), sample())
    assert len(replay) == 3


def test_the_most_redundant_leaves_when_full():
    # 60 degrees has cosines .5 and .866 to the others, sum 1.37; 0 has .5 + 0, 90 has .866 + 0.
    replay = make(capacity=2)
    samples = [sample() for _ in range(3)]
    for degrees, offered in zip((60, 0, 90), samples):
        assert replay.offer(key(degrees), offered)
    assert {id(s) for s in everything(replay)} == {id(samples[1]), id(samples[2])}
    assert replay.novelty(key(0)) == pytest.approx(0.0, abs=1e-6)
    assert replay.novelty(key(90)) == pytest.approx(0.0, abs=1e-6)
    assert replay.novelty(key(60)) == pytest.approx(1 - np.cos(np.radians(30)), abs=1e-6)


def test_the_newcomer_leaves_at_once_if_it_is_the_most_redundant():
    replay = make(capacity=2)
    replay.offer(key(0), sample())
    replay.offer(key(90), sample())
    assert not replay.offer(key(45), sample())
    assert replay.novelty(key(45)) == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)


def test_a_shared_image_weighs_once():
    a, b, c = picture(), picture(), picture()
    replay = make()
    replay.offer(key(0), sample(b, [a]))
    assert replay.nbytes == 2 * IMAGE_BYTES
    replay.offer(key(90), sample(c, [a, b]))
    assert replay.nbytes == 3 * IMAGE_BYTES


def test_a_shared_image_weighs_until_its_last_user_leaves():
    shared = picture()
    replay = make(capacity=2)
    replay.offer(key(60), sample(sources=[shared]))         # leaves first, as above
    replay.offer(key(0), sample(sources=[shared]))
    replay.offer(key(90), sample())
    assert replay.nbytes == 3 * IMAGE_BYTES
    replay = make(capacity=2)
    replay.offer(key(60), sample(sources=[shared]))
    replay.offer(key(0), sample())
    replay.offer(key(90), sample())
    assert replay.nbytes == 2 * IMAGE_BYTES


def test_features_are_kept_at_half_width():
    features = (torch.full((1, 2, 3, 5), 1.5), torch.full((1, 4, 1, 1), 0.1))
    replay = make()
    offered = sample(features=features)
    replay.offer(key(0), offered)
    (kept,) = everything(replay)
    assert replay.nbytes == IMAGE_BYTES + (30 + 4) * 2
    assert [f.dtype for f in kept.features] == [torch.float16] * 2
    assert torch.equal(kept.features[0].float(), features[0])
    assert offered.features is features and features[0].dtype == torch.float32


def test_the_byte_budget_holds_whatever_comes():
    replay = make(capacity=1000, max_bytes=10 * IMAGE_BYTES + 5, max_similarity=1.0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        direction = rng.normal(size=8).astype(np.float32)
        replay.offer(direction / np.linalg.norm(direction), sample(sources=[picture()]))
        held = everything(replay)
        actual = {id(i): i.nbytes for s in held for i in (s.image, *(v.image for v in s.sources))}
        assert replay.nbytes == sum(actual.values()) <= 10 * IMAGE_BYTES + 5
    assert len(replay) == 5


@pytest.mark.parametrize('limits', [{'capacity': 0}, {'max_bytes': 0}, {'max_bytes': 1}])
def test_a_buffer_without_room_keeps_nothing(limits):
    replay = make(**limits)
    assert not replay.offer(key(0), sample())
    assert (len(replay), replay.nbytes) == (0, 0)


def test_capacity_holds_and_keys_follow_their_samples():
    replay = make(capacity=7, max_similarity=1.0)
    rng = np.random.default_rng(3)
    for _ in range(50):
        direction = rng.normal(size=5).astype(np.float32)
        direction /= np.linalg.norm(direction)
        replay.offer(direction, sample(features=(torch.from_numpy(direction),)))
    assert len(replay) == 7
    for kept in everything(replay):
        assert replay.novelty(kept.features[0].float().numpy()) == pytest.approx(0, abs=2e-3)


def test_what_is_like_a_key_is_dropped_with_its_memory():
    replay = make(max_similarity=0.95)          # cos(18.19 degrees)
    shared = picture()
    kept = [sample(sources=[shared]) for _ in range(3)]
    for degrees, offered in zip((0, 40, 80), kept):
        replay.offer(key(degrees), offered)
    replay.drop(key(60))
    assert len(replay) == 3
    replay.drop(key(24))
    assert {id(s) for s in everything(replay)} == {id(kept[0]), id(kept[2])}
    assert replay.nbytes == 3 * IMAGE_BYTES
    assert replay.novelty(key(80)) == pytest.approx(0.0, abs=1e-6)
    replay.drop(key(0))
    replay.drop(key(80))
    assert (len(replay), replay.nbytes) == (0, 0)
    replay.drop(key(0))


def test_draws_do_not_repeat_and_follow_the_generator():
    replay = make(max_similarity=1.0)
    for degrees in range(0, 90, 15):
        replay.offer(key(degrees), sample())
    drawn = replay.draw(4, np.random.default_rng(1))
    assert len({id(s) for s in drawn}) == 4
    assert [id(s) for s in replay.draw(4, np.random.default_rng(1))] == [id(s) for s in drawn]
    assert [id(s) for s in replay.draw(4, np.random.default_rng(2))] != [id(s) for s in drawn]
    assert len({id(s) for s in replay.draw(9, np.random.default_rng(1))}) == 6


def test_every_sample_is_drawn_equally_often():
    replay = make(max_similarity=1.0)
    for degrees in (0, 40, 80):
        replay.offer(key(degrees), sample())
    rng = np.random.default_rng(0)
    counts = {}
    for _ in range(1500):
        for drawn in replay.draw(1, rng):
            counts[id(drawn)] = counts.get(id(drawn), 0) + 1
    # 500 expected, standard deviation sqrt(1500 * 1/3 * 2/3) = 18
    assert len(counts) == 3 and all(abs(n - 500) < 5 * 18 for n in counts.values())
