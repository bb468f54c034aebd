// A table of rows that is sorted and paged in the browser.
import {count, h} from "./dom.js";

const PAGE = 100;
const SHOWN = 2000;

const isNumber = (value) => typeof value === "number" || typeof value === "bigint";

export function shownValue(value) {
  if (value === null) return {text: "NULL", kind: "null"};
  if (typeof value === "object") {
    const size = Math.floor(value.blob.length * 3 / 4) - (value.blob.match(/=*$/)[0].length);
    return {text: `BLOB, ${count(size)} bytes`, kind: "null"};
  }
  if (isNumber(value)) return {text: String(value), kind: "number"};
  // Invisible and active characters are written out.
  const text = String(value).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return {text: text.length > SHOWN ? `${text.slice(0, SHOWN)}… (${count(text.length)} characters)` : text, kind: ""};
}

// The order of SQLite: NULL, numbers, texts, BLOBs.
function rank(value) {
  return value === null ? 0 : isNumber(value) ? 1 : typeof value === "string" ? 2 : 3;
}

export function compare(a, b) {
  const ranks = rank(a) - rank(b);
  if (ranks) return ranks;
  return a < b ? -1 : a > b ? 1 : 0;
}

export class RowTable {
  constructor(label) {
    this.rows = [];
    this.columns = [];
    this.sorted = null;
    this.page = 0;
    this.head = h("tr");
    this.body = h("tbody");
    this.pager = h("div", {class: "row"});
    this.element = h("div", {}, h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": label},
      h("table", {}, h("thead", {}, this.head), this.body)), this.pager);
  }

  setColumns(columns) {
    this.columns = columns;
    this.drawHead();
  }

  drawHead() {
    this.head.replaceChildren(...this.columns.map((name, place) => {
      const own = this.sorted && this.sorted.place === place;
      const order = own ? (this.sorted.down ? "descending" : "ascending") : "none";
      const mark = own ? (this.sorted.down ? " ▾" : " ▴") : "";
      return h("th", {scope: "col", "aria-sort": order}, h("button", {onclick: () => this.sort(place)}, shownValue(name).text + mark));
    }));
  }

  sort(place) {
    const down = Boolean(this.sorted && this.sorted.place === place && !this.sorted.down);
    this.sorted = {place, down};
    this.rows.sort((a, b) => compare(a[place], b[place]) * (down ? -1 : 1));
    this.page = 0;
    this.drawHead();
    this.draw();
    this.head.children[place].firstChild.focus();
  }

  add(rows) {
    const before = this.rows.length;
    for (const row of rows) this.rows.push(row);
    if (before < (this.page + 1) * PAGE) this.draw();
    else this.drawPager();
  }

  draw() {
    const first = this.page * PAGE;
    this.body.replaceChildren(...this.rows.slice(first, first + PAGE).map((row) => h("tr", {}, row.map((value) => {
      const {text, kind} = shownValue(value);
      return h("td", {class: kind || null}, text);
    }))));
    this.drawPager();
  }

  drawPager() {
    const last = Math.max(0, Math.ceil(this.rows.length / PAGE) - 1);
    if (!last) { this.pager.replaceChildren(); return; }
    const turn = (page) => { this.page = page; this.draw(); };
    this.pager.replaceChildren(
      h("button", {onclick: () => turn(this.page - 1), disabled: this.page === 0}, "Previous"),
      h("span", {}, `Page ${count(this.page + 1)} of ${count(last + 1)}`),
      h("button", {onclick: () => turn(this.page + 1), disabled: this.page === last}, "Next"));
  }
}
