"""Recurring pieces of GPU work, captured once and replayed with a single launch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

logger = logging.getLogger(__name__)


class CudaGraphs:
    """CUDA graphs of pieces of work that recur: run once, captured the second time, replayed.

    All data that outlive a piece of work lie in buffers made before, so the graphs can share one
    memory pool and be replayed in any order.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.graphs: dict[tuple[Any, ...], torch.cuda.CUDAGraph | None] = {}
        self.works = True

    def run(self, key: tuple[Any, ...], work: Callable[[], None]) -> None:
        """Do the work that ``key`` stands for."""
        if key not in self.graphs or not self.works:
            self.graphs.setdefault(key, None)
            work()
            return
        graph = self.graphs[key]
        if graph is None:
            graph = self._capture(work)
            if graph is None:
                work()
                return
            self.graphs[key] = graph
        graph.replay()

    def _capture(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """Record the work without doing it; None if this driver or allocator cannot."""
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                graph.capture_begin(pool=self.pool)
                try:
                    work()
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            logger.warning("sampling without CUDA graphs, which is slower: %s", error)
            self.works = False
            return None
        current.wait_stream(self.stream)
        return graph
