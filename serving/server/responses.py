"""What the server is asked with and what it answers, as OpenAPI tells it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serving.audio import LOWEST_DBFS, SILENT_DBFS
from serving.zeroshot import LARGEST_OFFSET


class EmbedQuery(BaseModel):
    """Parameters of /v1/embed."""

    model_config = ConfigDict(extra="forbid")

    windows: bool = Field(False, description="answer with each window's embedding too, and where it starts")


class ClassifyQuery(BaseModel):
    """Parameters of /v1/classify."""

    model_config = ConfigDict(extra="forbid")

    labels: list[str] | None = Field(
        None,
        description="what to rank, with commas between: classes of the bundle, or any English words where it has a "
        "text model (see typed_labels of /v1/model). A label with commas in it stands in double quotes "
        '(`"Dog, barking",rain`), unless it is the name of a class. Where the parameter is repeated, each is one '
        "label. Default: every class of the bundle",
        examples=["dog,rain"],
    )
    offset: float = Field(
        0.0,
        ge=-LARGEST_OFFSET,
        le=LARGEST_OFFSET,
        allow_inf_nan=False,
        description="taken from the scores of classes seen in training, so that unseen ones stand a chance",
    )


class Timings(BaseModel):
    """How long each stage took, in milliseconds."""

    decode: float = Field(description="the file's bytes to samples")
    resample: float = Field(description="mix to mono, resample and cut into windows")
    queue: float = Field(description="its windows waited so long for the model")
    front_end: float = Field(description="windows to log-mel; 0 where the model does that")
    model: float = Field(description="windows or log-mel to embeddings, shared with others that came at the same time")


class Level(BaseModel):
    """How loud a sound is."""

    level_dbfs: float = Field(
        ge=LOWEST_DBFS,
        description="peak level in dB of full scale: 20 log10 of the largest sample, mono at the model's rate; "
        f"{LOWEST_DBFS:g} for digital silence",
        examples=[-3.1],
    )
    silent: bool = Field(
        description=f"level_dbfs is below {SILENT_DBFS:g}: too soft for the model, whose ranking says nothing then"
    )


class Heard(Level):
    """The recording as it came."""

    duration_s: float = Field(examples=[5.0])
    rate_hz: int = Field(examples=[44_100])
    channels: int = Field(examples=[1])
    embedding_space: str = Field(
        description="embeddings compare only where this is equal", examples=["c5bcdf06b371a5a6..."]
    )
    warnings: list[str] = Field(
        description="what of the recording could not be read; empty: all was read",
        examples=[["audio: cut off: 2.4 of 5.0 s are there, and were read"]],
    )
    timings_ms: Timings = Field(
        examples=[{"decode": 1.9, "resample": 0.8, "front_end": 0.7, "queue": 0.1, "model": 4.5}]
    )


class WindowEmbedding(Level):
    """The embedding of one stretch of a recording."""

    start_s: float = Field(description="in the recording, in seconds", examples=[4.8])
    embedding: list[float] = Field(examples=[[0.25, -1.5]])


class EmbedResponse(Heard):
    """One embedding for a recording: the mean of its windows'."""

    embedding: list[float] = Field(description="128 numbers, each exactly the model's float32", examples=[[0.25, -1.5]])
    windows: list[WindowEmbedding] | None = Field(None, description="with ?windows=true, else null")


class RankedLabel(BaseModel):
    """A class and how likely it is."""

    label: str = Field(examples=["dog"])
    score: float = Field(description="probability; those of one answer sum to 1", examples=[0.93])
    seen: bool = Field(description="the network was trained on this class")


class ClassifyResponse(Heard):
    """The classes, likeliest first."""

    ranking: list[RankedLabel]
    offset: float
    unknown_words: dict[str, list[str]] = Field(
        description="labels that the text model knows only in part, and the words that it does not know",
        examples=[{"rain on a zzyx": ["zzyx"]}],
    )


class FileFailure(BaseModel):
    """One file of several that could not be used."""

    file: str = Field(description="its name in the form", examples=["notes.txt"])
    error: str = Field(description="what came, what was wanted, the way out")
    status: int = Field(description="the status that this file alone would have been answered with", examples=[415])


class EmbeddedFile(EmbedResponse):
    """One file of several."""

    file: str = Field(description="its name in the form", examples=["dog.ogg"])


class ClassifiedFile(ClassifyResponse):
    """One file of several."""

    file: str = Field(description="its name in the form", examples=["dog.ogg"])


class EmbedResponses(BaseModel):
    """What the files of a list gave, in their order. One that cannot be used does not stop the others."""

    results: list[EmbeddedFile | FileFailure]


class ClassifyResponses(BaseModel):
    """What the files of a list gave, in their order. One that cannot be used does not stop the others."""

    results: list[ClassifiedFile | FileFailure]


class ModelClass(BaseModel):
    """A class that the bundle can name."""

    label: str = Field(examples=["dog"])
    seen: bool = Field(description="the network was trained on it")


class ModelResponse(BaseModel):
    """What serves: the bundle's manifest and what runs it."""

    network: str = Field(examples=["yamnet"])
    objective: str
    dataset: str = Field(examples=["ESC-50"])
    split: str = Field(examples=["fold04"])
    classes: list[ModelClass]
    window: dict[str, int] = Field(examples=[{"rate_hz": 16000, "samples": 77040, "hop_samples": 76800}])
    front_end: dict[str, Any]
    embedding_size: int = Field(examples=[128])
    embedding_space: str
    scores: dict[str, float] = Field(description="accuracies of the trained model, 0 to 1")
    license: str = Field(description="of the recordings that the weights were learned from")
    git_commit: str
    schema_version: int
    files: dict[str, Any] = Field(description="size in bytes and SHA-256 of each of the bundle's files")
    typed_labels: bool = Field(description="labels may be any words")
    backend: str = Field(examples=["onnxruntime"])
    precision: str = Field(examples=["fp32"])
    providers: list[str] = Field(examples=[["CPUExecutionProvider"]])
    versions: dict[str, str]


class Health(BaseModel):
    """The server can answer."""

    status: str = Field(examples=["ok"])


class Failure(BaseModel):
    """Every answer that is not 200."""

    error: str = Field(
        description="what came, what was wanted, the way out",
        examples=["audio: has no samples; send a recording of at least one sample"],
    )
    request_id: str = Field(description="as in the header x-request-id", examples=["3f2a9c1d7b60"])
