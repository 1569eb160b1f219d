"""How a report looks: on a telephone, on a screen, light and dark, and on paper."""

from arcsm_cli.reporting.drawing import ROW

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1d2329; --soft: #5a6570; --paper: #fff; --line: #d9dee3; --band: #f4f6f8;
  --accent: #0063a0; --other: #b34700;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ec; --soft: #a3adb7; --paper: #15191d; --line: #39424b; --band: #1f252b;
    --accent: #6cb8ee; --other: #f0985a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem 1rem 3rem; max-width: 60rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.5rem 0 .25rem; padding-top: .75rem;
     border-top: 1px solid var(--line); }
p { margin: .5rem 0; }
.what, small, caption, footer { color: var(--soft); }
a { color: var(--accent); }
code { font-family: ui-monospace, monospace; font-size: .875em; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .25rem; font-size: .9rem; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top;
         border-bottom: 1px solid var(--line); overflow-wrap: normal; }
td:first-child, th:first-child { min-width: 6rem; overflow-wrap: anywhere; }
th { font-weight: 600; }
.number { text-align: right; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .1rem 1rem;
     margin: 1rem 0; }
dt { color: var(--soft); }
dd { margin: 0; }
.figure { margin: 1rem 0; overflow-x: auto; }
.figure img { display: block; width: 100%; height: auto; border-radius: 4px; background: #fff; }
.chart img { max-width: 30rem; padding: .25rem; border: 1px solid var(--line); }
.broad img { max-width: 42rem; min-width: 34rem; }
.images img { max-width: 34rem; }
.graph { margin: 1rem 0; }
.graph path { fill: none; stroke: var(--soft); stroke-width: 1.5; }
.graph path.guessed { stroke-dasharray: 4 4; }
.graph rect { fill: var(--accent); }
.graph circle { fill: var(--paper); stroke: var(--soft); stroke-width: 1.5; }
.graph circle.hand { fill: var(--other); stroke: var(--other); }
.row { height: ROWpx; display: flex; align-items: center; gap: .5rem; }
.row svg { flex: none; display: block; }
.row div { min-width: 0; }
.row div > * { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
               line-height: 1.35; }
.row small { font-size: .8rem; }
.commands { padding-left: 1.5rem; }
.commands li { margin: .75rem 0; }
.commands > li > code { display: block; padding: .4rem .6rem; background: var(--band);
                        border-radius: 4px; }
.commands small { display: block; }
footer { margin-top: 3rem; padding-top: .75rem; border-top: 1px solid var(--line);
         font-size: .875rem; }
@media (max-width: 30rem) {
  table { font-size: .85rem; }
  th, td { padding-right: .5rem; }
  td:first-child, th:first-child { min-width: 5.25rem; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --line: #bbb;
          --band: #f2f2f2; --accent: #00507f; --other: #a03f00; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  a { text-decoration: none; }
  h2, .what { break-after: avoid; }
  h2 { margin-top: 1.5rem; }
  .figure, .row, li, tr, dl { break-inside: avoid; }
  .wide, .figure { overflow: visible; }
  .chart img, .images img { width: auto; max-width: 11cm; max-height: 11cm; }
  .broad img { max-width: 16cm; min-width: 0; }
  .graph rect, .graph circle { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
@page { margin: 1.5cm; }
""".replace("ROW", str(ROW))
