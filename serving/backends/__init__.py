"""Backends: ONNX Runtime, OpenVINO and TensorRT, each behind the contract in serving.backends.runtime.

A `Graph` runs one model file. A `Runtime` is a front end and a network (a `Graph`), and maps waveforms to embeddings.
If one graph contains the front end as well, the runtime's front end is `identity`.
"""
