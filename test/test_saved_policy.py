"""The state of a policy survives a restart, and is loaded into no other policy."""

from typing import NamedTuple

from dectrain_ros.decision.policies import make_policy
from dectrain_ros.decision.policy import Tuning
from dectrain_ros.decision.published.fit import fit
from dectrain_ros.decision.published.online import OnlineGain
from dectrain_ros.decision.saved_policy import SavedPolicy
from dectrain_ros.frames import Candidate, StepResult
from gain_parts import linear_records, NAMES, truth
import numpy as np
import pytest

LEARNING = ('dectrain', 'paced', 'budget:0.25', 'budget:120ms/s')
NO_FOLDER = {'folder': '', 'save_every': 0, 'keep': 2, 'resume': False}
Features = NamedTuple('Features', [(name, float) for name in NAMES])


@pytest.fixture(scope='module')
def network():
    return fit(linear_records(rows=40, noise=0.3), restarts=1).network


def kept(network, text='paced', **keeping):
    """Return a policy by the network, which is trusted after 10 steps only if they agree."""
    def make_gain():
        return OnlineGain(network, judged_from=10, window=20)
    policy = make_policy(text, make_gain=make_gain, tuning=Tuning(80.0, 0.2, 0.2))
    return SavedPolicy(text.partition(':')[0], policy, **{**NO_FOLDER, **keeping})


def driven(policy, first, end, signal=1.0):
    """Drive past frames whose steps bring what the network expects, times signal."""
    told = []
    for k in range(first, end):
        features = np.random.default_rng(k).normal((3, 100, 0), (2, 50, 1))
        decision = policy.decide(Candidate(
            k * 33_333_333, Features(*features), '' if k % 7 else 'no', 3, 1))
        policy.save_if_due()
        told.append(str(decision))          # as text, so that nan equals nan
        if decision.train:
            change = -signal * float(truth(features[None])[0])
            policy.learn(StepResult(
                decision.stamp_ns, True, '', k, 0.3, 1.0, change, 0.05 + 0.0001 * k))
    return told


def remembered(policy):
    """Return all that a policy remembers, as text of full precision."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else str(value)
            for name, value in policy.policy.state_dict().items()}


@pytest.mark.parametrize('signal', [1.0, -1.0], ids=['trusted', 'fallen back'])
@pytest.mark.parametrize('text', LEARNING)
def test_a_policy_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(
        network, tmp_path, text, signal):
    straight, path = kept(network, text), tmp_path / 'one.safetensors'
    driven(straight, 0, 150, signal)
    assert straight.policy.predictor.trusted == (signal > 0)
    assert straight.policy.predictor.accepted + straight.policy.predictor.rejected > 10
    assert straight.save(path) == path
    resumed = kept(network, text)
    driven(resumed, 3, 60)                  # of which nothing must be left
    assert resumed.load(path).path == path and resumed.steps == straight.steps > 10
    if text.endswith('/s'):                 # it does not know how long it was away
        straight.load(path)
    assert driven(resumed, 150, 300) == driven(straight, 150, 300)
    assert remembered(resumed) == remembered(straight)


def test_what_came_after_the_last_save_is_saved_at_the_end(network, tmp_path):
    keeping = {'folder': str(tmp_path), 'save_every': 1, 'resume': True}
    first = kept(network, 'dectrain', **keeping)
    driven(first, 0, 12)                    # saved once decided, before the outcome is known
    assert first.saved == first.steps > 1
    first.close()
    assert first.saved == first.steps + 1
    assert remembered(kept(network, 'dectrain', **keeping)) == remembered(first)
    before = first.saved
    first.close()
    assert first.saved == before            # nothing is new


def test_what_was_learnt_of_gain_goes_on_under_another_budget_and_the_bucket_does_not(
        network, tmp_path):
    quarter, tenth, fresh = (
        kept(network, text) for text in ('budget:0.25', 'budget:0.1', 'budget:0.1'))
    driven(quarter, 0, 100)
    quarter.save(tmp_path / 'one.safetensors')
    tenth.load(tmp_path / 'one.safetensors')
    assert tenth.policy.predictor.network.digest == quarter.policy.predictor.network.digest
    found, unused = remembered(tenth), remembered(fresh)
    assert found['recent'] == remembered(quarter)['recent']
    assert [found[name] for name in ('bucket', 'steps', 'until_probe')] == [
        unused[name] for name in ('bucket', 'steps', 'until_probe')]


def test_a_checkpoint_of_another_policy_network_or_feature_set_is_refused_by_name(
        network, tmp_path):
    path = tmp_path / 'one.safetensors'
    kept(network, 'paced').save(path)
    others = {
        "policy is 'paced', here 'dectrain'": kept(network, 'dectrain'),
        "gain_network is '[0-9a-f]{8}...', here": kept(network.replaced(slope=0.7)),
        'features is .*, here .lean: ': kept(network.replaced(feature_set='lean'))}
    for message, other in others.items():
        with pytest.raises(ValueError, match=f'one.safetensors is of another model: .*{message}'):
            other.load(path)


def test_a_state_that_does_not_fit_is_refused_and_nothing_is_changed(
        network, tmp_path, monkeypatch):
    odd, policy = kept(network), kept(network)
    state = odd.policy.state_dict()
    monkeypatch.setattr(odd.policy, 'state_dict', lambda: {
        **{name: m for name, m in state.items() if name != 'worth'}, 'share': 0.9})
    odd.save(tmp_path / 'one.safetensors')
    driven(policy, 0, 30)
    before, steps = remembered(policy), policy.steps
    with pytest.raises(ValueError, match="one.safetensors is no state of policy paced .'worth'"):
        policy.load(tmp_path / 'one.safetensors')
    assert (remembered(policy), policy.steps) == (before, steps)


def test_it_is_saved_every_few_steps_and_at_the_end_and_taken_up_at_the_start(network, tmp_path):
    keeping = {'folder': str(tmp_path), 'save_every': 10, 'resume': True}
    policy = kept(network, **keeping)
    driven(policy, 0, 80)
    assert policy.saved == policy.steps // 10 > 1 and policy.steps % 10
    policy.close()
    policy.close()                          # nothing new
    assert policy.saved == policy.steps // 10 + 1
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        f'decision-paced-{k:08d}.safetensors' for k in (policy.saved - 1, policy.saved)]
    resumed = kept(network, **keeping)
    assert remembered(resumed) == remembered(policy) and resumed.steps == policy.steps
    for path in tmp_path.iterdir():
        path.write_bytes(b'')
    with pytest.raises(ValueError, match='checkpoints.resume: no checkpoint can be used: .*0000'):
        kept(network, **keeping)
    assert kept(network, 'dectrain', **keeping).steps == 0      # the files of others are not its


def test_a_folder_that_cannot_be_written_is_counted_and_deciding_goes_on(network, tmp_path):
    policy = kept(network, folder=str(tmp_path / 'folder'), save_every=1)
    (tmp_path / 'folder').rmdir()
    assert len(driven(policy, 0, 40)) == 40
    assert (policy.saved, policy.save_failures) == (0, policy.steps)


def test_a_policy_that_learns_nothing_keeps_nothing_and_says_so(network, tmp_path):
    policy = kept(network, 'periodic:4', folder=str(tmp_path / 'none'), save_every=1)
    driven(policy, 0, 20)
    policy.close()
    for work in (policy.save, policy.load):
        with pytest.raises(ValueError, match='policy periodic learns nothing'):
            work()
    assert not (tmp_path / 'none').exists()
    with pytest.raises(ValueError, match='set checkpoints.folder'):
        kept(network).save()
