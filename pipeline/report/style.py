"""The style sheet. Series colours follow Okabe and Ito's: each stands 3:1 from the background, and apart from the others
for eyes without red or green; text stands 4.5:1.

Nothing moves, and on paper the page is light whatever the screen is.
"""

CSS = """
:root { color-scheme: light dark; --bg: #fdfdfc; --ink: #1b1f23; --soft: #59636e; --line: #d5d9dd; --grid: #e4e7ea;
  --tint: #f3f5f6; --warn: #a33c00; --link: #0067a3;
  --c1: #0072b2; --c2: #d55e00; --c3: #00835f; --c4: #b4518e; --c5: #814500; --c6: #4d5761; }
@media screen and (prefers-color-scheme: dark) {
  :root { --bg: #14171a; --ink: #e3e6e9; --soft: #9aa4ae; --line: #363c43; --grid: #2b3036;
    --tint: #1d2125; --warn: #f2955f; --link: #6fbdf0;
    --c1: #4ba3dc; --c2: #ee8138; --c3: #2fbf94; --c4: #db8fbd; --c5: #e6a91f; --c6: #c5ccd3; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0 auto; max-width: 1000px; padding: 2.5rem 1.25rem 5rem; background: var(--bg); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
header { border-bottom: 1px solid var(--line); padding-bottom: 1.25rem; margin-bottom: 1.75rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .35rem; overflow-wrap: anywhere; text-wrap: balance; }
h2 { font-size: 1.35rem; margin: 3.25rem 0 .6rem; padding-top: .5rem; border-top: 1px solid var(--line); }
main section:first-child h2 { margin-top: 1.5rem; border: 0; }
h3 { font-size: 1.05rem; margin: 1.9rem 0 .5rem; overflow-wrap: anywhere; }
h4 { font-size: .95rem; margin: 1.4rem 0 .4rem; color: var(--soft); overflow-wrap: anywhere; }
p, ul { max-width: 46rem; margin: .6rem 0; text-wrap: pretty; } ul { padding-left: 1.2rem; }
li { margin: .2rem 0; overflow-wrap: anywhere; }
a { color: var(--link); text-underline-offset: .15em; } :focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -100vw; } .skip:focus { position: static; }
.sub, .note, figcaption { color: var(--soft); font-size: .875rem; } .warn { color: var(--warn); }
.headline p { font-size: 1.15rem; line-height: 1.5; max-width: none; margin: .7rem 0; }
.callout { border-left: 3px solid var(--warn); background: var(--tint); padding: .6rem 1rem; margin: 1.2rem 0;
  border-radius: 0 4px 4px 0; max-width: none; }
.callout > p { margin: .2rem 0; } .callout.plain { border-color: var(--c1); }
nav { font-size: .9rem; margin-top: 1.6rem; line-height: 1.9; } nav a { margin-right: 1.1rem; white-space: nowrap; }

.scroll { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; min-width: min(100%, 22rem); }
th, td { padding: .38rem .7rem; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line);
  unicode-bidi: isolate; max-width: 26rem; overflow-wrap: break-word; }
:is(th, td):not(.number):not(:first-child) { min-width: 5.5rem; }
th:first-child { position: sticky; left: 0; z-index: 1; background: var(--bg); padding-left: 0; }
tbody th { font-weight: 500; min-width: 7rem; }
thead th { font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--soft); vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; } td.number { white-space: nowrap; }
code, pre, td.code { font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; unicode-bidi: isolate; }
code { overflow-wrap: anywhere; } td.code { white-space: nowrap; }
pre { background: var(--tint); padding: .8rem 1rem; overflow-x: auto; max-height: 32rem; border-radius: 4px; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--link); font-size: .92rem; overflow-wrap: anywhere; }
details .scroll, details > :not(summary) { margin-left: 0; }
details:target { outline: 2px solid var(--link); outline-offset: .5rem; border-radius: 2px; }
details:target::details-content { content-visibility: visible; block-size: auto; }
dl { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: .3rem 1rem; font-size: .875rem; margin: .8rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }

.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1.5rem 2rem; }
.grid > figure:only-child, .wide { max-width: 34rem; }
.grid.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
figure { margin: .8rem 0; min-width: 0; break-inside: avoid; } figcaption { margin-bottom: .4rem; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
svg { display: block; width: 100%; height: auto; color: var(--ink); font-family: inherit; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg.swatch { display: inline-block; width: 1.9rem; height: .63rem; margin-right: .45rem; vertical-align: -.04rem; }
.legend { max-width: none; margin: .4rem 0; } .entry { display: inline-block; margin-right: 1.3rem; font-size: .875rem; }
.key { display: inline-block; margin: 0 1.1rem 0 .3rem; font-size: .875rem; }
.key::before { content: ""; display: inline-block; width: .75rem; height: .75rem; margin-right: .45rem;
  background: var(--k); border-radius: 2px; vertical-align: -.06rem; }
.key.line::before { width: 1.7rem; height: 0; background: none; border-top: 2.5px var(--d) var(--k); vertical-align: .28rem;
  border-radius: 0; }
.key.thin::before { width: 1.7rem; height: 0; border-top: 1px solid var(--soft); vertical-align: .28rem; border-radius: 0; }
.bar { display: inline-block; width: 6rem; height: .6rem; background: var(--grid); margin-right: .6rem; border-radius: 2px;
  overflow: hidden; vertical-align: -.02rem; }
.bar span { display: block; height: 100%; background: var(--c1); }
.share { font-variant-numeric: tabular-nums; white-space: nowrap; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1.2rem 1.5rem; }
.pairs figure { margin: 0; } .pairs figcaption { margin: .35rem 0 0; font-size: .8rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 3px; align-items: center; }
.pair img { display: block; width: 100%; height: auto; border-radius: 3px; }
.noframe { display: grid; place-items: center; aspect-ratio: 4 / 3; background: var(--tint); color: var(--soft);
  font-size: .8rem; }
/* the data: funnel, contact sheet, pairs of videos */
.funnel { list-style: none; padding: 0; margin: 1rem 0; max-width: 46rem; } .funnel li { margin: 0 0 .8rem; }
.funnel .names { display: block; overflow-wrap: anywhere; } .funnel .turn { color: var(--soft); font-size: .875rem; }
.funnelbar { display: flex; height: 1.1rem; background: var(--tint); border-radius: 3px; overflow: hidden; margin: .15rem 0; }
.funnelbar .kept { background: var(--c1); } .funnelbar .drawn { background: var(--c3); }
.funnelbar .dropped { background: var(--c2); opacity: .45; }
.pairs img { display: block; max-width: 100%; height: auto; border-radius: 3px; margin-bottom: 3px; }
.pairs .noframe { min-height: 5.6rem; aspect-ratio: auto; padding: .5rem; margin-bottom: 3px; text-align: center; }
.pairs.wide-pairs { grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); }

@media screen and (min-width: 601px) { #provenance + p + .scroll tbody th { min-width: 17rem; } }
@media (max-width: 600px) {
  body { padding: 1.4rem 1rem 3rem; } h1 { font-size: 1.5rem; } .headline p { font-size: 1.05rem; }
  nav a { display: inline-block; padding: .2rem 0; } summary { padding: .25rem 0; }
  th:first-child { max-width: 42vw; overflow-wrap: anywhere; padding-right: .5rem; border-right: 1px solid var(--line); }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .5rem; } }
@media print {
  @page { margin: 1.6cm; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } nav, .skip { display: none; }
  h2, h3, h4, summary { break-after: avoid; } tr, li, .pair, .callout { break-inside: avoid; }
  .scroll { overflow: visible; } th:first-child { position: static; } thead { display: table-header-group; }
  table { font-size: 7.5pt; } :is(th, td):is(*, .number, .code, :not(:first-child)) { padding: .2rem .35rem; min-width: 0;
    white-space: normal; overflow-wrap: anywhere; } pre { max-height: none; white-space: pre-wrap; overflow-wrap: anywhere; }
  .key::before, .bar, .bar span { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  aside details::details-content { content-visibility: visible; block-size: auto; } }
"""
