"""The style of the page, for light and dark, and the script that gives charts the page's colours."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5c656e; --page: #ffffff; --card: #f5f6f8; --line: #dfe2e6;
  --good: #117a57; --bad: #c11f32; --accent: #2f64c4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #9aa4ae; --page: #15181c; --card: #1e2227;
  --line: #33393f; --good: #45c493; --bad: #ff6b78; --accent: #86aef5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 24px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 18px; margin: 32px 0 8px; }
p { margin: 4px 0; } .soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(155px, 1fr)); gap: 10px; margin: 16px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }
.tile b { display: block; font-size: 20px; font-weight: 600; } .tile span { color: var(--soft); font-size: 13px; }
ol.advice { padding-left: 22px; } ol.advice li { margin: 6px 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; } td.number, th.number { text-align: right; }
td.bar { width: 40%; } td.bar i { display: block; height: 12px; margin-top: 5px; background: var(--accent);
  border-radius: 2px; min-width: 1px; }
.legend span { margin-right: 16px; white-space: nowrap; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 5px;
  vertical-align: -1px; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px; overflow: auto;
  font-size: 12px; max-height: 420px; }
details { margin: 6px 0; } summary { cursor: pointer; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
"""

SCRIPT = """
(function () {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  addEventListener("error", (event) => { root.dataset.error = event.message; });
  function paint() {
    const style = getComputedStyle(root);
    const ink = style.getPropertyValue("--ink").trim(), soft = style.getPropertyValue("--soft").trim();
    const line = style.getPropertyValue("--line").trim();
    const looks = {
      LinearAxis: { axis_label_text_color: ink, major_label_text_color: soft, axis_line_color: line,
        major_tick_line_color: line },
      Grid: { grid_line_color: line },
      Legend: { label_text_color: ink },
    };
    looks.LogAxis = looks.LinearAxis;
    for (const each of Bokeh.documents)
      for (const model of each.all_models)
        // A grid without a colour has been switched off.
        if (looks[model.type] && model.grid_line_color !== null) model.setv(looks[model.type]);
    root.dataset.painted = dark.matches ? "dark" : "light";
  }
  const started = Date.now();
  function paintWhenDrawn() {
    const wanted = document.querySelectorAll("[data-root-id]").length;
    if (Bokeh.documents.length && Object.keys(Bokeh.index).length !== 0 || !wanted) paint();
    else if (Date.now() - started < 60000) setTimeout(paintWhenDrawn, 20);
  }
  dark.addEventListener("change", paint);
  if (document.readyState !== "loading") paintWhenDrawn();
  else document.addEventListener("DOMContentLoaded", paintWhenDrawn);
})();
"""
