"""Names of the files in a bundle. Every program that writes or reads one takes them from here."""

import re

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"  # of the manifest, if the bundle is signed (serving.bundle.signature)
PRECISIONS = {"fp32": "embedder.onnx", "fp16": "embedder.fp16.onnx", "int8": "embedder.int8.onnx"}  # and their files
BF16 = "bf16"  # a precision without a file: OpenVINO computes the network of the FP32 model in bfloat16
FRONT_END_MODEL = "frontend.onnx"
ZEROSHOT = "zeroshot.npz"
PROBES = "probes.npz"
PARITY = "parity.json"
MODEL_CARD = "README.md"
ATTRIBUTION = "ATTRIBUTION.txt"  # the authors of the recordings
TAUGHT = "taught.json"  # the classes that were taught by examples (serving.teaching.taught_record)
ENGINES = "engines"  # folder of TensorRT engines

TEXT_FOLDER = "text/"
TEXT_CONFIG = "text/text.json"  # name of the text encoder, and the number of tokens at which MiniLM cuts a text off
DESCRIPTIONS = "text/descriptions.json"  # class name -> one line about what the class sounds like
MINILM_MODEL = "text/minilm.onnx"  # the graph of serving.text_model.minilm_graph
MINILM_TOKENIZER = "text/tokenizer.json"
GLOVE_WORDS = "text/glove.npz"  # see serving.text_model.glove.FORMS

# All names that a manifest may list.
ALLOWED_FILES = re.compile(
    "|".join(
        re.escape(name)
        for name in (
            *PRECISIONS.values(), FRONT_END_MODEL, ZEROSHOT, PROBES, PARITY, MODEL_CARD, ATTRIBUTION, TAUGHT,
            TEXT_CONFIG, DESCRIPTIONS, MINILM_MODEL, MINILM_TOKENIZER, GLOVE_WORDS,
        )
    )
    + rf"|{ENGINES}/[A-Za-z0-9][A-Za-z0-9._-]{{0,200}}\.(engine|json)"
)  # fmt: skip
