"""Collecting what steps bring: trials on the way, columns that mean what they say."""

from dataclasses import replace

from dectrain_ros.bags.reader import Bag, BagWriter
from dectrain_ros.cli import main
from dectrain_ros.composition import compose
from dectrain_ros.decision.features import LeanFeatures
from dectrain_ros.decision.published.features import ReferenceFeatures
from dectrain_ros.decision.published.step_records import StepRecords
from dectrain_ros.evaluation.collect import collect, Collection
from dectrain_ros.evaluation.measure import measure
from dectrain_ros.training.trial import trial
import numpy as np
import pytest
from scenes import config, frame, WALL_M, weights_file

FRAMES = 16


class Silent:
    """Watches without a word."""

    def start(self, name, frames):
        self.total = frames
        self.done = 0

    def advance(self):
        self.done += 1


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
    return config(weights_file(tmp_path_factory.mktemp('weights')),
                  'training.replay_similarity=1.0')


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return write(tmp_path_factory.mktemp('bags') / 'wall', np.float32(WALL_M))


def write(path, depth=None, gap_ns=0):
    with BagWriter(path) as writer:
        for number in range(FRAMES):
            seen = frame(number)
            seen = replace(seen, stamp_ns=seen.stamp_ns + gap_ns * (number >= FRAMES // 2))
            truth = None if depth is None else np.full(seen.image.shape[:2], depth, np.float32)
            writer.write(seen, truth)
    return path


def gathered(bag, settings, **changes):
    plan = Collection(**{'bags': (bag,), 'policies': ('never',), 'every': 4, 'steps': 2,
                         'horizon': 5, **changes})
    return collect(plan, settings, Silent(), 'dectrain collect')


def test_trials_are_taken_on_the_way(bag, settings):
    found = gathered(bag, settings)
    # Frame 0 has no views; then every fourth, as long as five frames are left to tell by.
    assert (found.feature_set, found.feature_names) == ('lean', LeanFeatures._fields)
    assert found.sequences == ('wall',) and found.sequence.tolist() == [0] * 2
    visits = found.features[:, LeanFeatures._fields.index('visits_around')]
    assert visits.tolist() == [0, 0]     # under never, no step is ever counted


def test_views_before_a_jump_teach_nothing_after_it(settings, tmp_path):
    found = [gathered(write(tmp_path / name, np.float32(WALL_M), gap_ns), settings, every=1)
             for name, gap_ns in (('whole', 0), ('parted', 6 * 10 ** 9))]
    assert len(found[1].sequence) == len(found[0].sequence) - 1     # its first frame has no views


def test_the_target_is_the_change_of_later_error_by_a_step(bag, settings):
    found = gathered(bag, settings)
    pipeline, frames = compose(settings), list(Bag(bag).frames())
    for recorded in frames[:4]:
        stamp_ns = pipeline.observe(recorded.frame).candidate.stamp_ns

    def errors():
        return np.array([measure(pipeline.predict(f.frame).depth, f.ground_truth).absrel
                         for f in frames[4:9]])
    before = errors()
    with trial(pipeline.trainer, pipeline.waiting[stamp_ns].sample, pipeline.batches.replay,
               np.random.default_rng((settings.seed, 2)), steps=2,
               replay_frames=settings.training.replay_frames) as changes:
        expected = np.mean((errors() / before - 1) / 2)
    assert found.change[0] == pytest.approx(expected, rel=1e-4)
    assert found.change.tolist() == found.more['absrel_later'].tolist()
    assert found.more['loss_frame'][0] == pytest.approx(changes.frame, rel=1e-4)
    assert found.change[0] < 0 and found.more['loss_frame'][0] < 0


def test_policies_and_loops_are_gone_through_and_show_other_maturity(bag, settings):
    found = gathered(bag, settings, policies=('never', 'always'), loops=2, every=6)
    visits = found.features[:, LeanFeatures._fields.index('visits_around')]
    assert set(visits[:len(visits) // 2]) == {0.0} and len(set(visits[len(visits) // 2:])) > 2


def test_the_published_target_needs_no_truth_and_ours_refuses_to_go_without(tmp_path, settings):
    blind = write(tmp_path / 'blind')
    with pytest.raises(ValueError, match='blind has no true depth to tell the error by'):
        gathered(blind, settings)
    found = gathered(blind, settings, target='loss')
    assert found.change.tolist() == found.more['loss_frame'].tolist()
    assert np.isnan(found.more['absrel_later']).all()


def test_reference_features_are_collected_as_well(bag, settings):
    found = gathered(bag, settings.replaced('decision.features', 'reference'), every=8)
    assert found.feature_names == ReferenceFeatures._fields and len(found)


def test_one_seed_gives_the_same_statistics(bag, settings):
    ours, theirs = (gathered(bag, settings, policies=('always',)) for _ in range(2))
    np.testing.assert_array_equal(ours.features, theirs.features)
    np.testing.assert_array_equal(ours.change, theirs.change)


@pytest.mark.parametrize('change, problem', [
    ({'every': 0}, 'every is 0'), ({'steps': 0}, 'steps is 0'), ({'horizon': 0}, 'horizon is 0'),
    ({'loops': 0}, 'loops is 0'), ({'policies': ('ever',)}, 'ever')])
def test_a_plan_that_cannot_be_is_refused(bag, settings, change, problem):
    with pytest.raises(ValueError, match=problem):
        gathered(bag, settings, **change)
    with pytest.raises(ValueError, match='decision.features is none'):
        gathered(bag, settings.replaced('decision.features', 'none'))


def test_the_command_writes_statistics_that_fit_decision_reads(bag, settings, tmp_path, capsys):
    out = tmp_path / 'wall.safetensors'
    main(['collect', str(bag), '--out', str(out), '--policies', 'always', '--every', '4',
          '--steps', '1', '--horizon', '3', '--set',
          f'depth.weights={settings.depth.weights}', '--set', 'training.replay_similarity=1.0'])
    assert f'{len(StepRecords.read(out))} trials' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(['fit-decision', str(out), str(out), '--out', str(tmp_path / 'gain.safetensors')])
    assert 'hold steps of 1 sequences: at least 3' in capsys.readouterr().err
