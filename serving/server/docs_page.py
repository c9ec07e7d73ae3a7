"""/docs: the OpenAPI description as one HTML page without scripts and without resources from other hosts."""

import json
import re
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5dae1 }
code, pre { font: 14px/1.45 ui-monospace, monospace; background: #f3f5f8; border-radius: 4px }
code { padding: .1em .3em } pre { padding: .8em; overflow-x: auto } pre code { padding: 0 }
table { border-collapse: collapse } td, th { text-align: left; vertical-align: top; padding: .2em 1em .2em 0 }
form { margin: 1rem 0 } .method { color: #1f6feb }
@media (prefers-color-scheme: dark) {
  body { background: #14181e; color: #dde3ea } code, pre { background: #212831 } h2 { border-color: #39424e }
}
"""


def render_docs(openapi: dict[str, Any], with_keys: bool) -> str:
    """The page.

    openapi    as FastAPI makes it
    with_keys  requests need an API key: then the page has no forms, because a browser would not send the key
    """
    schemas = openapi["components"]["schemas"]
    operations = [
        _operation(method, path, operation, schemas, with_keys)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    title = escape(openapi["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>{title}</h1>'
        f"{_paragraphs(openapi['info']['description'])}"
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(operations)}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any], with_keys: bool) -> str:
    takes_file = "multipart/form-data" in operation.get("requestBody", {}).get("content", {})
    parts = [
        f'<h2><span class="method">{method.upper()}</span> {escape(path)}</h2><p>{escape(operation["summary"])}</p>',
        _paragraphs(operation.get("requestBody", {}).get("description", "")),
        _table("parameter", {p["name"]: p.get("description", "") for p in operation.get("parameters", [])}),
        f"<pre><code>{escape(_curl(method, path, takes_file, with_keys))}</code></pre>",
    ]
    if takes_file and not with_keys:
        parts.append(
            f'<form method="post" enctype="multipart/form-data" action="{escape(path)[1:]}">'
            '<input type="file" name="file" accept="audio/*" required> <button>try it</button></form>'
        )
    for content in operation["responses"].get("200", {}).get("content", {}).values():
        if (example := _example(content.get("schema", {}), schemas)) is not None:
            parts.append(f"<pre><code>{escape(json.dumps(example, indent=1))}</code></pre>")
    parts.append(_table("status", {code: text["description"] for code, text in operation["responses"].items()}))
    return "".join(parts)


def _curl(method: str, path: str, takes_file: bool, with_keys: bool) -> str:
    key = "-H 'Authorization: Bearer KEY' " if with_keys else ""
    data = "--data-binary @dog.ogg " if takes_file else "-d @request.json " if method == "post" else ""
    return f"curl {key}{data}http://127.0.0.1:8000{path}"


def _table(kind: str, rows: dict[str, str]) -> str:
    if not rows:
        return ""
    cells = (f"<tr><td><code>{escape(name)}</code></td><td>{_inline(text)}</td></tr>" for name, text in rows.items())
    return f"<table><tr><th>{kind}</th><th></th></tr>{''.join(cells)}</table>"


def _paragraphs(text: str) -> str:
    """Paragraphs. An indented one becomes code."""
    blocks = (block for block in text.split("\n\n") if block)
    return "".join(
        f"<pre><code>{escape(block.strip())}</code></pre>" if block.startswith("    ") else f"<p>{_inline(block)}</p>"
        for block in blocks
    )


def _inline(text: str) -> str:
    """A line of text. Text between backticks becomes code."""
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(text), flags=re.DOTALL)


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """A value that fits a schema: its own example if it has one. None: the schema does not say enough."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], schemas)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties")
            return properties and {name: _example(value, schemas) for name, value in properties.items()}
        case "array":
            return [_example(schema["items"], schemas)]
        case "boolean":
            return True
        case "integer" | "number":
            return 0
        case "string" if schema.get("format") != "binary":
            return "..."
    return None
