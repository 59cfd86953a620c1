"""The model that a runner trains."""

from typing import Any

from mmengine.model import is_model_wrapper


def unwrapped(model: Any) -> Any:
    """The model inside a DDP wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model
