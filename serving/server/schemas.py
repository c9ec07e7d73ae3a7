"""The parameters and response bodies of the server, as OpenAPI describes them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serving.audio import LOWEST_DBFS, SILENT_DBFS
from serving.zeroshot import LARGEST_OFFSET


class EmbedQuery(BaseModel):
    """Parameters of /v1/embed."""

    model_config = ConfigDict(extra="forbid")

    windows: bool = Field(False, description="also return each window's embedding and its start")


class ClassifyQuery(BaseModel):
    """Parameters of /v1/classify."""

    model_config = ConfigDict(extra="forbid")

    labels: list[str] | None = Field(
        None,
        description="the labels to rank, separated by commas: classes of the bundle, or any English words if it has a "
        "text model (see typed_labels of /v1/model). A label that contains a comma needs double quotes "
        '(`"Dog, barking",rain`), unless it is the name of a class. If the parameter is repeated, each value is one '
        "label. Default: every class of the bundle",
        examples=["dog,rain"],
    )
    offset: float | None = Field(
        None,
        ge=-LARGEST_OFFSET,
        le=LARGEST_OFFSET,
        allow_inf_nan=False,
        description="subtracted from the scores of classes seen in training, which otherwise outrank unseen ones. "
        "Default: the bundle's own for these labels, 0 where the training chose none",
    )


class SearchQuery(BaseModel):
    """Parameters of /v1/search."""

    model_config = ConfigDict(extra="forbid")

    words: str | None = Field(
        None,
        description="what is looked for: a class of the bundle, or any English words if it has a text model. With a "
        "recording it may be left out",
        examples=["rain on a tin roof"],
    )
    also: list[str] = Field(
        [], alias="and", description="what has to be heard at the same time; may be repeated", examples=[["thunder"]]
    )
    without: list[str] = Field(
        [], alias="not", description="what must not be heard; may be repeated", examples=[["a person talks"]]
    )
    top: int = Field(10, ge=1, le=1000, description="most results")

    @property
    def texts(self) -> list[str]:
        """All texts, with those that must not be heard at the end."""
        return [*([] if self.words is None else [self.words]), *self.also, *self.without]


class Timings(BaseModel):
    """The time of each stage, in milliseconds."""

    decode: float = Field(description="the file's bytes to samples")
    resample: float = Field(description="mix to mono, resample and cut into windows")
    queue: float = Field(description="waiting for the model")
    front_end: float = Field(description="windows to log-mel; 0 if the model does that")
    model: float = Field(description="windows or log-mel to embeddings, in batches shared with other requests")


class Level(BaseModel):
    """The level of a sound."""

    level_dbfs: float = Field(
        ge=LOWEST_DBFS,
        description="peak level in dB of full scale: 20 log10 of the largest sample, mono at the model's rate; "
        f"{LOWEST_DBFS:g} for digital silence",
        examples=[-3.1],
    )
    silent: bool = Field(
        description=f"level_dbfs is below {SILENT_DBFS:g}: too soft for the model, so that its ranking means nothing"
    )


class RecordingFields(Level):
    """The recording as received."""

    duration_s: float = Field(examples=[5.0])
    rate_hz: int = Field(examples=[44_100])
    channels: int = Field(examples=[1])
    embedding_space: str = Field(
        description="embeddings can be compared only if this is equal", examples=["c5bcdf06b371a5a6..."]
    )
    warnings: list[str] = Field(
        description="parts of the recording that could not be read; empty: everything was read",
        examples=[["audio: cut off: 2.4 of 5.0 s are there, and were read"]],
    )
    timings_ms: Timings = Field(
        examples=[{"decode": 1.9, "resample": 0.8, "front_end": 0.7, "queue": 0.1, "model": 4.5}]
    )


class WindowEmbedding(Level):
    """The embedding of one window of a recording."""

    start_s: float = Field(description="in the recording, in seconds", examples=[4.8])
    embedding: list[float] = Field(examples=[[0.25, -1.5]])


class EmbedResponse(RecordingFields):
    """One embedding for a recording: the mean of its windows' embeddings."""

    embedding: list[float] = Field(description="128 numbers, each exactly the model's float32", examples=[[0.25, -1.5]])
    windows: list[WindowEmbedding] | None = Field(None, description="with ?windows=true, else null")


class RankedLabel(BaseModel):
    """A class and its probability."""

    label: str = Field(examples=["dog"])
    score: float = Field(description="probability; those of one answer sum to 1", examples=[0.93])
    similarity: float = Field(
        description="of the sound to this label, about -1 to 1; below `threshold` the sound is not this label",
        examples=[0.41],
    )
    seen: bool = Field(description="the network was trained on this class")


class ClassifyResponse(RecordingFields):
    """The classes, most likely first, for the mean of the windows that are not silent."""

    ranking: list[RankedLabel]
    none_of_these: bool = Field(
        description="the sound is none of the labels: it is silent or even noise, or every similarity is below "
        "`threshold`. The probabilities are then those of the least wrong labels",
        examples=[False],
    )
    threshold: float | None = Field(
        description="the similarity from which a sound can be a label; null: the bundle has none, and only silence "
        "and, if the bundle knows it, even noise are none of these",
        examples=[0.19],
    )
    offset: float
    unknown_words: dict[str, list[str]] = Field(
        description="labels that contain words unknown to the text model, with these words",
        examples=[{"rain on a zzyx": ["zzyx"]}],
    )


class FoundSound(BaseModel):
    """A row of the index."""

    path: str = Field(description="of the recording, relative to its folder", examples=["june/20240601_053000.wav"])
    start_s: float = Field(description="where it is in the recording, in seconds", examples=[4.8])
    end_s: float = Field(examples=[9.6])
    score: float = Field(
        description="by which the rows are ordered: of the one thing that is looked for. Of several, in standard "
        "deviations above the mean of the index: the geometric mean of all that is wanted, less what `not` names",
        examples=[0.72],
    )
    scores: dict[str, float] = Field(
        description="for a sound the cosine of the embeddings less their mean; for a text the odds against all of the "
        "bundle's classes (1 and more: it fits better than all of them; of a class its probability), or the cosine if "
        "several things are wanted",
        examples=[{"rain on a tin roof": 0.72}],
    )
    recorded_at: str | None = Field(
        description="when the recording began, in ISO 8601; null: not known", examples=["2024-06-01T05:30:00.000Z"]
    )
    start_at: str | None = Field(description="when the row's sound began", examples=["2024-06-01T05:30:04.800Z"])
    end_at: str | None = Field(description="when it ended", examples=["2024-06-01T05:30:09.600Z"])


class SearchResponse(BaseModel):
    """The rows of the index that were found, best first."""

    found: list[FoundSound]
    rows: int = Field(description="of the index", examples=[1_000_000])
    unknown_words: dict[str, list[str]] = Field(
        description="texts that contain words unknown to the text model, with these words", examples=[{}]
    )


class SoundSearchResponse(RecordingFields, SearchResponse):
    """What was found for a recording."""


class FileSearch(SoundSearchResponse):
    """One file of several."""

    file: str = Field(description="its name in the form", examples=["dog.ogg"])


class FileFailure(BaseModel):
    """One file of several that could not be used."""

    file: str = Field(description="its name in the form", examples=["notes.txt"])
    error: str = Field(description="what was received, what is wanted, what to do")
    status: int = Field(description="the status of a request with this file alone", examples=[415])


class FileEmbedding(EmbedResponse):
    """One file of several."""

    file: str = Field(description="its name in the form", examples=["dog.ogg"])


class FileRanking(ClassifyResponse):
    """One file of several."""

    file: str = Field(description="its name in the form", examples=["dog.ogg"])


class EmbedResponses(BaseModel):
    """The results of a list of files, in their order. A file that cannot be used does not stop the others."""

    results: list[FileEmbedding | FileFailure]


class ClassifyResponses(BaseModel):
    """The results of a list of files, in their order. A file that cannot be used does not stop the others."""

    results: list[FileRanking | FileFailure]


class SearchResponses(BaseModel):
    """The results of a list of files, in their order. A file that cannot be used does not stop the others."""

    results: list[FileSearch | FileFailure]


class ModelClass(BaseModel):
    """A class of the bundle."""

    label: str = Field(examples=["dog"])
    seen: bool = Field(description="the network was trained on it")


class ModelResponse(BaseModel):
    """The bundle's manifest and what runs the model."""

    network: str = Field(examples=["yamnet"])
    objective: str
    dataset: str = Field(examples=["ESC-50"])
    split: str = Field(examples=["fold04"])
    classes: list[ModelClass]
    window: dict[str, int] = Field(examples=[{"rate_hz": 16000, "samples": 77040, "hop_samples": 76800}])
    front_end: dict[str, Any]
    embedding_size: int = Field(examples=[128])
    embedding_space: str
    scores: dict[str, float | dict[str, float]] = Field(
        description="accuracies of the trained model and other shares, 0 to 1; some by the number of labels",
        examples=[{"seen_accuracy": 0.84, "unseen_top1": {"2": 0.94, "10": 0.65}}],
    )
    license: str = Field(description="of the recordings that the network was trained on")
    git_commit: str
    schema_version: int
    files: dict[str, Any] = Field(description="size in bytes and SHA-256 of each of the bundle's files")
    typed_labels: bool = Field(description="labels may be any English words")
    backend: str = Field(examples=["onnxruntime"])
    precision: str = Field(examples=["fp32"])
    providers: list[str] = Field(examples=[["CPUExecutionProvider"]])
    versions: dict[str, str]


class Health(BaseModel):
    """The server answers."""

    status: str = Field(examples=["ok"])


class ErrorResponse(BaseModel):
    """Every response that is not 200."""

    error: str = Field(
        description="what was received, what is wanted, what to do",
        examples=["audio: has no samples; wanted at least one"],
    )
    request_id: str = Field(description="as in the header x-request-id", examples=["3f2a9c1d7b60"])


# status -> its cause, for OpenAPI
ERROR_CAUSES = {
    400: "empty, an incomplete multipart form, not compressed as declared, or a parameter of one value given twice",
    401: "no valid API key, if the server wants one",
    404: "another model or version, or no index to search",
    408: "the upload took too long",
    413: "too large, or too long",
    415: "not a readable audio file, or a compression other than gzip and deflate",
    422: "no samples, samples that are not sound, a wrong parameter, or too many scores for several files",
    429: "too busy; the header retry-after says in how many seconds to try again",
    500: "a fault of the server, logged under the request's id",
    503: "shutting down, or not answered in time",
}


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's responses for these statuses."""
    return {status: {"model": ErrorResponse, "description": ERROR_CAUSES[status]} for status in statuses}
