"""Run exported models with NumPy, Pillow and ONNX Runtime, without PyTorch or scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_NAMES = ("OnnxClassifier", "OnnxEncoder", "OnnxRegressor", "open_model")

if TYPE_CHECKING:
    from .models import OnnxClassifier as OnnxClassifier
    from .models import OnnxEncoder as OnnxEncoder
    from .models import OnnxRegressor as OnnxRegressor
    from .models import open_model as open_model
else:
    __all__ = list(_NAMES)

    def __getattr__(name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import models  # NumPy and Pillow would delay `import sktl.runtime.document` and the command's help

        return globals().setdefault(name, getattr(models, name))

    def __dir__() -> list[str]:
        return __all__
