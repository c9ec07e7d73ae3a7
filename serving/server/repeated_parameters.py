"""Refuse a query that gives a parameter of one value twice: the framework would read the last value only."""

from collections import Counter
from typing import Any, get_args, get_origin

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException


def no_repeats(query: type[BaseModel]) -> Any:
    """A dependency of a route: HTTPException 400 if a parameter is repeated that is not a list.

    query   the route's parameters
    """
    single = {field.alias or name for name, field in query.model_fields.items() if not _is_list(field.annotation)}

    async def refuse(request: Request) -> None:
        counts = Counter(name for name, _ in request.query_params.multi_items())
        if repeated := [name for name, count in counts.items() if count > 1 and name in single]:
            name = repeated[0]
            raise HTTPException(400, f"{name}: got {counts[name]} values; wanted one: give the parameter once")

    return Depends(refuse)


def _is_list(annotation: Any) -> bool:
    """Whether a type is list[...], or has it as an alternative."""
    return get_origin(annotation) is list or any(map(_is_list, get_args(annotation)))
