//! How a page looks, on a screen and on paper. Invariant: it asks for no font and no picture from anywhere.

pub(super) const STYLE: &str = "\
:root { --ink: #1c2127; --soft: #5b6570; --line: #d5dae0; --shade: #f4f6f8; --good: #1b6e3c; --fair: #8a5a00; --poor: #a3231f; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif; color: var(--ink); max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 2px solid var(--ink); padding-bottom: .2rem; }
h3 { font: 600 .95rem/1.4 ui-monospace, 'DejaVu Sans Mono', monospace; margin: 1.1rem 0 .2rem; overflow-wrap: anywhere; }
p { margin: .3rem 0 .6rem; }
.note, footer { color: var(--soft); font-size: .9rem; }
table { width: 100%; border-collapse: collapse; margin: .5rem 0 1rem; font-size: .88rem; }
th { text-align: left; font-weight: 600; background: var(--shade); }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
table.facts { width: auto; font-size: .95rem; }
table.narrow { width: auto; }
table.facts th { background: none; color: var(--soft); font-weight: 400; white-space: nowrap; padding-left: 0; }
.time, .number, .kind { white-space: nowrap; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
.by { width: 22%; min-width: 9rem; }
.status { min-width: 11rem; } .tight { white-space: nowrap; overflow-wrap: normal; }
tr.lacks .status { color: var(--poor); }
tr.has .status { color: var(--good); }
.whole { white-space: nowrap; }
.mono, code { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: .82rem; }
.score { font-size: 1.05rem; } .score strong { font-size: 2rem; }
.score.good strong { color: var(--good); } .score.fair strong { color: var(--fair); } .score.poor strong { color: var(--poor); }
.questions li { margin: .5rem 0; }
.clause { font-weight: 600; white-space: nowrap; }
.answer { border-bottom: 1px dotted var(--soft); height: 1.6rem; }
article ul { margin: .2rem 0; padding-left: 1.2rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .6rem; }
@page { size: A4; margin: 16mm 14mm 18mm; }
@media print {
  body { font-size: 9.5pt; max-width: none; margin: 0; padding: 0; }
  h1 { font-size: 17pt; } h2 { font-size: 12.5pt; margin-top: 14pt; break-after: avoid; } h3 { font-size: 9pt; break-after: avoid; }
  table { font-size: 8.3pt; } thead { display: table-header-group; }
  tr, article, .questions li { break-inside: avoid; }
  th { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  .by { width: 26%; min-width: 34mm; }
}
";
