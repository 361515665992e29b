"""Training through the fused decoder layers, replayed from CUDA graphs where that pays; chat and tagging runs alike."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from medrecipes.core.console import Console
from medrecipes.core.notes import labelled
from medrecipes.engines import Choice
from medrecipes.engines.choices import Setting
from medrecipes.engines.kernels import fused_layer
from medrecipes.engines.kernels.cuda_graphs import Recorded
from medrecipes.engines.multi_gpu.shared_layers import Shards
from medrecipes.engines.plan.memory import GB


def fused_layers(
    engine: Any, setting: Setting, console: Console, shards: Shards | None = None
) -> AbstractContextManager[None]:
    """Inside, the decoder layers of an engine's model train as one function each."""
    # the last layers' activations are let go first, so it is the first layers that are recomputed
    keep = [number >= setting.recomputed for number in range(engine.model.config.num_hidden_layers)]

    def tell(why: str) -> None:
        engine.choices["launches"] = choice = Choice("one by one", f"they cannot be captured here: {why}")
        console.line(labelled("launches", str(choice)))

    recorded = None
    if setting.graphs:
        room = setting.recordings_gb * GB
        recorded = partial(Recorded, graphs=setting.graphs, room=room, tell=tell)
    return fused_layer.layers(
        engine.model, engine.dtype, keep, decode_once=setting.decode_once, shards=shards, recorded=recorded
    )
