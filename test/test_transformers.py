"""People's own models: folders in Hugging Face's layout, read, adapted and refused."""

import importlib.util
import json
import logging
import subprocess
import sys

from dectrain_ros.composition import compose
from dectrain_ros.config import parsed
from dectrain_ros.depth.estimator import pooled_feature
from dectrain_ros.depth.flops import flop_counter
from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.depth.networks.loading import load_network
from dectrain_ros.depth.networks.low_rank import adapter_names, add_adapters
from dectrain_ros.depth.networks.transformers import InverseOutput, MetricOutput
from dectrain_ros.frames import Decision
from dectrain_ros.training.update import make_update
import hf_parts
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from scenes import frame
import torch

HAS_TRANSFORMERS = importlib.util.find_spec('transformers') is not None
needs_transformers = pytest.mark.skipif(
    not HAS_TRANSFORMERS, reason="needs transformers: pip install 'dectrain_ros[transformers]'")
TRAINED = ('depth_anything', 'relative_depth_anything', 'dpt', 'zoedepth')
SCOPES = ('head', 'decoder', 'lora:4', 'full')
UNCHECKED = (       # untrained depth may be anything
    'training.min_baseline=0', 'training.max_baseline=2', 'training.min_overlap=0',
    'safety.check_every=0')
CARD = ModelCard('transformers', 56, 56, multiple_of=14)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return a function that gives the folder of a kind, written once."""
    written = {}

    def folder(kind):
        if kind not in written:
            written[kind] = hf_parts.write_folder(tmp_path_factory.mktemp(kind), kind)
        return written[kind]
    return folder


@pytest.fixture
def copied(folders, tmp_path):
    """Return a copy of Depth Anything's folder, to be spoilt."""
    for file in folders('depth_anything').iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def configured(folder, *assignments):
    return parsed((
        'depth.network=transformers', f'depth.weights={folder}', 'depth.device=cpu',
        'training.replay_similarity=1.0', 'training.learning_rate=1e-3', *UNCHECKED,
        *assignments))


def trained(pipeline, frames=4):
    """Predict frames along a wall, and train on every one that can be; return the results."""
    results = []
    for k in range(frames):
        seen = pipeline.observe(frame(k))
        results.append(pipeline.train(Decision(
            seen.candidate.stamp_ns, seen.candidate.trainable, 'test')))
    return results


def own_output(folder, image, card):
    """Compute what the library itself predicts, whole, (B, 1, h, w)."""
    from transformers import AutoModelForDepthEstimation
    model = AutoModelForDepthEstimation.from_pretrained(str(folder)).eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (card.mean, card.std))
    with torch.no_grad():
        return model(pixel_values=(image - mean) / std).predicted_depth[:, None]


@needs_transformers
@pytest.mark.parametrize('kind', hf_parts.KINDS)
def test_depth_is_that_of_the_model_run_whole_by_its_library(folders, kind):
    network = load_network('transformers', str(folders(kind)))
    card = network.card
    image = torch.rand(2, 3, card.height, card.width, generator=torch.Generator().manual_seed(1))
    focal = torch.tensor([1.0, 2.0]) * card.width
    own = own_output(folders(kind), image, card)
    if kind == 'depth_pro':         # f / (W C), Bochkovskii et al., 2024
        expected = own.reciprocal().clamp(0.1, 100) * (focal / card.width).view(2, 1, 1, 1)
    elif kind in ('dpt', 'dpt_hybrid', 'relative_depth_anything'):
        expected = own.reciprocal().clamp(0.1, 100)
    else:
        expected = own.clamp(0.1, 100)
    assert own.std() > 1e-3
    with torch.no_grad():
        features = network.encode(image)
        depths = network.depths(features, focal)
        torch.testing.assert_close(depths[0], expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(depths[0], network.depth(features, focal))
        assert torch.equal(network.decode(features, focal).log_variance,
                           2 * (depths[0] * 0 + (focal / card.width).view(2, 1, 1, 1)).log()
                           if card.focal_px else torch.zeros_like(depths[0]))
    h, w = own.shape[-2:]
    assert [d.shape[-2:] for d in depths] == [(h, w), (h // 2, w // 2), (h // 4, w // 4)]
    assert all(f.dim() == 4 for f in features)
    assert np.linalg.norm(pooled_feature([f[:1] for f in features])) == pytest.approx(1)


@needs_transformers
@pytest.mark.parametrize('scope', SCOPES)
@pytest.mark.parametrize('kind', TRAINED)
def test_it_trains_on_frames_and_comes_back_from_its_checkpoint(folders, tmp_path, kind, scope):
    config = configured(folders(kind), f'training.scope={scope}')
    pipeline = compose(config)
    first = pipeline.observe(frame(0)).depth
    before = {k: v.clone() for k, v in pipeline.estimator.network.state_dict().items()}
    results = trained(pipeline)
    assert [r.trained for r in results] == [False, True, True, True], results
    assert all(r.grad_norm > 0 for r in results[1:])
    adapted = pipeline.observe(frame(0)).depth
    assert np.isfinite(adapted).all() and not np.array_equal(first, adapted)
    network = pipeline.estimator.network
    moved = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    may = {k for k, _ in make_update(scope).parameters(network)}
    assert moved and moved <= may
    assert {k.split('.')[0] for k in moved} == {
        'head': {'decoder'}, 'decoder': {'decoder'}}.get(scope, {'encoder', 'decoder'})
    if scope == 'lora:4':
        assert all('adapter' in k for k in moved if k.startswith('encoder.'))
    path = pipeline.trainer.save(tmp_path / 'adapted.safetensors')
    again = compose(config)
    again.trainer.load(path)
    assert np.array_equal(again.observe(frame(0)).depth, adapted)


@needs_transformers
def test_a_checkpoint_names_its_folder_and_fits_no_other_weights(folders, copied, tmp_path):
    pipeline = compose(configured(folders('depth_anything'), 'training.scope=head'))
    path = pipeline.trainer.save(tmp_path / 'own.safetensors')
    same = compose(configured(copied, 'training.scope=head'))
    found = same.trainer.load(path)     # by what the weights are, not where they lie
    assert found.contents.values['config']['depth']['weights'] == str(folders('depth_anything'))
    tensors = load_file(copied / 'model.safetensors')
    tensors['head.conv1.bias'][0] += 1
    save_file(tensors, copied / 'model.safetensors', {'format': 'pt'})
    other = compose(configured(copied, 'training.scope=head'))
    with pytest.raises(ValueError, match='is of another model: source is'):
        other.trainer.load(path)


@needs_transformers
def test_one_seed_trains_bit_by_bit_the_same(folders):
    config = configured(folders('depth_anything'), 'training.scope=lora:8')
    depths = []
    for seed in (1, 1, 2):
        pipeline = compose(config.with_seed(seed))
        trained(pipeline, 3)
        depths.append(pipeline.observe(frame(0)).depth)
    assert np.array_equal(depths[0], depths[1])
    assert not np.array_equal(depths[0], depths[2])


@needs_transformers
def test_weights_that_are_not_trained_are_in_memory_once(folders):
    pipeline = compose(configured(folders('depth_anything'), 'training.scope=lora:8'))
    network = pipeline.estimator.network
    names = {k for k, _ in make_update('lora:8').parameters(network)}
    encoder = sum(p.numel() for k, p in network.encoder.named_parameters())
    adapters = sum(p.numel() for k, p in network.named_parameters() if 'adapter' in k)
    # 4 layers of 4 linear layers of 32 x 32, each with 2 x 8 x 32
    assert adapters == 4 * 4 * 2 * 8 * 32 and adapters < encoder
    shadow = pipeline.trainer.step.parameters
    assert len(shadow) == len(names)
    assert sum(p.numel() for p in shadow) < adapters + 2000
    step, image = pipeline.trainer.step, frame(0).image
    before = step.depth_of(image, 80.0)
    with torch.no_grad():
        network.encoder.embeddings.cls_token.add_(1)    # the copy shares it
    assert not np.array_equal(step.depth_of(image, 80.0), before)


@needs_transformers
def test_adapters_change_nothing_until_they_are_trained(folders):
    network = load_network('transformers', str(folders('zoedepth')))
    image = torch.rand(1, 3, network.card.height, network.card.width)
    with torch.no_grad():
        plain = network.encode(image)
        make_update('lora:8').prepare(network, seed=3)
        for a, b in zip(plain, network.encode(image)):
            assert torch.equal(a, b)


def test_an_adapter_adds_a_product_of_two_thin_matrices():
    attention = torch.nn.Sequential(torch.nn.Linear(3, 2))
    network = torch.nn.ModuleDict({'attention': attention, 'mlp': torch.nn.Linear(3, 3)})
    add_adapters(network, 1, seed=0)
    adapted = attention[0]
    with torch.no_grad():
        adapted.adapter_up.copy_(torch.tensor([[1.0], [-2.0]]))
    x = torch.randn(5, 3)
    expected = torch.nn.functional.linear(
        x, adapted.weight + torch.tensor([[1.0], [-2.0]]) @ adapted.adapter_down, adapted.bias)
    torch.testing.assert_close(adapted(x), expected)
    assert sorted(adapter_names(network)) == [
        'attention.0.adapter_down', 'attention.0.adapter_up']
    with pytest.raises(ValueError, match='no linear layers of attention: choose another scope'):
        add_adapters(torch.nn.ModuleDict({'mlp': torch.nn.Linear(3, 3)}), 1, seed=0)


def test_lora_and_head_are_refused_where_there_is_none():
    for scope in ('head', 'lora:8'):
        with pytest.raises(ValueError, match='network lite has none of the parts .* set it to'):
            compose(parsed((f'training.scope={scope}', 'depth.device=cpu')))


def test_an_input_size_is_refused_where_the_weights_have_one():
    with pytest.raises(ValueError, match=r"input_size is '64x64', but lite has the size of its"):
        load_network('lite', '', '64x64')


def test_a_metric_head_that_saturates_can_be_left_behind():
    output = MetricOutput(CARD)
    raw = (20 * torch.sigmoid(torch.tensor([[-3.0, 0.0, 15.0]], requires_grad=True)))
    torch.testing.assert_close(output(raw), raw)            # starts as the head's own
    with torch.no_grad():
        output.log_factor.fill_(np.log(2) / 30)
    assert output(raw)[0, 2].item() == pytest.approx(40)    # beyond what the head can say
    with torch.no_grad():
        output.power.fill_(0.1 / 30)                        # 2 d^1.1
    torch.testing.assert_close(output(raw), 2 * raw ** 1.1)
    output(raw)[0, 2].backward()
    assert output.log_factor.grad > 0 and output.power.grad > 0


def test_inverse_depth_is_mapped_by_scale_and_shift_and_stays_in_its_range():
    output = InverseOutput(CARD)
    raw, true = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.4, 0.6, 1.2])
    output.fit(raw, true)                                   # 0.2 raw + 0.2
    torch.testing.assert_close(output(raw), 1 / true)
    assert output(torch.tensor([-9.0, 1e4])).tolist() == pytest.approx([100, 0.1])


@pytest.mark.parametrize('raw', [[5.0, 2.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
def test_where_outputs_do_not_go_with_nearness_the_median_is_3_m(raw):
    output = InverseOutput(CARD)
    output.fit(torch.tensor(raw), torch.tensor([0.4, 0.6, 1.2]))
    depth = output(torch.tensor(raw))
    assert torch.isfinite(depth).all()
    assert depth.median().item() == pytest.approx(3.0 if raw[0] else 100.0)


class Seen:
    """A frame of known depth."""

    def __init__(self, image, depth):
        self.image, self.depth = image, depth


@needs_transformers
def test_scale_and_shift_come_from_frames_of_known_depth_and_this_is_said(folders, caplog):
    with caplog.at_level(logging.WARNING, 'dectrain_ros'):
        network = load_network('transformers', str(folders('relative_depth_anything')))
    assert 'predicts depth up to a scale and a shift: its metres are a guess' in caplog.text
    image = np.random.default_rng(0).integers(0, 256, (28, 35, 3), np.uint8)
    inside = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    inside = torch.nn.functional.interpolate(inside, (56, 70), mode='bilinear')
    own = own_output(folders('relative_depth_anything'), inside, network.card)
    inverse = 0.05 * own + 0.1
    network.fit_scale([Seen(image, (1 / inverse)[0, 0].numpy())])
    with torch.no_grad():
        depth = network(inside, torch.tensor([70.0])).depths[0]
    torch.testing.assert_close(1 / depth, inverse, rtol=1e-3, atol=1e-4)
    composed = compose(configured(folders('relative_depth_anything'))).estimator.network
    assert composed.decoder.output.log_scale != 0       # by stored frames
    metric = load_network('transformers', str(folders('depth_anything')))
    before = metric.decoder.output.log_factor.clone()
    metric.fit_scale([Seen(image, np.full((28, 35), 9, np.float32))])
    assert torch.equal(metric.decoder.output.log_factor, before)


@needs_transformers
def test_sizes_are_whole_patches_of_what_is_asked_or_preferred(folders, copied):
    def size(input_size='', folder=copied):
        card = load_network('transformers', str(folder), input_size).card
        return card.width, card.height
    assert size() == (70, 56)               # 56 x 4/3 = 74.7, to the nearest 14
    assert size('160x120') == (154, 126)
    assert size(folder=folders('dpt')) == (64, 64)
    (copied / 'card.json').write_text(json.dumps({'height': 28, 'width': 42}))
    assert size() == (42, 28) and size('160x120') == (154, 126)


@needs_transformers
def test_the_preprocessors_numbers_are_turned_to_images_from_0_to_1(copied):
    path = copied / 'preprocessor_config.json'
    values = json.loads(path.read_text())
    assert load_network('transformers', str(copied)).card.mean == pytest.approx(
        (0.485, 0.456, 0.406))
    path.write_text(json.dumps({**values, 'rescale_factor': 1 / 127.5}))
    card = load_network('transformers', str(copied)).card       # images of 0 to 2
    assert card.mean == pytest.approx((0.2425, 0.228, 0.203))
    assert card.std == pytest.approx((0.1145, 0.112, 0.1125))
    path.write_text(json.dumps({**values, 'do_normalize': False}))
    card = load_network('transformers', str(copied)).card
    assert (card.mean, card.std) == ((0.0,) * 3, (1.0,) * 3)


@needs_transformers
def test_a_card_beside_the_model_has_the_last_word(copied):
    (copied / 'card.json').write_text(json.dumps({'scale': 2.0, 'output': 'relative'}))
    network = load_network('transformers', str(copied))
    assert network.card.scale == 2.0 and isinstance(network.decoder.output, InverseOutput)


@needs_transformers
def test_half_precision_weights_are_read_in_full(copied):
    path = copied / 'model.safetensors'
    save_file({k: v.half() for k, v in load_file(path).items()}, path, {'format': 'pt'})
    config = json.loads((copied / 'config.json').read_text())
    (copied / 'config.json').write_text(json.dumps({**config, 'dtype': 'float16'}))
    network = load_network('transformers', str(copied))
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@needs_transformers
def test_version_4s_names_and_settings_are_read(copied):
    # The library writes what it always wrote: query, key and value of nested attention.
    assert any('attention.attention.query' in k for k in load_file(copied / 'model.safetensors'))
    config = json.loads((copied / 'config.json').read_text())
    config['torch_dtype'] = config.pop('dtype')
    config['transformers_version'] = '4.45.0'
    config.update({'backbone': None, 'use_pretrained_backbone': False, 'use_timm_backbone': False})
    (copied / 'config.json').write_text(json.dumps(config))
    load_network('transformers', str(copied))
    config.update({'depth_estimation_type': 'relative', 'max_depth': None})
    (copied / 'config.json').write_text(json.dumps(config))
    assert isinstance(load_network('transformers', str(copied)).decoder.output, InverseOutput)


@needs_transformers
def test_attention_is_counted(folders):
    network = load_network('transformers', str(folders('depth_anything')))
    with torch.no_grad(), flop_counter() as counter:
        network.encode(torch.zeros(1, 3, 56, 70))
    n, d, layers = 4 * 5 + 1, 32, 4
    linear = layers * 2 * n * (4 * d * d + 2 * d * 2 * d)
    attention = layers * 2 * 2 * n * n * d
    patches = 2 * 20 * d * 3 * 14 * 14
    assert counter.get_total_flops() == linear + attention + patches


@needs_transformers
def test_neither_pil_nor_torchvision_nor_a_network_is_needed(folders):
    code = f"""
import socket, sys
for name in ('PIL', 'torchvision'):
    sys.modules[name] = None
def refuse(*_, **__):
    raise AssertionError('a connection was tried')
socket.socket.connect = socket.getaddrinfo = refuse
from dectrain_ros.depth.networks.loading import load_network
import torch
network = load_network('transformers', {str(folders("depth_anything"))!r})
assert network(torch.rand(1, 3, 56, 70), torch.tensor([70.0])).depths[0].isfinite().all()
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ''


def refused(match, folder, input_size=''):
    """Check that a folder is refused in one short line."""
    with pytest.raises(ValueError, match=match) as caught:
        load_network('transformers', str(folder), input_size)
    text = str(caught.value)
    assert '\n' not in text and len(text) < 450 + 2 * len(str(folder))


def test_without_the_package_the_error_is_a_line_to_paste(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    for name, text in (('config.json', '{"model_type": "dpt"}'), ('model.safetensors', '')):
        (tmp_path / name).write_text(text)
    refused(r"needs the package transformers: pip install 'dectrain_ros\[transformers\]'",
            tmp_path)


def test_what_is_no_folder_is_refused_before_anything_is_loaded(tmp_path):
    refused('depth.weights must be set to a folder', '')
    refused('is no folder: name a local one with config.json, preprocessor_config.json and '
            'model.safetensors; nothing is downloaded', 'org/Depth-Anything-V2-Small-hf')
    refused('lacks config.json: get the whole folder', tmp_path)
    (tmp_path / 'config.json').write_text('{')
    refused('config.json is no readable JSON', tmp_path)
    (tmp_path / 'config.json').write_text('[]')
    refused('it holds no object', tmp_path)
    (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
    refused("holds a model of type 'bert': it must be one of depth_anything", tmp_path)
    (tmp_path / 'config.json').write_text('{"model_type": "dpt"}')
    refused('lacks model.safetensors', tmp_path)
    (tmp_path / 'pytorch_model.bin').write_bytes(b'')
    refused('holds pytorch_model.bin and no model.safetensors: such a file can run code', tmp_path)


@needs_transformers
def test_a_spoilt_folder_is_refused_by_what_is_wrong(copied):
    tensors = load_file(copied / 'model.safetensors')

    def stored(**changes):
        left = {**tensors, **changes}
        save_file({k: v for k, v in left.items() if v is not None},
                  copied / 'model.safetensors', {'format': 'pt'})

    stored(**{'head.conv3.weight': None})
    refused('does not fit its config.json: 1 tensors are missing or of another shape, first '
            'head.conv3.weight', copied)
    stored(**{'head.conv3.weight': torch.zeros(2, 8, 1, 1)})
    refused('head.conv3.weight', copied)
    stored(**{'head.conv3.bias': torch.full((1,), torch.nan)})
    refused('predicts depth that is not finite: its weights are damaged', copied)
    (copied / 'model.safetensors').write_bytes(b'no safetensors at all')
    refused('is no model that transformers can read', copied)
    stored()
    (copied / 'card.json').write_text('{"output": "disparity"}')
    refused("output is 'disparity': it must be one of metric, relative", copied)
    (copied / 'card.json').write_text('{"scales": 2}')
    refused(r"card.json: unknown fields \['scales'\]", copied)
    (copied / 'card.json').unlink()
    refused("depth.input_size is '320': it must be WIDTHxHEIGHT", copied, '320')
    (copied / 'preprocessor_config.json').unlink()
    refused('lacks preprocessor_config.json', copied)


@needs_transformers
def test_a_size_the_model_cannot_run_at_is_refused(folders):
    refused('does not run on images of 96x64 .* set depth.input_size to a size that the model '
            'takes, such as a square', folders('dpt'), '96x64')
