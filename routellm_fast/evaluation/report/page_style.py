"""How the report looks: one style sheet, light and dark, with the colours of its pictures."""

from __future__ import annotations

from typing import Final

from routellm_fast.evaluation.report.plot_style import GRID, INK, MUTED, SERIES, SURFACE

_DARK_SERIES: Final = ("#5ab4f0", "#ff9a52", "#35c99d", "#e296c9", "#dcb13c", "#a3b6ff")

_LIGHT: Final = {
    "ink": INK, "muted": MUTED, "grid": GRID, "surface": SURFACE, "page": "#f6f7f9", "line": "#dfe3e8",
    "accent": SERIES[0], "wash": "#eef4fa",
    **{f"series-{index}": color for index, color in enumerate(SERIES, start=1)},
}  # fmt: skip
_DARK: Final = {
    "ink": "#e8eaed", "muted": "#a0a8b3", "grid": "#333a44", "surface": "#1b1f26", "page": "#12151a", "line": "#303741",
    "accent": _DARK_SERIES[0], "wash": "#1d2a38",
    **{f"series-{index}": color for index, color in enumerate(_DARK_SERIES, start=1)},
}  # fmt: skip


def _variables(colors: dict[str, str]) -> str:
    return " ".join(f"--{name}: {color};" for name, color in colors.items())


STYLE: Final = f"""
:root {{ color-scheme: light dark; {_variables(_LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(_DARK)} }} }}
@media print {{ :root {{ {_variables(_LIGHT)} }} }}
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }}
body {{ margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
main, header, footer {{ max-width: 72rem; margin: 0 auto; padding: 0 1rem; }}
header {{ padding-top: 2.2rem; }}
footer {{ padding-bottom: 3rem; color: var(--muted); font-size: .875rem; }}
h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }}
h2 {{ font-size: 1.3rem; margin: 0 0 .4rem; }}
h3 {{ font-size: 1.02rem; margin: 1.8rem 0 .5rem; }}
p {{ margin: .4rem 0 .8rem; }}
a {{ color: var(--accent); }}
nav ul {{ list-style: none; display: flex; flex-wrap: wrap; gap: .4rem .5rem; padding: 0; margin: .9rem 0 1.2rem; }}
nav a {{ display: inline-block; padding: .2rem .75rem; border: 1px solid var(--line); border-radius: 1rem;
  background: var(--surface); text-decoration: none; overflow-wrap: anywhere; }}
a:focus-visible, summary:focus-visible, .scroll:focus-visible {{ outline: 2px solid var(--accent);
  outline-offset: 2px; }}
section {{ background: var(--surface); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.2rem 1.3rem 1.4rem; margin: 0 0 1.3rem; }}
.lead, .facts, figcaption, caption {{ color: var(--muted); }}
.facts {{ overflow-wrap: anywhere; }}
.note {{ background: var(--wash); border-left: 3px solid var(--accent); border-radius: .25rem; padding: .45rem .8rem;
  margin: .6rem 0; }}
.scroll {{ overflow-x: auto; margin: .6rem 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }}
caption span {{ display: block; position: sticky; left: 0; max-width: calc(100vw - 4.6rem); }}
caption {{ text-align: left; font-size: .85rem; padding-bottom: .4rem; caption-side: top; }}
th, td {{ padding: .42rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  vertical-align: top; }}
thead th {{ color: var(--muted); font-weight: 600; vertical-align: bottom; white-space: normal; line-height: 1.3; }}
th:first-child, td.text, .words th, .words td {{ text-align: left; }}
tbody th {{ font-weight: 600; min-width: 9rem; max-width: 18rem; white-space: normal; overflow-wrap: anywhere; }}
tr.baseline th, tr.bound th, tr.single th {{ font-weight: 400; }}
tr.baseline td, tr.bound td, tr.single td, tr.baseline th, tr.bound th, tr.single th {{ color: var(--muted); }}
td.best {{ font-weight: 700; }}
td small {{ display: block; color: var(--muted); font-size: .78em; font-weight: 400; line-height: 1.3; }}
td.digest {{ white-space: normal; overflow-wrap: anywhere; min-width: 9rem; font-family: ui-monospace, Menlo, Consolas,
  monospace; font-size: .8rem; }}
td.wrap {{ white-space: normal; overflow-wrap: anywhere; text-align: left; }}
figure {{ margin: 1.2rem 0 1.6rem; }}
figure svg {{ display: block; width: 100%; max-width: 46rem; height: auto; margin: 0 auto; }}
figure svg.narrow {{ display: none; }}
.verdict {{ font-size: 1.05rem; font-weight: 600; margin: 1.6rem 0 .3rem; overflow-wrap: anywhere; }}
.reasons {{ margin: .2rem 0 .8rem; padding-left: 1.2rem; overflow-wrap: anywhere; }}
.reasons li {{ margin: .25rem 0; }}
figcaption {{ max-width: 46rem; margin: .4rem auto 0; font-size: .875rem; }}
details {{ margin: 1rem 0; }}
summary {{ cursor: pointer; font-weight: 600; }}
dt {{ font-weight: 600; margin-top: .7rem; }}
dd {{ margin: .1rem 0 0; color: var(--ink); }}
.swatch {{ display: inline-block; width: .75em; height: .75em; border-radius: 50%; margin-right: .5em; }}
@media (max-width: 40rem) {{
  body {{ font-size: 15px; }}
  main, header, footer {{ padding-left: .6rem; padding-right: .6rem; }}
  section {{ padding: .9rem .8rem 1rem; border-radius: .5rem; }}
  table {{ font-size: .8rem; }}
  th, td {{ padding: .4rem .22rem; }}
  tbody th {{ min-width: 5.2rem; }}
  figure svg.wide {{ display: none; }}
  figure svg.narrow {{ display: block; }}
}}
@media print {{ section {{ break-inside: auto; }} figure {{ break-inside: avoid; }} body {{ background: none; }} }}
"""
