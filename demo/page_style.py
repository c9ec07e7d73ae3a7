"""The page's style sheet, and HTML elements that several tabs use."""

import html
from collections.abc import Sequence


def escape_name(name: str) -> str:
    """Escape a class name or file name for HTML, with spaces instead of underscores."""
    return html.escape(name.replace("_", " "))


def hint_card(text: str) -> str:
    """A card with a hint in place of a result. text: HTML."""
    return f'<div class="card hint"><p>{text}</p></div>'


def error_card(message: str) -> str:
    """A card with an error message in place of a result."""
    text = html.escape(message, quote=False)
    return f'<div class="card hint refused" role="alert"><p><b>No result.</b><br>{text}</p></div>'


def partly_read_card(warnings: Sequence[str]) -> str:
    """A card that says what of a recording could not be read; "" if all of it was read."""
    if not warnings:
        return ""
    text = "<br>".join(html.escape(line, quote=False) for line in warnings)
    return f'<div class="card refused" role="alert"><p><b>Only a part of it could be read.</b><br>{text}</p></div>'


def fact_line(*parts: str) -> str:
    """A line of short facts. parts: HTML."""
    return f'<p class="facts">{"".join(f"<span>{part}</span>" for part in parts)}</p>'


def colour(number: int, count: int) -> str:
    """The colour of class `number` of `count`, for a light or dark page. Neighbours differ in hue and lightness."""
    hue = (25 + 360 * number / max(count, 1)) % 360
    return f"hsl({hue:.0f} {70 if number % 2 else 55}% {46 if number % 2 else 60}%)"


# Gradio applies STYLE to components only. This one applies to the whole page.
FRAME_STYLE = """
.main.fillable { max-width: 1280px !important; }
@media (max-width: 640px) {
  footer .divider { display: none !important; }
  .main.fillable { padding-inline: 16px !important; }
}
"""
STYLE = """
.gradio-container { --unheard-accent: #d9480f; --unheard-unseen: #1971c2; --unheard-track: #f1f5f9;
  --body-text-color-subdued: #5b6b80; }
.dark .gradio-container, .gradio-container.dark { --unheard-accent: #ff922b; --unheard-unseen: #4dabf7;
  --unheard-track: #1e293b; --body-text-color-subdued: #94a3b8; }
.bare .html-container { padding: 0; }
.card { border: 1px solid var(--border-color-primary); border-radius: var(--block-radius);
  background: var(--block-background-fill); padding: 18px; color: var(--body-text-color); }
.card p { line-height: 1.5; }
header h1 { font-size: 30px; font-weight: 700; letter-spacing: -.02em; margin: 0; color: var(--body-text-color); }
header p { margin: 4px 0 14px; font-size: 16px; color: var(--body-text-color-subdued); }
header dl { display: flex; flex-wrap: wrap; gap: 6px 28px; margin: 0; font-size: 14px; }
header dl div { display: flex; gap: 6px; }
header dt { color: var(--body-text-color-subdued); }
header dd { margin: 0; font-weight: 600; color: var(--body-text-color); }
.sound { --neutral-400: var(--body-text-color-subdued); }
.sound .upload-container > .wrap { min-height: 150px; }
.sound [data-testid=source-select] { gap: 24px; padding-block: 8px; height: auto; }
.sound [data-testid=source-select] button { width: auto; height: 24px; display: flex; gap: 8px; align-items: center; }
.sound [data-testid=source-select] svg { width: 18px; height: 18px; }
.sound [data-testid=source-select] button::after { content: "Upload"; font-size: 14px; }
.sound [data-testid=source-select] button + button::after { content: "Record"; }
.hint { border-style: dashed; display: grid; place-content: center; min-height: 220px; text-align: center; }
.hint p { color: var(--body-text-color-subdued); margin: 0; font-size: 15px; line-height: 1.6;
  overflow-wrap: anywhere; }
.hint code, .note code { font-size: 13px; overflow-wrap: anywhere; }
.refused { border-color: var(--unheard-accent); }
.refused p { color: var(--body-text-color); max-width: 60ch; }
.note { font-size: 14px; color: var(--body-text-color-subdued); margin: 0; }
.bars { list-style: none; margin: 0; padding: 0; display: grid; gap: 9px; }
.bars li { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 3px 12px; font-size: 14px; line-height: 1.3;
  margin: 0; color: var(--body-text-color-subdued); }
.bars li:first-child { font-size: 22px; font-weight: 650; color: var(--body-text-color); padding-bottom: 6px; }
.bars .label { overflow-wrap: anywhere; }
.bars .share { font-variant-numeric: tabular-nums; }
.bars .track { grid-column: 1 / -1; height: 6px; border-radius: 3px; background: var(--unheard-track);
  overflow: hidden; }
.bars li:first-child .track { height: 10px; border-radius: 5px; }
.bars .track i { display: block; height: 100%; min-width: 2px; border-radius: inherit; opacity: .55;
  background: var(--unheard-accent); }
.bars .unseen .track i { background: var(--unheard-unseen); }
.bars li:first-child .track i { opacity: 1; }
.mark { padding: 0 6px; border: 1px solid var(--unheard-unseen); border-radius: 9px; font-size: 12px; font-weight: 500;
  color: var(--unheard-unseen); white-space: nowrap; margin-left: 8px; vertical-align: 2px; }
.bars ~ p { margin: 12px 0 0; font-size: 13px; color: var(--body-text-color-subdued); }
.kinds { display: flex; flex-wrap: wrap; gap: 4px 18px; }
.kinds span::before { content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 3px;
  margin-right: 6px; background: var(--unheard-accent); }
.kinds .unseen::before { background: var(--unheard-unseen); }
.card .facts { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 14px 0 0; padding-top: 10px; font-size: 13px;
  border-top: 1px solid var(--border-color-primary); color: var(--body-text-color-subdued);
  font-variant-numeric: tabular-nums; }
.meter { display: inline-block; width: 72px; height: 8px; border-radius: 4px; background: var(--unheard-track);
  overflow: hidden; margin-inline: 4px; }
.meter i { display: block; height: 100%; background: var(--unheard-accent); }
.facts b { font-weight: 600; color: var(--body-text-color); }
.timeline { border: 1px solid var(--border-color-primary); border-radius: var(--block-radius);
  padding: 14px 32px 14px 74px; background: var(--block-background-fill); font-size: 13px;
  color: var(--body-text-color-subdued); }
.strip { position: relative; height: 30px; border-radius: 4px; background: var(--unheard-track); overflow: hidden; }
.strip span { position: absolute; top: 0; bottom: 0; display: flex; align-items: center; overflow: hidden;
  background: color-mix(in srgb, var(--c) var(--share), var(--block-background-fill)); box-sizing: border-box;
  border-bottom: 4px solid var(--c); border-right: 2px solid var(--block-background-fill); }
.strip em { font-style: normal; font-size: 12px; font-weight: 600; color: var(--body-text-color); padding-left: 6px;
  white-space: nowrap; }
.timeline summary { cursor: pointer; margin-top: 10px; }
.timeline ol { list-style: none; margin: 8px 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 22px; }
.timeline li { margin: 0; font-variant-numeric: tabular-nums; }
.timeline li i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
.timeline li b { color: var(--body-text-color); font-weight: 600; }
@media (max-width: 640px) {
  .tab-container button { padding-inline: 7px !important; font-size: 13px !important; }
  .sources { display: contents !important; }  /* order: sound, result, labels */
  .sources > * { width: 100%; }
  .answers { order: 1; }
  .naming { order: 2; }
  .card { padding: 14px; }
  header dl { gap: 4px 18px; font-size: 13px; }
  .timeline { padding: 14px 22px 14px 58px; }
}
"""
