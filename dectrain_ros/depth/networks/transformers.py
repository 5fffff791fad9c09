"""
`transformers`: a depth model of the Hugging Face library, split into encoder and decoder.

The model's own body, a vision transformer as a rule, is the encoder. In its place the model keeps
a stand-in that returns given features: what is left of the model is the decoder.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Iterable, List, NamedTuple, Sequence, Tuple

from dectrain_ros.depth.networks.base import DepthNetwork, ModelCard, TrueDepth
import torch
from torch import nn, Tensor
from torch.nn import functional as F

# Adam moves every number by about the learning rate a step, weights and these alike: at 1.5e-4
# the scale of all depth may move by half a percent a step.
_REACH, _SHIFT_REACH = 30.0, 3.0
_SCALES = 3                     # depths of the loss: of the model, and two halved
_USUAL_M = 3.0                  # median depth where nothing better is known


class MetricOutput(nn.Module):
    """
    Depth of a metric head, exp(a ln d + b): beyond the range where the head's sigmoid saturates.

    It starts as the head's own depth, a = 1 and b = 0.
    """

    def __init__(self, card: ModelCard):
        """Start as the identity."""
        super().__init__()
        self.power = nn.Parameter(torch.zeros(()))
        self.log_factor = nn.Parameter(torch.zeros(()))
        self._range = card.min_depth_m, card.max_depth_m

    def forward(self, raw: Tensor) -> Tensor:
        """Return depth, m, within the card's range, of the shape of the model's."""
        a, b = 1 + _REACH * self.power, _REACH * self.log_factor
        return (a * raw.clamp(min=self._range[0]).log() + b).exp().clamp(*self._range)


class InverseOutput(nn.Module):
    """Depth of a head that predicts inverse depth d up to scale and shift, 1 / (e^s d + t)."""

    def __init__(self, card: ModelCard):
        """Start with a scale of 1 and no shift."""
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.shift = nn.Parameter(torch.zeros(()))
        self._range = 1 / card.max_depth_m, 1 / card.min_depth_m

    def forward(self, raw: Tensor) -> Tensor:
        """Return depth, m, within the card's range, of the shape of the model's output."""
        inverse = (_REACH * self.log_scale).exp() * raw + _SHIFT_REACH * self.shift
        return 1 / inverse.clamp(*self._range)

    @torch.no_grad()
    def fit(self, raw: Tensor, inverse_depth: Tensor) -> None:
        """
        Set scale and shift to least squares.

        Where larger outputs do not go with nearer pixels, the median depth becomes 3 m.

        :param raw: the model's output, (N,).
        :param inverse_depth: true, 1/m, (N,).
        """
        mean, true_mean = raw.mean(), inverse_depth.mean()
        spread = (raw - mean).square().mean()
        scale = ((raw - mean) * (inverse_depth - true_mean)).mean() / spread
        shift = true_mean - scale * mean
        if not (torch.isfinite(scale) and scale > 0):
            scale, shift = 1 / (_USUAL_M * raw.median().clamp(min=1e-6)), torch.zeros(())
        self.log_scale.copy_(scale.log() / _REACH)
        self.shift.copy_(shift / _SHIFT_REACH)


class Body(NamedTuple):
    """
    The module of a model that sees the image, and which of its outputs the rest reads.

    name: of the module. field: of its output. places: indices into the field that are read, all
    if empty. early: whether feature maps of a convolutional stem come first.
    """

    name: str
    field: str
    places: Tuple[int, ...] = ()
    early: bool = False

    def maps(self, body: nn.Module, image: Tensor) -> List[Tensor]:
        """Run the body; return what the rest of the model reads, in the body's shapes."""
        if self.field != 'hidden_states':
            return list(getattr(body(image), self.field))
        outputs = body(image, output_hidden_states=True)
        hidden = outputs.hidden_states
        first = list(outputs.intermediate_activations) if self.early else []
        return first + [hidden[k] for k in self.places or range(len(hidden))]

    def outputs(self, maps: Sequence[Tensor]) -> Any:
        """Return an output of the body that holds these maps."""
        late = maps[len(maps) - len(self.places):] if self.places else maps
        fields = {'hidden_states': None, 'attentions': None, self.field: list(late)}
        if self.places:
            padded: List[Any] = [None] * (max(self.places) + 1)
            for k, place in enumerate(self.places):
                padded[place] = late[k]
            fields[self.field] = padded
        early = list(maps[:len(maps) - len(late)])
        return SimpleNamespace(**fields, intermediate_activations=early)


class _StandIn(nn.Module):
    """Stands where a model's body was, and returns given outputs."""

    outputs: Any = None

    def forward(self, *_, **__) -> Any:
        return self.outputs

    forward_with_filtered_kwargs = forward


class _Decoder(nn.Module):
    """A model without its body, and the map from its output to depth."""

    def __init__(self, model: nn.Module, body: Body, output: nn.Module):
        super().__init__()
        self.model, self.output = model, output
        self._body = body
        setattr(model, body.name, _StandIn())

    def forward(self, maps: Sequence[Tensor], image_shape: Tuple[int, ...]) -> Tensor:
        """Return the model's output, (B, 1, h, w), from the body's maps."""
        stand_in = getattr(self.model, self._body.name)
        # Models read the image's size, and nothing else of it.
        image = maps[0].new_zeros(()).expand(image_shape)
        stand_in.outputs = self._body.outputs(maps)
        try:
            return self.model(pixel_values=image).predicted_depth[:, None]
        finally:
            stand_in.outputs = None


class TransformersNetwork(DepthNetwork):
    """
    A depth model of the Hugging Face library behind this package's interface.

    Maps of tokens, (B, N, C), travel as features (B, C, 1, N). Variance is not predicted: it is 1
    m^2 times the square of the depth's scale.

    :param model: of AutoModelForDepthEstimation; taken apart.
    :param is_metric: whether its output is depth, not inverse depth.
    :param is_relative: whether its output is known only up to scale and shift.
    """

    def __init__(
        self, card: ModelCard, model: nn.Module, body: Body, *, is_metric: bool, is_relative: bool
    ):
        """Split the model into encoder and decoder."""
        super().__init__(card)
        self._is_relative = is_relative
        self.encoder = getattr(model, body.name)
        self.decoder = _Decoder(
            model, body, MetricOutput(card) if is_metric else InverseOutput(card))
        self.variance_head = nn.Conv2d(1, 1, 1)
        nn.init.zeros_(self.variance_head.weight)
        nn.init.zeros_(self.variance_head.bias)
        self._body = body
        self._are_tokens: Tuple[bool, ...] = ()         # of the body's maps; known when it ran

    @torch.no_grad()
    def fit_scale(self, frames: Iterable[TrueDepth]) -> None:
        """Set scale and shift so that frames come out with their true depth, where relative."""
        if not self._is_relative:
            return
        raw, inverse = [], []
        for frame in frames:
            image = torch.from_numpy(frame.image).to(self.mean.device).permute(2, 0, 1)[None]
            image = F.interpolate(image.float() / 255, (self.card.height, self.card.width),
                                  mode='bilinear', align_corners=False)
            predicted = self._raw(self.encode(image))
            true = torch.from_numpy(frame.depth).to(predicted.device)
            raw.append(F.interpolate(predicted, true.shape, mode='area').flatten())
            inverse.append(1 / true.flatten())
        self.decoder.output.fit(torch.cat(raw), torch.cat(inverse))

    def _encoded(self, normalised):
        maps = self._body.maps(self.encoder, normalised)
        self._are_tokens = tuple(m.dim() == 3 for m in maps)
        return tuple(m.transpose(1, 2)[:, :, None] if tokens else m
                     for m, tokens in zip(maps, self._are_tokens))

    def _decoded(self, features):
        raw = self._raw(features)
        stages = [(self.decoder.output, raw)]
        for k in range(1, _SCALES):
            size = [max(1, n >> k) for n in raw.shape[-2:]]
            stages.append((self.decoder.output, F.interpolate(raw, size, mode='area')))
        return stages

    def _raw(self, features: Sequence[Tensor]) -> Tensor:
        """Return the model's output, (B, 1, h, w)."""
        maps = [f[:, :, 0].transpose(1, 2) if tokens else f
                for f, tokens in zip(features, self._are_tokens)]
        shape = (len(features[0]), 3, self.card.height, self.card.width)
        return self.decoder(maps, shape).float()

    def _depth(self, stage, scale):
        head, raw = stage
        return scale * head(raw)
