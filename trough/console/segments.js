// The page Segments: a search that the server pages, and one segment.
import {address, bytes, count, counted, getJson, h, later, moment, postJson, problem} from "./dom.js";
import {RowTable} from "./table.js";

const COLUMNS = "SELECT l.name AS \"table\", p.name AS column, p.type AS type, p.pk AS \"primary key\" FROM pragma_table_list l, pragma_table_info(l.name) p WHERE l.schema = 'main' AND l.name NOT LIKE 'sqlite_%'";
// Since when writes are in no canonical copy; a lock of an earlier release does not tell.
const unpromoted = ({unpromoted_since: since}) => (since === 0 ? "not known" : moment(since));
const quoted = (name) => `"${name.replaceAll('"', '""')}"`;

export async function segmentsPage(main, options, names, server) {
  if (names.length && names[0]) return segmentPage(main, names[0], server);
  const matching = h("input", {type: "search", id: "matching", value: options.get("matching") ?? "", autocomplete: "off", spellcheck: "false"});
  const status = h("p", {role: "status"});
  const body = h("tbody");
  const pager = h("div", {class: "row"});

  async function look(after) {
    status.textContent = "Looking…";
    const given = {matching: matching.value.trim(), after};
    history.replaceState(null, "", address("segments", given));
    try {
      const page = await getJson(`/segments?${new URLSearchParams({...given, limit: "50"})}`);
      status.textContent = page.complete ? counted(page.count, "segment") : `${count(page.count)} or more segments`;
      body.replaceChildren(...page.segments.map((each) => h("tr", {},
        h("td", {}, h("a", {href: address(`segments/${each.segment}`)}, each.segment)),
        h("td", {}, each.tier ?? ""),
        h("td", {}, each.copies.length ? `${each.copies.length}: ${each.copies.join(", ")}` : "none"),
        h("td", {class: "number"}, bytes(each.size)),
        h("td", {}, moment(each.version)),
        h("td", {}, each.writer ?? ""),
        h("td", {}, unpromoted(each)))));
      pager.replaceChildren(
        h("button", {onclick: () => look(""), disabled: !after}, "First page"),
        h("button", {onclick: () => look(page.next), disabled: !page.next}, "Next page"));
    } catch (error) { status.textContent = ""; body.replaceChildren(); pager.replaceChildren(problem(error.message)); }
  }

  matching.addEventListener("input", later(400, () => look("")));
  const heads = ["Segment", "Tier", "Copies", "Size", "Version", "Writer", "Unpromoted since"].map((name) => h("th", {scope: "col"}, name));
  main.append(h("h1", {}, "Segments"), h("label", {for: "matching"}, "Search: a regular expression in the id"), matching, status,
    h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Segments"}, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)), pager);
  await look(options.get("after") ?? "");
}

// An order of a segment's page, or why this token gives no button for it.
function orderButton(label, right, server, action) {
  const lacks = server.closed && server.token && !server.token.rights.includes(right);
  return h("button", {onclick: action, disabled: lacks, title: lacks ? `This token lacks the right ${right}.` : null}, label);
}

async function segmentPage(main, segment, server) {
  main.append(h("h1", {}, `Segment ${segment}`));
  const about = await getJson(`/segments/${encodeURIComponent(segment)}`);
  const first = about.assignments[0] || {};
  const facts = [
    ["Copies", `${about.copies.length}: ${about.copies.join(", ") || "none that can be read"}`],
    ["Writer", about.lock ? `${about.lock.node}, since ${moment(about.lock.acquired_on)}, epoch ${about.lock.epoch}` : "nobody"],
    ["Tier", about.tier ?? "none yet"],
    ["Unpromoted since", unpromoted(about) || "all is promoted"],
    ["Canonical copy", first.modified ? `${first.path}, ${bytes(first.size)}` : "none yet"],
    ["Promoted", first.modified ? moment(first.modified) : "never"],
    ["Assigned to", about.assignments.map((each) => `${each.node} (ring ${each.ring})`).join(", ") || "nobody"],
  ];
  const result = h("p", {role: "status"});
  const order = (path) => async () => {
    result.textContent = `${path}…`;
    try { await postJson(`/${path}`, {segment}); result.textContent = `${path}: done`; } catch (error) { result.textContent = error.message; }
  };
  main.append(h("dl", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("div", {class: "row"}, orderButton("Promote", "promote", server, order("promote")), orderButton("Provision for writing", "provision", server, order("provision")),
      h("a", {href: address("query", {which: encodeURIComponent(segment), list: "yes"})}, "Query it")), result);
  const tables = h("section");
  main.append(h("h2", {}, "Tables"), tables);
  const ask = (sql) => getJson(`/gather?${new URLSearchParams({segments: encodeURIComponent(segment), within: "yes", sql})}`);
  try {
    const schema = new RowTable("Columns");
    const answer = await ask(COLUMNS);
    schema.setColumns(answer.columns);
    schema.add(answer.rows);
    tables.append(schema.element);
    for (const table of [...new Set(answer.rows.map((row) => row[0]))].slice(0, 20)) {
      const part = h("section", {}, h("h2", {}, table));
      tables.append(part);
      const rows = (await ask(`SELECT count(*) AS n FROM ${quoted(table)}`)).rows[0][0];
      const sample = await ask(`SELECT * FROM ${quoted(table)} LIMIT 5`);
      const shown = new RowTable(`A sample of ${table}`);
      shown.setColumns(sample.columns);
      shown.add(sample.rows);
      part.append(h("p", {}, `${count(rows)} rows; a sample:`), shown.element);
    }
  } catch (error) { tables.append(problem(error.message)); }
}
