"""Checkpoints in torchvision's and monodepth2's layout, written here from its description."""

import json
import re
import sys

from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.depth.networks.loading import load_network
from dectrain_ros.depth.networks.resnet import ResnetNetwork
from dectrain_ros.depth.networks.resnet_checkpoint import load_resnet
from dectrain_ros.training.update import DECODER, FULL
import pytest
from safetensors.torch import save_file
import torch
from torch.nn import functional as F

SIZES = {'height': 64, 'width': 96}
COUNTS = {'resnet18': (2, 2, 2, 2), 'resnet50': (3, 4, 6, 3)}
CHANNELS = {'resnet18': (64, 64, 128, 256, 512), 'resnet50': (64, 256, 512, 1024, 2048)}


def norm_shapes(name, channels):
    kinds = ('weight', 'bias', 'running_mean', 'running_var')
    return {**{f'{name}.{k}': (channels,) for k in kinds}, f'{name}.num_batches_tracked': ()}


def resnet_shapes(network):
    """Return the names and shapes of torchvision's classifier."""
    shapes = {'conv1.weight': (64, 3, 7, 7), **norm_shapes('bn1', 64)}
    inputs, wide = 64, network == 'resnet50'
    for i, count in enumerate(COUNTS[network]):
        width, outputs = 64 * 2 ** i, CHANNELS[network][i + 1]
        for j in range(count):
            name = f'layer{i + 1}.{j}'
            kernels = [(width, inputs, 1), (width, width, 3), (outputs, width, 1)] if wide else [
                (width, inputs, 3), (width, width, 3)]
            for n, (out, into, size) in enumerate(kernels, 1):
                shapes[f'{name}.conv{n}.weight'] = (out, into, size, size)
                shapes.update(norm_shapes(f'{name}.bn{n}', out))
            if j == 0 and (i > 0 or wide):
                shapes[f'{name}.downsample.0.weight'] = (outputs, inputs, 1, 1)
                shapes.update(norm_shapes(f'{name}.downsample.1', outputs))
            inputs = outputs
    return {**shapes, 'fc.weight': (1000, inputs), 'fc.bias': (1000,)}


def decoder_shapes(network, scales=4):
    """Return the names and shapes of monodepth2's depth.pth."""
    skips, inputs, shapes = CHANNELS[network], CHANNELS[network][-1], {}
    for n, (width, skip) in enumerate(zip((256, 128, 64, 32, 16), (*skips[-2::-1], 0))):
        for m, into in enumerate((inputs, width + skip)):
            shapes[f'decoder.{2 * n + m}.conv.conv.weight'] = (width, into, 3, 3)
            shapes[f'decoder.{2 * n + m}.conv.conv.bias'] = (width,)
        inputs = width
    for scale in range(scales):
        shapes[f'decoder.{10 + scale}.conv.weight'] = (1, (16, 32, 64, 128)[scale], 3, 3)
        shapes[f'decoder.{10 + scale}.conv.bias'] = (1,)
    return shapes


def tensors(shapes, prefix='', seed=0):
    """Return tensors of these shapes: no layer explodes or dies; variances are positive."""
    random, made = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        if name.endswith('num_batches_tracked'):
            made[prefix + name] = torch.tensor(7)
        elif name.endswith('running_var'):
            made[prefix + name] = 0.5 + torch.rand(shape, generator=random)
        else:
            fan_in = max(1, torch.Size(shape[1:]).numel())
            made[prefix + name] = torch.randn(shape, generator=random) * fan_in ** -0.5
    return made


def empty(shapes, prefix=''):
    """Return the same names and shapes at the price of a number each."""
    return {prefix + name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def written(folder, encoder, decoder, **kwargs):
    folder.mkdir(exist_ok=True)
    torch.save(encoder, folder / 'encoder.pth', **kwargs)
    torch.save(decoder, folder / 'depth.pth', **kwargs)
    return str(folder)


@pytest.fixture(scope='module')
def resnet18():
    """Return encoder.pth's and depth.pth's content."""
    encoder = tensors(resnet_shapes('resnet18'), 'encoder.')
    return {**encoder, **SIZES, 'use_stereo': False}, tensors(decoder_shapes('resnet18'), seed=1)


@pytest.fixture(scope='module')
def folder(resnet18, tmp_path_factory):
    return written(tmp_path_factory.mktemp('weights'), *resnet18)


@pytest.fixture
def hollow(tmp_path):
    """Write a checkpoint that is right but for what is changed."""
    def write(network='resnet18', scales=4, **changes):
        encoder = {**empty(resnet_shapes(network), 'encoder.'), **SIZES, 'use_stereo': False}
        encoder.update(changes)
        return written(
            tmp_path / 'hollow', {k: v for k, v in encoder.items() if v is not None},
            empty(decoder_shapes(network, scales)))
    return write


def described(t, image):
    """Compute the depths from the description, layer by layer, finest first."""
    def norm(x, name):
        return F.batch_norm(x, t[f'{name}.running_mean'], t[f'{name}.running_var'],
                            t[f'{name}.weight'], t[f'{name}.bias'])

    def mirrored(x, name):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), 'reflect'), t[f'{name}.weight'], t[f'{name}.bias'])

    x = F.conv2d((image - 0.45) / 0.225, t['encoder.conv1.weight'], stride=2, padding=3)
    features = [norm(x, 'encoder.bn1').relu()]
    x = F.max_pool2d(features[0], 3, 2, 1)
    for i in range(1, 5):
        for j in range(2):
            name, stride = f'encoder.layer{i}.{j}', 2 if i > 1 and j == 0 else 1
            y = norm(F.conv2d(x, t[f'{name}.conv1.weight'], None, stride, 1), f'{name}.bn1').relu()
            y = norm(F.conv2d(y, t[f'{name}.conv2.weight'], None, 1, 1), f'{name}.bn2')
            if stride == 2:
                x = norm(F.conv2d(x, t[f'{name}.downsample.0.weight'], None, 2),
                         f'{name}.downsample.1')
            x = (y + x).relu()
        features.append(x)
    depths = []
    for i in range(4, -1, -1):
        x = F.elu(mirrored(x, f'decoder.{8 - 2 * i}.conv.conv'))
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        if i > 0:
            x = torch.cat([x, features[i - 1]], 1)
        x = F.elu(mirrored(x, f'decoder.{9 - 2 * i}.conv.conv'))
        if i < 4:
            disparity = torch.sigmoid(mirrored(x, f'decoder.{10 + i}.conv'))
            depths.insert(0, 1 / (0.01 + (10 - 0.01) * disparity))
    return depths


def test_the_layouts_have_the_published_numbers_of_tensors():
    # torchvision: 62 and 161 parameters, 3 statistics for each of 20 and 53 batch norms
    assert len(resnet_shapes('resnet18')) == 62 + 60
    assert len(resnet_shapes('resnet50')) == 161 + 159
    assert len(decoder_shapes('resnet18')) == 28
    # 11,689,512 and 25,557,032 parameters
    for network, count in (('resnet18', 11689512), ('resnet50', 25557032)):
        assert sum(torch.Size(s).numel() for k, s in resnet_shapes(network).items()
                   if 'running' not in k and 'num_batches' not in k) == count


@pytest.mark.parametrize('network', ['resnet18', 'resnet50'])
def test_the_network_has_exactly_the_tensors_of_the_checkpoint(network):
    with torch.device('meta'):
        made = ResnetNetwork(ModelCard(network, **SIZES))
    has = {k: tuple(t.shape) for k, t in made.state_dict().items()
           if not k.startswith('variance_head.')}
    encoder = {f'encoder.{k}': s for k, s in resnet_shapes(network).items() if 'fc.' not in k}
    assert has == {**encoder, **decoder_shapes(network)}


def test_a_checkpoint_gives_the_depths_its_description_says(resnet18, folder):
    network = load_network('resnet18', folder)
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        decoded = network(image, torch.tensor([90.0, 50.0]))
        for depth, expected in zip(decoded.depths, described(
                {**resnet18[0], **resnet18[1]}, image), strict=True):
            torch.testing.assert_close(depth, expected, rtol=1e-4, atol=1e-4)
    assert [tuple(d.shape) for d in decoded.depths] == [
        (2, 1, 64, 96), (2, 1, 32, 48), (2, 1, 16, 24), (2, 1, 8, 12)]
    assert decoded.depths[0].std() > 0.01
    assert decoded.log_variance.shape == (2, 1, 64, 96) and not decoded.log_variance.any()
    assert not network.training and network.card == ModelCard('resnet18', **SIZES)


def test_features_go_from_half_to_a_32nd_of_the_image(folder):
    features = load_resnet('resnet18', folder).eval().encode(torch.rand(1, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (1, 64, 32, 48), (1, 64, 16, 24), (1, 128, 8, 12), (1, 256, 4, 6), (1, 512, 2, 3)]


def test_resnet50_loads_and_gives_four_depths(hollow):
    network = load_network('resnet50', hollow('resnet50'))
    decoded = network(torch.rand(1, 3, 64, 96), torch.tensor([90.0]))
    # All weights are 0: sigmoid(0) = 0.5 of 0.01 to 10 per m
    torch.testing.assert_close(decoded.depths[0], torch.full((1, 1, 64, 96), 1 / 5.005))


def test_depth_learns_and_uncertainty_does_not_pull_on_it(folder):
    network = load_network('resnet18', folder)
    decoded = network(torch.rand(1, 3, 64, 96), torch.tensor([90.0]))
    decoded.log_variance.sum().backward(retain_graph=True)
    assert all(p.grad is None for _, p in FULL.parameters(network))
    sum(d.mean() for d in decoded.depths).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any()
               for _, p in DECODER.parameters(network))
    assert len(list(DECODER.parameters(network))) == 28


def test_what_is_saved_from_the_network_loads_again(folder, tmp_path):
    first = load_resnet('resnet18', folder).eval()
    state = first.state_dict()
    encoder = {k: t for k, t in state.items() if k.startswith('encoder.')}
    again = load_resnet('resnet18', written(
        tmp_path / 'again', {**encoder, **SIZES},
        {k: t for k, t in state.items() if k.startswith('decoder.')}))
    for (name, a), b in zip(state.items(), again.state_dict().values()):
        assert torch.equal(a, b), name


def test_checkpoints_of_old_torch_load(tmp_path):
    encoder = {k: t for k, t in empty(resnet_shapes('resnet18'), 'encoder.').items()
               if not k.endswith('num_batches_tracked')}
    assert load_resnet('resnet18', written(
        tmp_path / 'old', {**encoder, **SIZES}, empty(decoder_shapes('resnet18')),
        _use_new_zipfile_serialization=False)).card.height == 64


def test_a_decoder_trained_at_fewer_scales_gives_fewer_depths(hollow):
    network = load_resnet('resnet18', hollow(scales=1)).eval()
    assert len(network(torch.rand(1, 3, 64, 96), torch.tensor([90.0])).depths) == 1


def test_stereo_checkpoints_are_scaled_to_metres(hollow):
    assert load_resnet('resnet18', hollow(use_stereo=True)).card.scale == 5.4
    network = load_resnet('resnet18', hollow(use_stereo=True)).eval()
    depth = network(torch.rand(1, 3, 64, 96), torch.tensor([90.0])).depths[0]
    assert depth[0, 0, 0, 0].item() == pytest.approx(5.4 / 5.005)


def test_a_card_beside_the_checkpoint_has_the_last_word(hollow, tmp_path):
    where = hollow(use_stereo=True)
    (tmp_path / 'hollow' / 'card.json').write_text(json.dumps(
        {'scale': 7.1, 'max_depth_m': 20.0, 'width': 128, 'mean': [0.5, 0.5, 0.5]}))
    assert load_resnet('resnet18', where).card == ModelCard(
        'resnet18', 64, 128, max_depth_m=20.0, mean=(0.5, 0.5, 0.5), scale=7.1)


def under(prefix, named):
    """Return tensors under longer names; sizes keep theirs."""
    return {prefix + k if isinstance(t, torch.Tensor) else k: t for k, t in named.items()}


def assert_loads_as(resnet18, encoder, decoder, tmp_path):
    """Check that these files hold the same weights and sizes as the plain ones."""
    loaded = load_resnet('resnet18', written(tmp_path / 'wrapped', encoder, decoder))
    assert loaded.card == ModelCard('resnet18', **SIZES)
    state = loaded.state_dict()
    for name, tensor in {**resnet18[0], **resnet18[1]}.items():
        if isinstance(tensor, torch.Tensor) and 'encoder.fc.' not in name:
            assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize('prefix', ['module.', 'model.', 'model.depth_net.', 'encoder.'])
def test_what_wrappers_put_before_names_is_left_out(tmp_path, resnet18, prefix):
    encoder, decoder = resnet18
    assert_loads_as(resnet18, under(prefix, encoder), under(prefix, decoder), tmp_path)


def test_lightning_files_are_read(tmp_path, resnet18):
    encoder, decoder = resnet18
    weights = {k: t for k, t in encoder.items() if k not in ('height', 'width', 'use_stereo')}
    assert_loads_as(
        resnet18, {'epoch': 3, 'state_dict': under('model.', weights), **SIZES},
        {'epoch': 3, 'state_dict': under('model.', {**decoder, **SIZES})}, tmp_path)


def test_sizes_stored_as_tensors_and_stereo_are_read(tmp_path, resnet18):
    encoder, decoder = resnet18
    sizes = {k: torch.tensor(v) for k, v in SIZES.items()}
    assert_loads_as(resnet18, {**encoder, **sizes}, decoder, tmp_path)
    stereo = {**encoder, **sizes, 'use_stereo': torch.tensor(True)}
    assert load_resnet('resnet18', written(tmp_path / 's', stereo, decoder)).card.scale == 5.4


@pytest.mark.parametrize('as_text', [True, False])
def test_half_precision_safetensors_are_read(tmp_path, resnet18, as_text):
    encoder, decoder = ({k: t.half() if t.is_floating_point() else t for k, t in part.items()
                         if isinstance(t, torch.Tensor)} for part in resnet18)
    sizes = {} if as_text else {k: torch.tensor(v) for k, v in SIZES.items()}
    notes = {**{k: str(v) for k, v in SIZES.items()}, 'use_stereo': 'False'} if as_text else {}
    save_file({**encoder, **sizes}, tmp_path / 'encoder.safetensors', {'format': 'pt', **notes})
    save_file(decoder, tmp_path / 'depth.safetensors', {'format': 'pt'})
    loaded = load_resnet('resnet18', str(tmp_path))
    assert loaded.card == ModelCard('resnet18', **SIZES)
    state = loaded.state_dict()
    for name, tensor in {**encoder, **decoder}.items():
        if 'encoder.fc.' not in name:
            assert torch.equal(state[name], tensor.to(state[name].dtype)), name
    assert {t.dtype for t in loaded.parameters()} == {torch.float32}


def lightning(resnet18, **others):
    """Return a file of a whole module: the depth network's two parts, and others."""
    encoder, decoder = resnet18
    weights = {k: t for k, t in encoder.items() if isinstance(t, torch.Tensor)}
    return {'epoch': 3, 'hyper_parameters': {**SIZES, 'lr': 1e-4}, 'state_dict': {
        **under('model.depth_encoder.', weights), **under('model.depth_decoder.', decoder),
        **others}}


def test_a_lightning_file_of_both_networks_is_read(tmp_path, resnet18):
    torch.save(lightning(resnet18, **{
        'model.pose_encoder.encoder.conv1.weight': torch.zeros(64, 6, 7, 7),
        'model.pose.net.0.weight': torch.zeros(2)}), tmp_path / 'last.ckpt')
    loaded = load_network('resnet18', str(tmp_path / 'last.ckpt'))
    assert loaded.card == ModelCard('resnet18', **SIZES)
    state = loaded.state_dict()
    for part in resnet18:
        for name, tensor in part.items():
            if isinstance(tensor, torch.Tensor) and 'encoder.fc.' not in name:
                assert torch.equal(state[name], tensor), name


def test_a_file_of_two_depth_networks_or_none_is_refused_by_name(tmp_path, resnet18):
    path = tmp_path / 'last.ckpt'
    torch.save(lightning(resnet18, **{
        'teacher.encoder.conv1.weight': torch.zeros(64, 3, 7, 7)}), path)
    refused('last.ckpt holds 2 networks with encoder.conv1.weight, and must hold one: make a '
            'folder with encoder.pth and depth.pth', str(path))
    torch.save({'state_dict': {'net.weight': torch.zeros(1)}}, path)
    refused('last.ckpt holds 0 networks with encoder.conv1.weight', str(path))


def test_torchvisions_names_are_read(tmp_path, resnet18):
    encoder = {k.removeprefix('encoder.'): t for k, t in resnet18[0].items()}
    assert_loads_as(resnet18, encoder, resnet18[1], tmp_path)
    assert_loads_as(resnet18, under('module.', encoder), resnet18[1], tmp_path)


def refused(match, folder, network='resnet18'):
    """Check that a folder is refused in one short line."""
    with pytest.raises(ValueError, match=match) as caught:
        load_resnet(network, folder)
    text = str(caught.value)
    assert '\n' not in text and len(text) < 400 + 2 * len(str(folder))


def test_a_missing_file_is_named(tmp_path, hollow):
    refused(r'encoder.pth does not exist: depth.weights must be a folder', str(tmp_path))
    where = hollow()
    (tmp_path / 'hollow' / 'depth.pth').unlink()
    refused(r'depth.pth does not exist', where)


def test_another_encoder_is_refused_by_name(hollow):
    refused(r'encoder.pth holds resnet50, not the encoder of resnet18: set', hollow('resnet50'))
    refused(r'holds resnet18, not the encoder of resnet50', hollow('resnet18'), 'resnet50')
    refused('holds a ResNet of 3-2-2-2 blocks', hollow(
        **{'encoder.layer1.2.conv1.weight': torch.zeros(1)}))


def test_exchanged_files_are_refused(tmp_path):
    refused('encoder.pth holds no ResNet', written(
        tmp_path, {**empty(decoder_shapes('resnet18')), **SIZES},
        empty(resnet_shapes('resnet18'), 'encoder.')))


def test_a_decoder_of_another_encoder_is_refused_with_both_shapes(tmp_path):
    refused(
        re.escape(
            "'decoder.0.conv.conv.weight' is (256, 2048, 3, 3) and must be (256, 512, 3, 3)"),
        written(tmp_path, {**empty(resnet_shapes('resnet18'), 'encoder.'), **SIZES},
                empty(decoder_shapes('resnet50'))))


def test_missing_and_unknown_tensors_are_refused(hollow):
    refused(r"'encoder.bn1.weight' is missing and must be \(64,\) \(1 such",
            hollow(**{'encoder.bn1.weight': None}))
    refused(r"'encoder.more' is \(2,\) and must be absent",
            hollow(**{'encoder.more': torch.zeros(2)}))


def test_a_size_that_is_missing_or_impossible_is_refused(hollow):
    refused(r'encoder.pth with card.json: height and width unknown; set height',
            hollow(height=None, width=None))
    refused('network input is 96x70: width and height must be positive multiples of 32',
            hollow(height=70))


def test_a_wrong_card_is_refused(hollow, tmp_path):
    where, card = hollow(), tmp_path / 'hollow' / 'card.json'
    card.write_text('{"scales": 5.4}')
    refused(r"card.json: unknown fields \['scales'\]", where)
    card.write_text('{"network": "resnet50"}')
    refused('card.json is for resnet50, not resnet18: set depth.network to resnet50', where)
    card.write_text('no json')
    refused('card.json', where)


class Runs:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (open, ('/nonexistent/written by a checkpoint', 'w'))


@pytest.mark.parametrize('zipped', [True, False])
def test_a_checkpoint_that_would_run_code_is_not_opened(tmp_path, zipped):
    refused('encoder.pth holds more than tensors and is not opened: such a file can run code',
            written(tmp_path, {'encoder.conv1.weight': Runs()}, {},
                    _use_new_zipfile_serialization=zipped))


def test_what_is_no_checkpoint_is_refused(tmp_path, hollow):
    where = hollow()
    (tmp_path / 'hollow' / 'depth.pth').write_bytes(b'')
    refused('depth.pth', where)
    whole = (tmp_path / 'hollow' / 'encoder.pth').read_bytes()
    (tmp_path / 'hollow' / 'encoder.pth').write_bytes(whole[:len(whole) // 2])
    refused('encoder.pth', where)
    torch.save([torch.zeros(1)], tmp_path / 'hollow' / 'encoder.pth')
    refused('encoder.pth is no state dict: save it with', where)


def test_a_network_of_another_name_cannot_be_built():
    with pytest.raises(ValueError, match="network is 'lite': it must be one of resnet18"):
        ResnetNetwork(ModelCard('lite', **SIZES))


def test_torchvision_is_not_needed(folder):
    load_resnet('resnet18', folder)
    assert 'torchvision' not in sys.modules
