// The page Cluster: problems first, then the servers. It asks again every few seconds.
import {address, bytes, count, counted, getJson, h, moment, problem} from "./dom.js";
import {RowTable} from "./table.js";
import {drawChart} from "./chart.js";
import {guideTo} from "./guide.js";

const SECONDS = 5;

// Curves of /history: what they are called, and whether the server counts a total.
const CURVES = {
  requests_total: "requests a second", errors_total: "requests that failed, a second", rows_total: "rows answered a second", writes_total: "writes a second",
  unpromoted_segments: "segments that are not promoted", local_bytes: "bytes of local copies", executor_memory_bytes: "bytes of memory of executors", transfers: "transfers on the way",
  lost_copies: "copies that segments lack", moving_copies: "copies on the way", moves_total: "copies moved a second",
};

// Points of a curve: a total becomes what is added in a second.
export function pointsOf(past, place) {
  const name = past.columns[place];
  const time = (row) => new Date(row[0] * 1000).toISOString();
  if (!name.endsWith("_total")) return past.rows.map((row) => [time(row), row[place]]);
  return past.rows.slice(1).map((row, before) => [time(row), Math.max(0, row[place] - past.rows[before][place]) / Math.max(1, row[0] - past.rows[before][0])]);
}

export function problemsOf(status) {
  const found = [];
  const add = (text, section) => found.push({text, section: section || (/\(see ([^)]+)\)/.exec(text) || [])[1] || ""});
  const metadata = status.metadata || {};
  if (metadata.away_since) add(`The metadata store does not answer since ${moment(metadata.away_since)}: ${metadata.reason}`, "RethinkDB is gone altogether");
  if (!status.ready) add("This server is not ready.", "A process does not start");
  if (status.role === "worker") {
    if (status.aside.length) add(`${count(status.aside.length)} files of unpromoted writes are kept aside.`, "What is aside");
    if (status.disk.refused_writes || status.disk.refused_promotions) add(`Since the start ${count(status.disk.refused_writes)} writes and ${count(status.disk.refused_promotions)} promotions were refused for lack of disk.`, "A disk is full");
    return found;
  }
  if (!status.leader && !metadata.away_since) add("No sync server leads.", "The leader dies or hangs");
  for (const worker of status.workers) {
    if (worker.trouble) add(`${worker.node}: ${worker.trouble}`);
    if (worker.available_bytes <= 0 && worker.capacity > 0) add(`${worker.node} has no room left.`, "A disk is full");
  }
  const leadership = status.leadership || {};
  const placement = leadership.placement;
  if (leadership.stopped) add(`The leader's rounds fail: ${leadership.stopped}`, "The leader's rounds fail");
  if (leadership.storage_away) add("Canonical storage is away.", "HDFS is away");
  if (leadership.doubting_a_loss) add("Many segments are missing from canonical storage at once; nothing is taken away yet.", "Very many segments are missing");
  if (placement) {
    const dead = Object.entries(placement.workers).filter(([, each]) => ["dead", "waiting"].includes(each.state)).map(([name]) => name);
    if (dead.length) add(`Workers that are not alive: ${dead.join(", ")}.`, "A worker dies");
    if (placement.lost_copies) add(`Segments lack ${count(placement.lost_copies)} copies.`, "Segments have too few copies");
    if (placement.homeless) add(`No worker can take ${count(placement.homeless)} segments.`, "Segments have too few copies");
  }
  if (!status.workers.length && !metadata.away_since) add("No worker lives.", "A worker dies");
  return found;
}

function shownProblem({text, section}) {
  const {sentence, command} = guideTo(section);
  const guide = [`Operator's guide, “${section}”${sentence ? `: ${sentence}` : "."}`, command ? [" Try: ", h("code", {}, command)] : null];
  return problem(text, section ? h("div", {class: "soft"}, guide) : null);
}

function facts(status) {
  if (status.role === "worker") {
    return [["Segments", count(status.segments)], ["Local copies", `${bytes(status.bytes)} of ${bytes(status.capacity)}`], ["Written here", count(status.writable_count)],
      ["Not promoted", `${counted(status.unpromoted.count, "segment")}, ${bytes(status.unpromoted.bytes)}${status.unpromoted.oldest ? `, since ${moment(status.unpromoted.oldest)}` : ""}`],
      ["Transfers", count(Object.keys(status.transfers).length)], ["Executors started again", count(status.executors.restarts)], ["Storage", status.storage.url]];
  }
  const placement = (status.leadership || {}).placement || {};
  const {away_since: away, reason, as_of: asOf} = status.metadata || {};
  const store = away ? `does not answer since ${moment(away)}: ${reason}` : `answers; as of ${moment(asOf)}`;
  const storage = (status.leadership || {}).storage_away ? ", away" : status.leadership ? ", answers" : "";
  const elsewhere = status.leader_url && !status.leadership ? h("a", {href: `${status.leader_url}console/#/cluster`}, " Its console has the placement.") : null;
  return [["Leader", [`${status.leader || "nobody"}, generation ${status.generation}`, elsewhere]], ["Workers", count(status.workers.length)],
    ["Segments in storage", placement.segments === undefined ? "ask the leader" : count(placement.segments)], ["Copies on the way", count(placement.moving ?? 0)],
    ["Metadata store", store], ["Storage", `${status.storage.url}${storage}`],
    ["Write locks", named(status.write_locks, Object.entries(placement.locks || {}).map(([segment, node]) => [segment, ` on ${node}`]))],
    ["Segments that lack copies", named(placement.lost_copies, (placement.lacking || []).map((segment) => [segment, ""]))],
    ["Segments that no worker can take", named(placement.homeless, (placement.unplaced || []).map((segment) => [segment, ""]))]];
}

// How many segments of a kind there are, and the first of them.
function named(number, some) {
  if (!number) return number === 0 ? "none" : "ask the leader";
  if (!some.length) return count(number);
  const links = some.flatMap(([segment, more], place) => [place ? ", " : null, h("a", {href: address(`segments/${segment}`)}, segment), more]);
  return [`${count(number)}: `, ...links, number > some.length ? ", …" : null];
}

function rowsOf(status) {
  if (status.role === "worker") return [["Executor", "queries", "writes", "blocked", "memory"], status.executors.executors.map((each) => [each.name, each.queries, each.writes, each.held_up ? "yes" : "", bytes(each.memory)])];
  const placed = ((status.leadership || {}).placement || {}).workers || {};
  return [["Worker", "state", "ring", "load", "free", "capacity", "unpromoted", "last heartbeat"], status.workers.map((each) => [each.node, each.draining ? "draining" : (placed[each.node] || {}).state || "live", (placed[each.node] || {}).ring ?? null,
    Number(each.load.toFixed(2)), bytes(each.available_bytes), bytes(each.capacity), each.unpromoted ? `${count(each.unpromoted)}, since ${moment(each.unpromoted_since)}` : "", moment(each.last_heartbeat)])];
}

export async function clusterPage(main) {
  const problems = h("section", {"aria-label": "Problems"});
  const about = h("dl");
  const as = h("p", {class: "soft"});
  const table = new RowTable("Servers");
  const curves = h("div", {class: "curves"});
  let drawn = 0;
  let timer = 0;
  let known = "";
  let gone = false;

  async function drawCurves() {
    const past = await getJson("/history");
    if (gone) return;
    const shown = past.columns.map((name, place) => [CURVES[name], place]).filter(([name]) => name);
    if (!curves.firstChild) curves.append(...shown.map(([name]) => h("figure", {}, h("figcaption", {}, name[0].toUpperCase() + name.slice(1)), h("div", {class: "chart"}))));
    shown.forEach(([name, place], number) => {
      const points = pointsOf(past, place);
      // One point has no line, and no time to go with it.
      if (points.length > 1) drawChart(curves.children[number].lastChild, ["time", name], points, {kind: "line", x: 0, y: 1, zero: true, height: 160});
    });
  }

  async function look() {
    try {
      const status = await getJson("/status");
      if (gone) return;
      const found = problemsOf(status);
      // Said again only when it changes, for the sake of screen readers.
      if (JSON.stringify(found) !== known) {
        known = JSON.stringify(found);
        problems.replaceChildren(...(found.length ? found.map(shownProblem) : [h("p", {class: "good"}, "No problems.")]));
      }
      about.replaceChildren(...facts(status).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
      const [columns, rows] = rowsOf(status);
      if (table.columns.length !== columns.length) table.setColumns(columns);
      table.rows = rows;
      if (table.sorted) { const {place, down} = table.sorted; table.rows.sort((a, b) => (a[place] < b[place] ? -1 : a[place] > b[place] ? 1 : 0) * (down ? -1 : 1)); }
      table.draw();
      const now = Date.now() / 1000;
      if (now - drawn >= 10) { drawn = now; await drawCurves(); }
      as.textContent = `As of ${moment(now)}`;
    } catch (error) {
      if (gone) return;
      known = "";
      problems.replaceChildren(problem(error.message));
    }
    if (!gone) timer = setTimeout(look, SECONDS * 1000);
  }

  main.append(h("h1", {}, "Cluster"), problems, about, h("h2", {}, "Servers"), table.element, h("h2", {}, "The last hour of this server"), curves, as);
  await look();
  return () => { gone = true; clearTimeout(timer); };
}
