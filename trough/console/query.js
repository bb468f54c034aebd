// The page Query: which segments, which SQL, and what comes back.
import {drawChart, suitable} from "./chart.js";
import {address, ask, count, counted, getJson, h, later, problem} from "./dom.js";
import {makeEditor} from "./editor.js";
import {RowReader} from "./rows.js";
import {RowTable} from "./table.js";

const FORMATS = ["csv", "tsv", "jsonl", "json", "markdown", "arrow", "parquet"];
// How segments answer together, as a parameter of /gather.
const HOW = [["", "GATHER: as if their tables were one"], ["within", "WITHIN SEGMENTS: rows of different segments never meet"], ["each", "Fan-out: each segment answers by itself"]];
const MOST_ROWS = 100000;
const KEPT = 50;
const SCHEMA = "SELECT l.name AS t, p.name AS c FROM pragma_table_list l, pragma_table_info(l.name) p WHERE l.schema = 'main' AND l.name NOT LIKE 'sqlite_%'";

function remembered() {
  try { return JSON.parse(localStorage.getItem("trough-history")) || []; } catch { return []; }
}

function remember(entry) {
  const others = remembered().filter((each) => JSON.stringify(each) !== JSON.stringify(entry));
  try { localStorage.setItem("trough-history", JSON.stringify([entry, ...others].slice(0, KEPT))); } catch { /* a full store loses the history only */ }
}

function gatherUrl(state, format) {
  const options = new URLSearchParams({sql: state.sql, format});
  if (state.list) options.set("segments", state.which.split(/[,\s]+/).filter(Boolean).join(","));
  else options.set("matching", state.which);
  if (state.how) options.set(state.how, "yes");
  if (state.partial) options.set("partial", "yes");
  return `/gather?${options}`;
}

export async function queryPage(main, options) {
  let running = null;
  let ran = false;
  const which = h("input", {type: "text", id: "which", value: options.get("which") ?? "", autocomplete: "off", spellcheck: "false", "aria-describedby": "found"});
  const list = h("input", {type: "checkbox", checked: options.get("list") === "yes"});
  const how = h("select", {id: "how"}, HOW.map(([value, text]) => h("option", {value, selected: value === (options.get("how") ?? "")}, text)));
  const partial = h("input", {type: "checkbox", checked: options.get("partial") === "yes"});
  const found = h("p", {id: "found", class: "soft", "aria-live": "polite"});
  const status = h("p", {role: "status"});
  const trouble = h("div");
  const missing = h("div");
  const downloads = h("div", {class: "row"});
  const chart = h("div", {class: "chart"});
  const chartTools = h("div", {class: "row"});
  const results = h("div");
  const runButton = h("button", {class: "primary", onclick: () => run()}, "Run");
  const stopButton = h("button", {onclick: () => running && running.abort(), disabled: true}, "Stop");
  const editor = makeEditor(options.get("sql") || "SELECT 1", () => run(), () => showDownloads());
  const past = h("ol");

  const state = () => ({which: which.value.trim(), list: list.checked, how: how.value, partial: partial.checked, sql: editor.text});
  const hash = (given) => address("query", {which: given.which, list: given.list ? "yes" : "", how: given.how, partial: given.partial ? "yes" : "", sql: given.sql, run: "yes", chart: chosen});
  // The chart that is shown: its kind and two columns.
  let chosen = options.get("chart") ?? "";

  const look = later(400, async () => {
    if (list.checked) { found.textContent = `${which.value.split(/[,\s]+/).filter(Boolean).length} named`; return; }
    found.textContent = "Looking…";
    try {
      const page = await getJson(`/segments?${new URLSearchParams({matching: which.value.trim(), limit: "3"})}`);
      const names = page.segments.map((each) => each.segment).join(", ");
      found.textContent = `${page.complete ? counted(page.count, "segment") : `${count(page.count)} or more segments`}${names ? `: ${names}${page.next ? ", …" : ""}` : ""}`;
      if (page.segments.length) await learn(page.segments[0].segment);
    } catch (error) { found.textContent = error.message; }
  });

  async function learn(segment) {
    try {
      const answer = await getJson(`/gather?${new URLSearchParams({segments: encodeURIComponent(segment), within: "yes", sql: SCHEMA})}`);
      const schema = {};
      for (const [table, column] of answer.rows) (schema[table] ||= []).push(column);
      editor.complete(schema);
    } catch { /* completion of names is a convenience */ }
  }

  function showDownloads() {
    const given = state();
    downloads.replaceChildren(h("span", {}, "Download:"), ...FORMATS.map((format) => h("a", {href: gatherUrl(given, format), download: `trough.${format === "markdown" ? "md" : format}`}, format)));
  }

  function showHistory() {
    past.replaceChildren(...remembered().map((each) => h("li", {}, h("a", {href: hash(each)}, each.sql.slice(0, 200)), h("span", {class: "soft"}, ` in ${each.which || "all"}`))));
  }

  function showMissing(segments) {
    const names = Object.entries(segments);
    if (!names.length) return;
    missing.replaceChildren(problem(`${counted(names.length, "segment")} missing from this answer.`,
      h("ul", {}, names.slice(0, 20).map(([name, why]) => h("li", {}, `${name}: ${why.error}`)), names.length > 20 ? h("li", {}, `and ${count(names.length - 20)} more`) : null)));
  }

  function showChart(table) {
    const [before, ...places] = chosen.split(",");
    const wanted = before && places.every((place) => Number(place) < table.columns.length) ? {kind: before, x: Number(places[0]), y: Number(places[1])} : null;
    const choice = wanted ?? suitable(table.columns, table.rows);
    chart.replaceChildren();
    if (!choice) { chartTools.replaceChildren(); return; }
    const select = (label, values, chosen) => h("select", {"aria-label": label, onchange: redraw}, values.map(([value, text]) => h("option", {value, selected: value === chosen}, text)));
    const named = table.columns.map((name, place) => [String(place), name]);
    const kind = select("Kind of chart", [["bars", "bars"], ["line", "line"], ["histogram", "histogram"]], choice.kind);
    const x = select("Across", named, String(choice.x));
    const y = select("Up", named, String(choice.y));
    function redraw() {
      chosen = [kind.value, x.value, y.value].join(",");
      history.replaceState(null, "", hash(state()));
      try { drawChart(chart, table.columns, table.rows, {kind: kind.value, x: Number(x.value), y: Number(y.value)}); } catch (error) { chart.replaceChildren(problem(error.message)); }
    }
    chartTools.replaceChildren(h("button", {onclick: redraw}, "Chart"), kind, x, y);
    if (wanted) redraw();
  }

  async function run() {
    if (running) running.abort();
    const given = state();
    if (ran) chosen = "";
    ran = true;
    const asking = running = new AbortController();
    history.replaceState(null, "", hash(given));
    remember(given);
    showHistory();
    showDownloads();
    trouble.replaceChildren(); missing.replaceChildren(); chart.replaceChildren(); chartTools.replaceChildren(); results.replaceChildren();
    const table = new RowTable("Rows");
    const reader = new RowReader();
    const began = performance.now();
    runButton.disabled = true; stopButton.disabled = false;
    status.textContent = "Running…";
    let full = false;
    try {
      const response = await ask(gatherUrl(given, "json"), {signal: asking.signal});
      const stream = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const {value, done} = await stream.read();
        if (done) break;
        const rows = reader.push(value);
        if (reader.columns && !results.firstChild) { table.setColumns(reader.columns); results.append(table.element); }
        table.add(rows);
        status.textContent = `${count(table.rows.length)} rows…`;
        if (table.rows.length >= MOST_ROWS) { full = true; asking.abort(); break; }
      }
      if (!full) {
        reader.end();
        showMissing(reader.missing);
        const stale = Object.keys(reader.stale).length;
        if (stale) missing.append(h("p", {class: "soft"}, `${counted(stale, "segment")} answered in the last promoted state.`));
      }
      status.textContent = `${counted(table.rows.length, "row")} in ${((performance.now() - began) / 1000).toFixed(2)} s${full ? "; more are not shown: download them" : ""}`;
    } catch (error) {
      if (error.name === "AbortError") status.textContent = `Stopped after ${count(table.rows.length)} rows.`;
      else { status.textContent = ""; trouble.replaceChildren(problem(error.message)); }
    } finally {
      if (running === asking) { running = null; runButton.disabled = false; stopButton.disabled = true; }
      if (table.rows.length) showChart(table);
    }
  }

  for (const box of [which, list]) box.addEventListener("input", look);
  for (const box of [which, list, how, partial]) box.addEventListener("input", showDownloads);
  which.addEventListener("keydown", (event) => { if (event.key === "Enter") run(); });
  main.append(h("h1", {}, "Query"),
    h("label", {for: "which"}, "Segments: a regular expression that is searched for in their ids"), which, found,
    h("div", {class: "row"},
      h("label", {}, list, "these are ids, with commas between them (a blank in an id is %20)"),
      h("label", {}, "How", how),
      h("label", {}, partial, "answer from the rest where segments fail")),
    editor.element,
    h("div", {class: "row"}, runButton, stopButton, h("span", {class: "soft"}, "Ctrl-Enter runs. _segment is a column of each table.")),
    status, trouble, missing, results, chartTools, chart, downloads,
    h("details", {}, h("summary", {}, "History"), past));
  showDownloads();
  showHistory();
  look();
  if (options.get("run") === "yes") run();
  return () => { if (running) running.abort(); editor.destroy(); };
}
