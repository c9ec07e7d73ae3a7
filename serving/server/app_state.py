"""What an application's routes find in its state.

FastAPI keeps the functions of the last 4096 routes for ever, also those of applications that a reload has replaced. So
no route's function holds a pipeline, or its model would never be freed.
"""

from fastapi import FastAPI, Request

from serving.server.pipeline import Pipeline


def set_pipeline(app: FastAPI, pipeline: Pipeline) -> None:
    """Let the application's routes use this pipeline."""
    app.state.pipeline = pipeline


def pipeline_of(request: Request) -> Pipeline:
    """The pipeline of the application that answers a request."""
    return request.app.state.pipeline


def drop_pipeline(app: FastAPI) -> None:
    """Release the pipeline: the application itself is in reference cycles, which Python looks at late."""
    del app.state.pipeline
