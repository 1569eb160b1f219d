"""A transformer as a context network: causal self-attention over the variables in their order.

A *place* is a pixel with all its channels, or a variable of vectors. Token t has read the values of
the place before the t-th in the order, and knows which places these two are; what it becomes is the
context of the t-th. Tokens see themselves and those before, so that contexts are functions of
earlier places alone, in whatever order: nothing else knows of one. Trained over many orders
(``--order any``), one network gives the conditionals of all of them.

Blocks are pre-normalised (Xiong et al. 2020) and start as the identity. Queries are turned by the
row and the column of the place that comes next, keys by those of the place that was read (rotary
positions, Su et al. 2021), so that attention sees distances; what only a place itself can tell, its
embeddings say.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from arcsm_cli.data.batch import Batch
from arcsm_cli.errors import UsageError
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.context import AnyOrderContexts, IncrementalContexts
from arcsm_cli.models.cuda_graphs import CudaGraphs
from arcsm_cli.models.once import by_hand
from arcsm_cli.models.sites import of_earlier
from arcsm_cli.models.transformer_layers import SPREAD, Block, Positions, Turns
from arcsm_cli.options import stored_options

MOST_MEMORY = 4 << 30
"""Bytes that the keys and values of examples in the making may take."""
_ROUNDED_TO = {"cpu": 1}
_ROUNDED_TO_ON_GPU = 64  # steps that look back as far as the longest of so many are alike


class Transformer(AnyOrderContexts):
    """Self-attention whose output at a token is a function of the places read before.

    With one dimension a site and several channels, the context of sub-pixel k is an output of the
    pixel's own plus a linear function of the pixel's sub-pixels before k.

    Arguments:
        shape: (D,), or (channels, H, W).
        width: C, the size of a context vector.
        layers: blocks.
        heads: of a block.
        units: of the stream, a multiple of 4 heads.
        site: 1, or ``channels`` for one context a pixel.

    Raises:
        ValueError: for units that heads do not share, or sizes below 1.

    Example:
        >>> net = Transformer((3, 4, 2), width=5, layers=1, heads=2, units=16)
        >>> net(torch.zeros(7, 24)).shape
        torch.Size([7, 24, 5])
    """

    places: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        layers: int,
        heads: int,
        units: int,
        site: int = 1,
    ) -> None:
        channels, grid = (1, shape) if len(shape) == 1 else (shape[0], shape[1:])
        super().__init__(math.prod(shape), width, site)
        if min(*shape, width, layers, heads, units) < 1 or site not in (1, channels):
            raise ValueError("sizes must be at least 1, and a site one value or one pixel")
        if units % (4 * heads):
            raise ValueError(f"{units} units are not a multiple of 4 for each of {heads} heads")
        self.channels = channels
        self.start = nn.Parameter(torch.randn(units) * SPREAD)
        # Kinks over the range of values, not all at zero.
        kinks = nn.Linear(channels, units)
        nn.init.normal_(kinks.weight)
        nn.init.normal_(kinks.bias)
        self.values = nn.Sequential(kinks, nn.GELU(), nn.Linear(units, units, bias=False))
        self.seen, self.next = Positions(grid, units), Positions(grid, units)
        self.turns = Turns(grid, units // heads)
        self.blocks = nn.ModuleList(Block(units, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(units)
        self.output = nn.Linear(units, width * channels // site)
        self.earlier = None
        if site < channels:
            self.earlier = nn.Parameter(torch.zeros(channels, channels, width))
        places = torch.arange(self.dimensions // channels)
        self.register_buffer("places", places, persistent=False)

    @classmethod
    def build(cls, config: ModelConfig) -> Self:
        """See `ContextNetwork.build`."""
        layers, heads, units = stored_options(config.network).values()
        return cls(config.shape, config.context_width, layers, heads, units, config.site)

    @classmethod
    def shifted_units(cls, config: ModelConfig) -> tuple[int, ...]:
        """Return the units of the stream before each block, and after the last."""
        own = stored_options(config.network)
        return (int(own["width"]),) * (int(own["layers"]) + 1)

    @torch.no_grad()
    def start_at(self, context: Tensor) -> None:
        """Move the contexts of all sites by a vector (C,)."""
        self.output.bias.view(-1, self.width).add_(context.to(self.output.bias))

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """Map examples (B, D) to contexts (B, D / site, C), each in the order of its batch."""
        batch = Batch.of(batch)
        x, order = batch.x, batch.order
        pixels = x.view(len(x), -1, self.channels)
        if order is None:
            read, order, back = pixels, self.places[None], None
        else:
            back = order.argsort(1)[..., None]
            read = pixels.gather(1, order[..., None].expand_as(pixels))
        y = self._attended(read[:, :-1], order, self.shifts(batch.given))
        if back is not None:
            y = y.gather(1, back.expand_as(y))
        contexts = y.reshape(len(x), -1, self.width)
        if self.earlier is None:
            return contexts
        return contexts + of_earlier(pixels, self.earlier).flatten(1, 2).to(contexts.dtype)

    def _attended(self, read: Tensor, order: Tensor, shifts: Iterator[Tensor | None]) -> Tensor:
        """Map the values of all places but the last (B, P - 1, channels) to outputs (B, P, ...)."""
        seen = self.values(read) + self.seen(order[:, :-1])
        start = self.start.to(seen.dtype).expand(len(read), 1, -1)
        h = torch.cat([start, seen], 1) + self.next(order)
        q_angles = self.turns.angles(order)
        k_angles = self.turns.angles(functional.pad(order[:, :-1], (1, 0)))
        # Fused attention cannot be differentiated twice.
        plain: Any = nullcontext() if by_hand(compiled=True) else sdpa_kernel([SDPBackend.MATH])
        with plain:
            for block in self.layers():
                h = _moved(h, next(shifts))
                q, k, v = block.heads_of(h)
                q, k = Turns.turned(q, q_angles), Turns.turned(k, k_angles)
                h = block.after(h, functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        y: Tensor = self.output(self.norm(_moved(h, next(shifts))))
        return y

    def incremental(self, given: Tensor) -> IncrementalContexts:
        """Return an evaluation that keeps keys and values: a place costs one token.

        Raises:
            UsageError: for more examples at a time than there is memory for.
        """
        return _IncrementalTransformer(self, given, None)

    def visiting(self, given: Tensor, order: Tensor) -> IncrementalContexts:
        """See `AnyOrderContexts.visiting`; raises what `incremental` does."""
        return _IncrementalTransformer(self, given, order)

    def layers(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]


class _IncrementalTransformer(IncrementalContexts):
    """Keys and values of all places have their room from the start, and a step adds one of each.

    All that outlives a step stays where it is. On a GPU, where a step's many small kernels take
    longer to launch than to run, the steps that look back as far, rounded up, are one CUDA graph.
    """

    @torch.no_grad()
    def __init__(self, net: Transformer, given: Tensor, order: Tensor | None) -> None:
        self.net, self.step, batch = net, 0, len(given)
        like, device = net.start, net.start.device
        self.rounded = _ROUNDED_TO.get(device.type, _ROUNDED_TO_ON_GPU)
        self.order = (net.places[None] if order is None else order).clone()
        places, units = len(net.places), len(net.start)
        room = -(-places // self.rounded) * self.rounded
        _check_memory(2 * len(net.blocks) * room * units * like.element_size(), batch)
        heads = net.layers()[0].heads
        shape = (2, batch, heads, room, units // heads)
        self.known = [like.new_zeros(shape) for _ in net.blocks]
        self.unseen = None  # what is added to scores: keeps the room ahead from being looked at
        if self.rounded > 1:
            self.unseen = like.new_full((room,), -torch.inf)
        self.at = torch.zeros(1, dtype=torch.long, device=device)
        self.pixel = like.new_zeros(batch, net.channels)
        self.features = like.new_zeros(batch, net.output.out_features)
        self.shifts = list(itertools.islice(net.shifts(given), len(net.blocks) + 1))
        self.graphs = CudaGraphs() if device.type == "cuda" else None
        self._advance(0)

    def _advance(self, place: int) -> None:
        reach = (place // self.rounded + 1) * self.rounded
        if self.graphs is None:
            self._token(place == 0, reach)
        else:
            self.graphs.run((place == 0, reach), lambda: self._token(place == 0, reach))

    def _token(self, first: bool, reach: int) -> None:
        """Compute the features of the next place; all that changes is read from buffers."""
        net, batch = self.net, len(self.pixel)
        following = self.order.index_select(1, self.at)
        read = torch.zeros_like(following) if first else self.order.index_select(1, self.at - 1)
        seen = net.start if first else net.values(self.pixel)[:, None] + net.seen(read)
        h = (seen + net.next(following)).expand(batch, 1, -1)
        q_angles, k_angles = net.turns.angles(following), net.turns.angles(read)
        mask = None
        if self.unseen is not None:
            self.unseen.index_fill_(0, self.at, 0.0)
            mask = self.unseen[None, :reach]
        *shifts, last = self.shifts
        for block, known, shift in zip(net.layers(), self.known, shifts, strict=True):
            h = _moved(h, shift)
            q, k, v = block.heads_of(h)
            new = torch.stack([Turns.turned(k, k_angles), v])
            known.index_copy_(3, self.at, new)
            keys, values = known[:, :, :, :reach]
            q = Turns.turned(q, q_angles)
            found = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            h = block.after(h, found)
        self.features.copy_(net.output(net.norm(_moved(h, last)))[:, 0])

    @torch.no_grad()
    def contexts(self) -> Tensor:
        net, k = self.net, self.step % self.net.channels
        if net.earlier is None:
            return self.features.clone()
        context = self.features[:, k * net.width : (k + 1) * net.width]
        return torch.addmm(context, self.pixel[:, :k], net.earlier[k, :k])

    @torch.no_grad()
    def append(self, x: Tensor) -> None:
        self.pixel[:, self.step % self.net.channels] = x
        self.step += 1
        place, inside = divmod(self.step, self.net.channels)
        if not inside and self.step < self.net.dimensions:
            self.at += 1
            self._advance(place)

    def select(self, rows: Tensor) -> None:
        reach = self.step // self.net.channels + 1
        parts = [self.pixel, self.features]
        if len(self.order) > 1:
            parts.append(self.order)
        for part in (*parts, *(shift for shift in self.shifts if shift is not None)):
            part.copy_(part[rows])
        for known in self.known:
            part = known[:, :, :, :reach]
            part.copy_(part[:, rows])


def _moved(stream: Tensor, shift: Tensor | None) -> Tensor:
    """Return a stream (B, T, units) moved by what is given, (B, units)."""
    return stream if shift is None else stream + shift[:, None]


def _check_memory(each: int, batch: int) -> None:
    if each * batch > MOST_MEMORY:
        gib = [f"{size / 2**30:.1f} GiB" for size in (each * batch, MOST_MEMORY)]
        raise UsageError(
            f"the keys and values of {batch} examples at a time take {gib[0]}, more than {gib[1]}: "
            f"lower --batch-size (or --particles), to {max(1, MOST_MEMORY // each)} at a time"
        )
