"""The one style sheet of all pages: system fonts, two colour schemes, tables that scroll by themselves on a narrow screen."""

from __future__ import annotations

# shades of a word's background, beside none at all
SHADES = 8
_SHADES = "".join(
    f".s{step}{{background:rgb(59 116 196/{0.8 * step / SHADES:.2g})}}" for step in range(1, SHADES + 1)
)

STYLE = (
    """
:root{--ink:#1c1f24;--soft:#5b6470;--paper:#fff;--panel:#f4f5f7;--line:#dcdfe4;--bar:#3b74c4;--mark:#17365f;
--good:#1d7d46;--note:#5b6470;--warning:#9a6200;--problem:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a2abb6;--paper:#15181c;--panel:#1f2329;--line:#373d46;
--bar:#5f97e0;--mark:#d5e5fb;--good:#5fc389;--note:#a2abb6;--warning:#e0a84a;--problem:#f28b82}}
*{box-sizing:border-box}
body{margin:0;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:.2em 0 .6em;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.2em 0 .6em;padding-top:.6em;border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.6em 0 .5em}
p,li{overflow-wrap:anywhere}
.key{font-size:1.2rem;font-weight:600}
.wide{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .7rem .35rem 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{color:var(--soft);font-weight:600;vertical-align:bottom}
td{overflow-wrap:break-word}
td:not(.n){min-width:6.2rem}
.n{text-align:right;white-space:nowrap}
pre{margin:.6rem 0;padding:.8rem;background:var(--panel);border-radius:6px;font:.85rem/1.45 ui-monospace,monospace;
white-space:pre-wrap;overflow-wrap:anywhere}
details{margin:.5rem 0;border:1px solid var(--line);border-radius:6px;padding:.5rem .8rem}
details details{border:0;padding:.2rem 0}
summary{cursor:pointer;overflow-wrap:anywhere}
.notice{margin:.5rem 0;padding:.5rem .8rem;border-left:4px solid var(--note);background:var(--panel);border-radius:0 6px 6px 0}
.notice b{color:var(--note)}.notice span{color:var(--soft)}
.notice.good{border-color:var(--good)}.notice.good b{color:var(--good)}
.notice.warning{border-color:var(--warning)}.notice.warning b{color:var(--warning)}
.notice.problem{border-color:var(--problem)}.notice.problem b{color:var(--problem)}
.bars{margin:1rem 0;font-size:.9rem}
.bar{display:grid;grid-template:"name plot value"/minmax(0,11rem) minmax(0,1fr) 12.5rem;gap:.1rem .9rem;align-items:center;
margin:.3rem 0}
.bar .name{grid-area:name;overflow-wrap:anywhere}.bar .plot{grid-area:plot}
.bar .value{grid-area:value;text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
small{color:var(--soft)}
.bars svg{display:block;width:100%;height:1.3rem}
.axis .plot{display:flex;justify-content:space-between;color:var(--soft);font-size:.75rem}
.bars rect{fill:var(--bar)}.bars .track{fill:var(--panel)}
.bars line{stroke:var(--mark);stroke-width:2}.bars .zero{stroke:var(--soft);stroke-width:1}
img{max-width:100%;background:#fff;border-radius:6px}
.shaded{line-height:1.9}
.shaded i{font-style:normal;white-space:pre-wrap;padding:.1em .18em;margin:0 .06em;border-radius:3px}
.beside{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:0 2rem}
@media(max-width:40rem){main{padding:1rem .8rem 3rem}
.bar{grid-template:"name value" "plot plot"/minmax(0,1fr) max-content;margin:.6rem 0}.bar.axis{margin:0}
.beside{grid-template-columns:minmax(0,1fr)}}
@media print{details{break-inside:avoid}.shaded i{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
    + _SHADES
)
