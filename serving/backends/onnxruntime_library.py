"""The library onnxruntime, without its telemetry: by default its import writes a device id into the user's home.

from serving.backends.onnxruntime_library import onnxruntime
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by the import; export ORT_DISABLE_TELEMETRY=0 allows it

import onnxruntime

__all__ = ["onnxruntime"]
