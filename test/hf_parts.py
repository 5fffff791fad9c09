"""Small depth models with random weights, in folders as Hugging Face's save_pretrained writes."""

import json
import os
from pathlib import Path

import torch

os.environ.setdefault('HF_HUB_OFFLINE', '1')

VIT = {'hidden_size': 32, 'num_hidden_layers': 4, 'num_attention_heads': 2}
NECK = {'neck_hidden_sizes': [8, 8, 16, 16], 'fusion_hidden_size': 8}
IMAGENET = {'image_mean': [0.485, 0.456, 0.406], 'image_std': [0.229, 0.224, 0.225]}
HALF = {'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.5, 0.5, 0.5]}
USUAL = {'do_normalize': True, 'do_rescale': True, 'rescale_factor': 1 / 255, 'do_resize': True}


def dinov2():
    """Return the configuration of a small DINOv2 as backbone."""
    from transformers import Dinov2Config
    return Dinov2Config(
        **VIT, image_size=56, patch_size=14, mlp_ratio=2, out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False, layerscale_value=0.5)


def depth_anything(kind='metric', max_depth=20):
    """Return a small Depth Anything and its preprocessor."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation
    model = DepthAnythingForDepthEstimation(DepthAnythingConfig(
        backbone_config=dinov2(), reassemble_hidden_size=32, head_hidden_size=8,
        depth_estimation_type=kind, max_depth=max_depth, **NECK))
    return model, {**USUAL, **IMAGENET, 'size': {'height': 56, 'width': 56},
                   'keep_aspect_ratio': True, 'ensure_multiple_of': 14}


def relative_depth_anything():
    """Return the same with a head for inverse depth."""
    return depth_anything('relative', 1)


def prompt_depth_anything():
    """Return a small Prompt Depth Anything, which also runs without a prompt."""
    from transformers import PromptDepthAnythingConfig, PromptDepthAnythingForDepthEstimation
    model = PromptDepthAnythingForDepthEstimation(PromptDepthAnythingConfig(
        backbone_config=dinov2(), reassemble_hidden_size=32, head_hidden_size=8,
        depth_estimation_type='metric', max_depth=20, **NECK))
    return model, depth_anything()[1]


def dpt():
    """Return a small DPT of a plain vision transformer, which takes squares only."""
    from transformers import DPTConfig, DPTForDepthEstimation
    model = DPTForDepthEstimation(DPTConfig(
        **VIT, intermediate_size=64, image_size=64, patch_size=16, is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3], head_in_index=-1, **NECK))
    return model, {**USUAL, **HALF, 'size': 64}


def dpt_hybrid():
    """Return a small DPT with a convolutional stem."""
    from transformers import DPTConfig, DPTForDepthEstimation
    model = DPTForDepthEstimation(DPTConfig(
        **VIT, intermediate_size=64, image_size=64, patch_size=16, is_hybrid=True,
        backbone_out_indices=[0, 1, 2, 3], backbone_featmap_shape=[1, 64, 4, 4],
        neck_ignore_stages=[0, 1], backbone_config={
            'model_type': 'bit', 'embedding_size': 16, 'hidden_sizes': [16, 32, 64],
            'depths': [1, 1, 1], 'layer_type': 'bottleneck', 'num_groups': 4,
            'global_padding': 'same', 'embedding_dynamic_padding': True,
            'out_features': ['stage1', 'stage2', 'stage3']},
        neck_hidden_sizes=[16, 32, 16, 16], fusion_hidden_size=8))
    return model, {**USUAL, **HALF, 'size': {'height': 64, 'width': 64}}


def dpt_dinov2():
    """Return a small DPT on DINOv2, whose output is metric."""
    from transformers import DPTConfig, DPTForDepthEstimation
    model = DPTForDepthEstimation(DPTConfig(
        backbone_config=dinov2(), is_hybrid=False, use_pretrained_backbone=False,
        hidden_size=32, readout_type='project', **NECK))
    return model, {**USUAL, **IMAGENET, 'size': {'height': 56, 'width': 84}}


def zoedepth():
    """Return a small ZoeDepth of one metric head."""
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation
    beit = BeitConfig(
        **VIT, intermediate_size=64, image_size=64, patch_size=16, out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False, use_relative_position_bias=True)
    bins = {'n_bins': 8, 'min_depth': 0.001, 'max_depth': 10.0, 'name': 'nyu'}
    model = ZoeDepthForDepthEstimation(ZoeDepthConfig(
        backbone_config=beit, backbone_hidden_size=32, bottleneck_features=8,
        num_relative_features=8, bin_embedding_dim=8, num_attractors=[4, 2, 2, 1],
        bin_configurations=[bins], **NECK))
    return model, {**USUAL, **HALF, 'size': {'height': 64, 'width': 96},
                   'keep_aspect_ratio': True, 'ensure_multiple_of': 32}


def glpn():
    """Return a small GLPN, whose preprocessor only rescales."""
    from transformers import GLPNConfig, GLPNForDepthEstimation
    model = GLPNForDepthEstimation(GLPNConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], decoder_hidden_size=8,
        num_attention_heads=[1, 1, 2, 2], max_depth=10))
    return model, {'do_rescale': True, 'do_resize': True, 'size_divisor': 32}


def depth_pro():
    """Return a small Depth Pro."""
    from transformers import DepthProConfig, DepthProForDepthEstimation
    vit = {'model_type': 'dinov2', **VIT, 'image_size': 32, 'patch_size': 8, 'mlp_ratio': 2}
    model = DepthProForDepthEstimation(DepthProConfig(
        fusion_hidden_size=8, patch_size=32, intermediate_hook_ids=[3, 1],
        intermediate_feature_dims=[8, 8], scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.0], scaled_images_feature_dims=[16, 16],
        merge_padding_value=1, image_model_config=vit, patch_model_config=vit,
        fov_model_config=vit, use_fov_model=True, num_fov_head_layers=0))
    return model, {**USUAL, **HALF, 'size': {'height': 64, 'width': 64}}


KINDS = {f.__name__: f for f in (
    depth_anything, relative_depth_anything, prompt_depth_anything, dpt, dpt_hybrid, dpt_dinov2,
    zoedepth, glpn, depth_pro)}


def write_folder(path: Path, kind: str, seed: int = 0) -> Path:
    """Write a model's folder; outputs vary over the image and lie above 0."""
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(seed)
        model, preprocessor = KINDS[kind]()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5)
        last = [m for m in model.head.modules() if isinstance(m, torch.nn.Conv2d)][
            -1] if hasattr(model, 'head') else None
        if last is not None:
            last.bias.fill_(0.3)
    model.save_pretrained(path)
    (path / 'preprocessor_config.json').write_text(json.dumps(preprocessor))
    return path
