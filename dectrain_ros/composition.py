"""Construction of a pipeline from a configuration."""

from __future__ import annotations

from dataclasses import asdict
import math
import os
from typing import Sequence

from dectrain_ros.checkpoints.autosave import Autosave
from dectrain_ros.checkpoints.checkpoint import digest
from dectrain_ros.config import Config
from dectrain_ros.decision.cost import make_cost_model
from dectrain_ros.decision.features import FeatureSet, Lean, Nothing
from dectrain_ros.decision.published.measured_features import PublishedFeatures
from dectrain_ros.depth.estimator import Estimator
from dectrain_ros.depth.networks.base import DepthNetwork
from dectrain_ros.depth.networks.loading import load_network, resolve_device
from dectrain_ros.depth.output_size import OutputSize
from dectrain_ros.depth.subnets import choose_subnet
from dectrain_ros.memory.rehearsal import RehearsalBuffer
from dectrain_ros.memory.replay_buffer import ReplayBuffer
from dectrain_ros.memory.samples import Sample
from dectrain_ros.memory.views import ViewHistory
from dectrain_ros.pipeline import Pipeline
from dectrain_ros.training.batch_maker import BatchMaker
from dectrain_ros.training.forgetting import ForgettingProbe, read_frames, SourceFrame
from dectrain_ros.training.guard import Guard, HeldOutGuard, Tolerances
from dectrain_ros.training.recovery import Recovery
from dectrain_ros.training.step import TrainingStep
from dectrain_ros.training.streams import Processor
from dectrain_ros.training.throttle import OperatingLimits
from dectrain_ros.training.trainer import Trainer
from dectrain_ros.training.update import make_update, Update
from dectrain_ros.training.weights import WeightVersions
import torch

_MAX_THREADS = 8                # more do not speed up networks of this size
_CHECKPOINT = 'checkpoint'      # first part of a checkpoint file's name


def compose(config: Config) -> Pipeline:
    """
    Load the network and make a pipeline; resume from a checkpoint if so configured.

    :raises ValueError: if the network cannot be loaded, the device is missing, or the folder of
        checkpoints cannot be used.
    """
    if config.depth.threads:
        torch.set_num_threads(config.depth.threads)
    training, update = config.training, make_update(config.training.scope)
    network = load_network(config.depth.network, config.depth.weights, config.depth.input_size)
    # Checkpoints store trained weights only: they belong to the source weights they started from.
    source = digest({k: v.cpu().numpy() for k, v in network.state_dict().items()})
    estimator = Estimator(network, resolve_device(config.depth.device))
    size = choose_subnet(network, config.depth.subnet, config.depth.latency_ms)
    frames = read_frames()
    network.fit_scale(frames)
    update.prepare(network, config.seed)
    step = _step(config, network, update)
    features = _features(config, network)
    flops = (step.flops(1 + training.replay_frames)
             if config.decision.features != 'none' else math.nan)
    views = _views(config)
    replay: ReplayBuffer[Sample] = ReplayBuffer(
        capacity=training.replay_capacity, max_bytes=training.replay_megabytes * 1e6,
        max_similarity=training.replay_similarity)
    weights = WeightVersions([p for _, p in update.parameters(network)])
    trainer = _trainer(config, step, weights, source, frames, features, replay)
    batches = BatchMaker(
        trainer, views, replay, RehearsalBuffer(
            config.safety.rehearse_every, training.replay_similarity, config.seed),
        replay_frames=training.replay_frames, judged_by=config.decision.judged_by,
        keeps_features=update.keeps_features, seed=config.seed)
    return Pipeline(
        estimator, batches, features, trainer,
        make_cost_model(config.decision.cost, flops),
        OutputSize(config.depth.output_size), size,
        Processor(estimator.device, config.limits.train_threads), flops)


def threads_beside_a_camera() -> int:
    """
    Return a number of CPU threads for torch that leaves one processor to other programs.

    With torch's default, one per processor, all threads wait for the one whose processor is busy.
    """
    has_affinity = hasattr(os, 'sched_getaffinity')         # not on every system
    usable = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), usable - 1, _MAX_THREADS))


def _loss(config: Config) -> dict:
    training = config.training
    return {'photometric_weight': training.photometric_weight,
            'smoothness_weight': training.smoothness_weight,
            'photometric_cap': training.photometric_cap}


def _features(config: Config, network: DepthNetwork) -> FeatureSet:
    if config.decision.features == 'reference':
        return PublishedFeatures(network, seed=config.seed, **_loss(config))
    return Lean() if config.decision.features == 'lean' else Nothing()


def _step(config: Config, network: DepthNetwork, update: Update) -> TrainingStep:
    return TrainingStep(
        network, update, learning_rate=config.training.learning_rate,
        max_grad_norm=config.training.max_grad_norm, anchor=config.safety.anchor,
        rehearsal_factor=config.safety.rehearse_factor, max_step_rms=config.safety.max_step_rms,
        **_loss(config))


def _views(config: Config) -> ViewHistory:
    training = config.training
    return ViewHistory(
        capacity=training.history_frames, sources=training.source_views,
        min_baseline=training.min_baseline, target_baseline=training.target_baseline,
        max_baseline=training.max_baseline, max_rotation_deg=training.max_rotation_deg,
        min_overlap=training.min_overlap,
        max_rotation_per_parallax=training.max_rotation_per_parallax)


def _trainer(
    config: Config, step: TrainingStep, weights: WeightVersions, source: str,
    frames: Sequence[SourceFrame], features: FeatureSet, replay: ReplayBuffer
) -> Trainer:
    safety = config.safety
    return Trainer(
        step, weights, _guard(config, step),
        Recovery(safety.cooldown_frames), OperatingLimits(**config.limits.of_training),
        Autosave(_CHECKPOINT, {'network': config.depth.network, 'scope': config.training.scope,
                               'source': source}, **asdict(config.checkpoints)),
        rehearse_every=safety.rehearse_every,
        probe=ForgettingProbe(step, frames) if safety.forgetting_every else None,
        probe_every=safety.forgetting_every,
        memories={'replay': replay, 'features': features}, record={'config': config.as_dict()})


def _guard(config: Config, step: TrainingStep) -> Guard:
    safety = config.safety
    if not safety.check_every:
        return Guard()
    return HeldOutGuard(
        step, every=safety.check_every, count=safety.held_out_frames, tolerances=Tolerances(
            safety.loss_tolerance, safety.loss_factor, safety.depth_factor, safety.spread_factor,
            safety.max_weight_change))
