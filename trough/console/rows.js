// Rows of a GATHER's answer while it arrives: {"columns":[...],"rows":[[...],...],"missing":{...}}.

// A whole number with more digits than a Number keeps is a BigInt: what is shown is what is stored.
function exact(key, value, context) {
  if (typeof value !== "number" || !context || !context.source) return value;
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(context.source) : value;
}

export class RowReader {
  #text = "";
  #at = 0;
  #inRows = false;
  #over = false;
  columns = null;
  missing = {};
  stale = {};

  // Takes a piece of text, and returns the rows that it completes.
  push(piece) {
    this.#text = this.#text.slice(this.#at) + piece;
    this.#at = 0;
    if (!this.#inRows && !this.#over && !this.#begin()) return [];
    const rows = [];
    while (this.#inRows) {
      const row = this.#next();
      if (row === null) break;
      if (row) rows.push(row);
    }
    return rows;
  }

  end() {
    if (!this.#over) throw new Error("The answer ended before it was complete.");
    const rest = JSON.parse("{" + this.#text.slice(this.#at).replace(/^\s*,/, ""));
    this.missing = rest.missing || {};
    this.stale = rest.stale || {};
  }

  #begin() {
    const mark = this.#text.indexOf('"rows":[');
    if (mark < 0) return false;
    this.columns = JSON.parse(this.#text.slice(0, mark).replace(/,\s*$/, "") + "}").columns;
    this.#at = mark + 8;
    this.#inRows = true;
    return true;
  }

  #next() {
    const text = this.#text;
    let at = this.#at;
    while (at < text.length && (text[at] === "," || text[at] === "\n" || text[at] === " ")) at += 1;
    this.#at = at;
    if (at >= text.length) return null;
    if (text[at] === "]") { this.#at = at + 1; this.#inRows = false; this.#over = true; return undefined; }
    let depth = 0;
    let quoted = false;
    for (let place = at; place < text.length; place += 1) {
      const letter = text.charCodeAt(place);
      if (quoted) {
        if (letter === 92) place += 1;
        else if (letter === 34) quoted = false;
      } else if (letter === 34) quoted = true;
      else if (letter === 91 || letter === 123) depth += 1;
      else if (letter === 93 || letter === 125) {
        depth -= 1;
        if (depth === 0) { this.#at = place + 1; return JSON.parse(text.slice(at, place + 1), exact); }
      }
    }
    return null;
  }
}
