// A client of Trough's line protocol; see README.md. The names of sections are those of PROTOCOL.rst.

import { createHash, createHmac } from "node:crypto";
import net from "node:net";
import tls from "node:tls";
import { decodeRows, encodeParameters } from "./values.js";

const CONNECT_MS = 5000;
// Silence after which a server is pinged; after as much again it is given up.
const SILENCE_MS = 30000;
// Bytes of replies that may wait for a loop before the socket is read no further.
const HELD = 1 << 20;
// Longer arguments are sent as literals.
const LITERAL_FROM = 1024;
const TRIES = 4;

const FINAL = new Set(["OK", "END", "ERR"]);
// Errors of a read after which another copy, or the same one later, may answer.
const MAY_PASS = new Set(["unavailable", "cancelled", "corrupt", "moved", "no-lock", "no-segment"]);
// Refusals of a write that hold for the server that was asked.
const NOT_HERE = new Set(["no-lock", "moved", "fenced"]);

/** Anything that fails. `code` is one of the protocol's; `sent`: the server may have seen the request. */
export class TroughError extends Error {
  constructor(code, message, sent = true) {
    super(message);
    this.name = "TroughError";
    this.code = code;
    this.sent = sent;
  }

  static of(rest) {
    const [code, sentence] = cut(rest);
    return new TroughError(code, sentence);
  }
}

// -- Messages -------------------------------------------------------------------------------------

function cut(text) {
  const blank = text.indexOf(" ");
  return blank < 0 ? [text, ""] : [text.slice(0, blank), text.slice(blank + 1)];
}

function fieldsOf(text) {
  const fields = {};
  for (const word of text.split(" ")) {
    const equals = word.indexOf("=");
    if (equals > 0) fields[word.slice(0, equals)] = word.slice(equals + 1);
  }
  return fields;
}

function literal(prefix, text) {
  return `${prefix}{${Buffer.byteLength(text)}}\n${text}`;
}

// The last argument, in which blanks do not separate.
function textArgument(text) {
  const unsafe = /[\r\n\0]|\}$|^ | $|^$/.test(text) || Buffer.byteLength(text) >= LITERAL_FROM;
  return unsafe ? literal("", text) : text;
}

function wordArgument(text, prefix = "") {
  const unsafe = /[ \r\n\0]|\}$/.test(text) || Buffer.byteLength(text) >= LITERAL_FROM;
  return unsafe ? literal(prefix, text) : prefix + text;
}

/** A segment's id as one word. */
export function segmentWord(id) {
  return Array.from(Buffer.from(id), (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9_\-.~@=]/.test(character)
      ? character
      : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }).join("");
}

function segmentsArgument(segments) {
  if (segments.matching !== undefined) return wordArgument(segments.matching, "~");
  const text = [segments].flat().map(segmentWord).join(",");
  return wordArgument(text.startsWith("~") ? `,${text}` : text);
}

function optionArguments(parameters, options) {
  const words = Object.entries(options).map(([name, value]) => wordArgument(String(value), `${name}=`));
  if (parameters !== undefined) words.push(wordArgument(encodeParameters(parameters), "bind="));
  return words;
}

// -- A connection -----------------------------------------------------------------------------------

/** Lines of one answer, in their order: [word, rest], the last one included. */
class Answer {
  constructor(connection, tag) {
    this.connection = connection;
    this.tag = tag;
    this.lines = [];
    this.error = null;
    this.ended = false;
    this.wake = null;
  }

  push(word, rest) {
    this.lines.push([word, rest]);
    this.ended ||= FINAL.has(word);
    this.wake?.();
  }

  fail(error) {
    this.error = error;
    this.wake?.();
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        while (this.lines.length > 0) {
          const line = this.lines.shift();
          this.connection.taken(line[1].length);
          yield line;
          if (FINAL.has(line[0])) return;
        }
        if (this.error) throw this.error;
        await new Promise((resolve) => {
          this.wake = resolve;
        });
      }
    } finally {
      for (const [, rest] of this.lines) this.connection.taken(rest.length);
      if (!this.ended && !this.error) this.connection.cancel(this.tag);
      this.connection.answers.delete(this.tag);
    }
  }
}

/** A connection to one server; `connect` makes one. Any number of requests may be under way. */
export class Connection {
  constructor(socket, address) {
    this.address = address;
    this.socket = socket;
    this.answers = new Map();
    this.lastTag = 0;
    this.held = 0;
    this.tail = [];
    this.closed = null;
    this.pinged = false;
    this.greeting = new Promise((resolve, reject) => {
      this.greeted = resolve;
      this.refused = reject;
    });
    socket.setNoDelay(true);
    socket.setTimeout(CONNECT_MS, () => this.silent());
    socket.on("data", (chunk) => this.receive(chunk));
    socket.on("error", (error) => this.lose(error.message));
    socket.on("close", () => this.lose("the connection was lost"));
  }

  /** Send a request; its answer as lines. Arguments are as they are sent. */
  request(verb, ...words) {
    const tag = String(++this.lastTag);
    const answer = new Answer(this, tag);
    if (this.closed) {
      answer.fail(new TroughError("unavailable", this.closed.message, false));
      return answer;
    }
    this.answers.set(tag, answer);
    this.socket.write(`${[tag, verb, ...words].join(" ")}\n`);
    return answer;
  }

  /** Send a request; its last line: fields, or a document where that is JSON. */
  async command(verb, ...words) {
    const lines = [];
    for await (const [word, rest] of this.request(verb, ...words)) {
      if (word === "ERR") throw TroughError.of(rest);
      lines.push([word, rest]);
    }
    const last = lines.at(-1)[1];
    return /^[{[]/.test(last)
      ? { lines, document: JSON.parse(last), fields: {} }
      : { lines, document: null, fields: fieldsOf(last) };
  }

  /** The rows of a QUERY of one segment, or of a GATHER, as they arrive. */
  async *rows(answer, about = {}) {
    let failure = null;
    for await (const [word, rest] of answer) {
      const [place, body] = cut(rest);
      if (word === "ROWS") yield* decodeRows(body);
      else if (word === "COLS") about.columns = JSON.parse(body);
      else if (word === "STATE") (about.states ??= {})[decodeURIComponent(place)] = body;
      else if (word === "MISS") (about.missing ??= {})[decodeURIComponent(place)] = TroughError.of(body);
      else if (word === "FAIL") failure = TroughError.of(body);
      else if (word === "ERR") throw TroughError.of(rest);
      else if (word === "END" && failure) throw failure;
    }
  }

  query(segment, sql, parameters, options = {}, about = {}) {
    const words = [segmentsArgument(segment), ...optionArguments(parameters, options), textArgument(sql)];
    return this.rows(this.request("QUERY", ...words), about);
  }

  gather(segments, sql, parameters, options = {}, about = {}) {
    const words = [segmentsArgument(segments), ...optionArguments(parameters, options), textArgument(sql)];
    return this.rows(this.request("GATHER", ...words), about);
  }

  /** Run SQL in one transaction; how many rows it changed, once it is on disk. */
  async write(segment, sql, parameters, options = {}) {
    const words = [segmentWord(segment), ...optionArguments(parameters, options), textArgument(sql)];
    try {
      return Number((await this.command("WRITE", ...words)).fields.changes);
    } catch (error) {
      if (error.lost && error.sent)
        throw new TroughError("outcome-unknown", `a write to segment ${segment}: ${error.message}`);
      throw error;
    }
  }

  cancel(tag) {
    if (!this.closed) this.socket.write(`- CANCEL ${tag}\n`);
  }

  close() {
    this.lose("this client closed the connection");
  }

  // -- Authentication

  async authenticate(token) {
    const fields = await this.greeting;
    if (fields.auth === "none") return;
    if (!token) throw new TroughError("unauthorized", `${this.address} wants a token`);
    const { nonce } = (await this.command("CHALLENGE")).fields;
    const id = /^trough_([^_]+)_/.exec(token)?.[1] ?? "chosen";
    const key = createHmac("sha256", id).update(token).digest();
    const stored = createHash("sha256").update(key).digest();
    const message = `trough proof 1\0${nonce}\0${this.address.toLowerCase()}`;
    const mask = createHmac("sha256", stored).update(message).digest();
    const proof = Buffer.from(key.map((byte, place) => byte ^ mask[place])).toString("hex");
    await this.command("PROVE", id, nonce, proof);
  }

  // -- The socket

  receive(chunk) {
    this.pinged = false;
    let start = 0;
    for (let end; (end = chunk.indexOf(10, start)) >= 0; start = end + 1) {
      this.tail.push(chunk.subarray(start, end));
      this.hear(Buffer.concat(this.tail).toString());
      this.tail = [];
    }
    if (start < chunk.length) this.tail.push(chunk.subarray(start));
  }

  hear(line) {
    const [tag, after] = cut(line);
    const [word, rest] = cut(after);
    if (this.greeted) {
      if (tag !== "TROUGH" || word !== "1")
        return this.lose(`not version 1 of Trough's line protocol: ${line.slice(0, 80)}`);
      this.greeted(fieldsOf(rest));
      this.greeted = null;
      this.socket.setTimeout(SILENCE_MS);
    } else if (tag === "*" && word === "BYE") {
      this.lose(`the server said goodbye: ${rest}`);
    } else {
      const answer = this.answers.get(tag);
      if (answer === undefined) return undefined;
      this.held += rest.length;
      if (this.held > HELD) this.socket.pause();
      answer.push(word, rest);
    }
    return undefined;
  }

  // So many characters of replies wait no more.
  taken(count) {
    this.held -= count;
    if (this.held <= HELD / 2 && this.socket.isPaused()) this.socket.resume();
  }

  silent() {
    if (this.greeted) this.lose("no greeting came");
    else if (this.answers.size === 0 || this.socket.isPaused()) this.pinged = false;
    else if (this.pinged) this.lose("the server is silent");
    else {
      this.pinged = true;
      this.socket.write("- PING\n");
    }
  }

  lose(message) {
    if (this.closed) return;
    this.closed = new TroughError("unavailable", message);
    this.closed.lost = true;
    this.socket.destroy();
    this.greeting.catch(() => {});
    this.refused(this.closed);
    for (const answer of this.answers.values()) if (!answer.ended) answer.fail(this.closed);
  }
}

/** Connect to a server: "host:port" or "tls://host:port". */
export async function connect(address, { token, ca } = {}) {
  const encrypted = address.startsWith("tls://");
  const plain = address.replace("tls://", "");
  const [, host, port] = /^\[?([^\]]*)\]?:(\d+)$/.exec(plain) ?? [];
  if (!host) throw new TroughError("bad-request", `not the address of a server: ${address}`, false);
  const where = { host, port: Number(port) };
  const socket = encrypted
    ? tls.connect({ ...where, ca, minVersion: "TLSv1.2", servername: net.isIP(host) ? undefined : host })
    : net.connect(where);
  const connection = new Connection(socket, plain);
  try {
    await connection.authenticate(token);
  } catch (error) {
    connection.close();
    error.sent = false;
    throw error;
  }
  return connection;
}

// -- Segments, wherever they are ------------------------------------------------------------------------

/** Finds segments through a sync server; `open` makes one. */
export class Trough {
  constructor(address, options) {
    this.address = address;
    this.options = options;
    this.connections = new Map();
    this.readers = new Map();
    this.writers = new Map();
  }

  /** The rows of a query of one segment. */
  async *query(segment, sql, parameters, options = {}, about = {}) {
    let given = false;
    for (let left = TRIES; ; left--) {
      try {
        const address = this.readers.get(segment) ?? (await this.copies(segment))[0]?.address;
        if (!address) throw new TroughError("no-segment", `no worker serves segment ${segment}`);
        this.readers.set(segment, address);
        const server = await this.server(address);
        for await (const row of server.query(segment, sql, parameters, options, about)) {
          given = true;
          yield row;
        }
        return;
      } catch (error) {
        this.readers.delete(segment);
        if (given || left <= 1 || !MAY_PASS.has(error.code)) throw error;
        const moved = error.code === "moved" && error.message.split(" ")[1];
        if (moved) this.readers.set(segment, moved);
        else if (error.code === "no-segment" && left < TRIES) throw error;
      }
    }
  }

  /** The rows of one query over many segments: ids, or { matching: "pattern" }. */
  async *gather(segments, sql, parameters, options = {}, about = {}) {
    yield* (await this.server(this.address)).gather(segments, sql, parameters, options, about);
  }

  /** Run SQL in one transaction; creates the segment if it is new. */
  async write(segment, sql, parameters, { schema = "default", ...options } = {}) {
    for (let last = false; ; last = true) {
      let address = this.writers.get(segment);
      if (!address) {
        const sync = await this.server(this.address);
        await sync.command("PROVISION", segmentWord(segment), wordArgument(schema, "schema="));
        address = (await this.copies(segment)).find((copy) => copy.role === "write")?.address;
        if (!address) throw new TroughError("unavailable", `no worker writes segment ${segment} now`);
      }
      try {
        const changes = await (await this.server(address)).write(segment, sql, parameters, options);
        this.writers.set(segment, address);
        this.readers.set(segment, address);
        return changes;
      } catch (error) {
        this.writers.delete(segment);
        const refused = error.sent === false || NOT_HERE.has(error.code);
        if (last || !refused) throw error;
      }
    }
  }

  /** Close all connections. */
  close() {
    for (const connecting of this.connections.values())
      connecting.then(
        (connection) => connection.close(),
        () => {},
      );
    this.connections.clear();
  }

  // Copies that can be asked, the one that is written first.
  async copies(segment) {
    const sync = await this.server(this.address);
    const { lines } = await sync.command("WHERE", segmentsArgument([segment]));
    return lines
      .filter(([word]) => word === "COPY")
      .map(([, rest]) => rest.split(" "))
      .map(([, node, address, , role]) => ({ node, address, role }))
      .filter(({ address }) => address !== "-")
      .sort((one, other) => (one.role < other.role ? 1 : -1));
  }

  async server(address) {
    const known = this.connections.get(address);
    if (known && !(await known.catch(() => ({ closed: true }))).closed) return known;
    const connecting = connect(address, this.options);
    this.connections.set(address, connecting);
    return connecting;
  }
}

/** A Trough by the address of a sync server's line protocol; options: token, ca. */
export async function open(address, options = {}) {
  const trough = new Trough(address, options);
  await trough.server(address);
  return trough;
}
