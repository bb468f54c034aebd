// What clients/javascript promises, against real servers: node javascript_client.mjs SYNC WORKER TOKEN

import assert from "node:assert/strict";
import net from "node:net";
import { connect, open, TroughError } from "../../clients/javascript/trough.js";

const [sync, worker, token] = process.argv.slice(2);
const ENDLESS =
  "WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c) SELECT n, printf('%1000d', n) FROM c";

async function all(rows) {
  const found = [];
  for await (const row of rows) found.push(row);
  return found;
}

const code = (expected) => (error) => error instanceof TroughError && error.code === expected;

const trough = await open(sync, { token });
const segments = ["js 1", "js-2"];
for (const [number, segment] of segments.entries()) {
  await trough.write(segment, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
  assert.equal(await trough.write(segment, "INSERT INTO t VALUES (?, ?)", [number, "x"]), 1);
}

// Values, both ways.
const values = [null, 1, -(2n ** 63n), 9007199254740993n, 0.5, -Infinity, "ä\n{3}", Buffer.from([0, 255]), "12345678901234567890"];
assert.deepEqual(await all(trough.query("js 1", `SELECT ${values.map(() => "?")}`, values)), [values]);
assert.deepEqual(await all(trough.query("js 1", "SELECT :a, typeof(:a)", { a: 1e300 })), [[1e300, "real"]]);
const about = {};
await all(trough.query("js 1", "SELECT id AS i FROM t WHERE 0", [], {}, about));
assert.deepEqual(about.columns, ["i"]);

// Long SQL, and what would not survive in a line, goes as a literal.
assert.deepEqual(await all(trough.query("js 1", `SELECT '${"y".repeat(5000)}',\n'{1}'`)), [["y".repeat(5000), "{1}"]]);

// Many segments.
assert.deepEqual(await all(trough.gather(segments, "SELECT id FROM t ORDER BY 1")), [[0], [1]]);
assert.deepEqual(await all(trough.gather({ matching: "^js" }, "SELECT count(*) FROM t")), [[2]]);
const gaps = {};
await all(trough.gather(["js-2", "nowhere"], "SELECT 1 FROM t", undefined, { partial: "yes" }, gaps));
assert.deepEqual(Object.keys(gaps.missing), ["nowhere"]);

// Errors have codes.
await assert.rejects(all(trough.query("js 1", "SELECT nothing")), code("bad-sql"));
await assert.rejects(all(trough.query("nowhere", "SELECT 1")), code("no-segment"));
await assert.rejects(trough.write("js 1", "INSERT INTO t (id) VALUES (0)"), code("bad-sql"));
await assert.rejects(all(trough.query("js 1", `SELECT count(*) FROM (${ENDLESS})`, [], { seconds: 0.3 })), code("timeout"));

// A slow reader stops the server; leaving a loop cancels the query.
const direct = await connect(worker, { token });
let count = 0;
for await (const [n] of direct.query("js 1", ENDLESS)) {
  assert.equal(n, ++count);
  if (count === 1) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(direct.held < 4 << 20, `${direct.held} bytes wait`);
  if (count === 20000) break;
}
assert.equal(direct.answers.size, 0);
assert.deepEqual(await all(direct.query("js 1", "SELECT 1")), [[1]]);

// Requests are answered side by side.
assert.deepEqual(
  await Promise.all([1, 2, 3].map(async (n) => (await all(direct.query("js 1", "SELECT ?", [n])))[0][0])),
  [1, 2, 3],
);
direct.close();
await assert.rejects(all(direct.query("js 1", "SELECT 1")), code("unavailable"));

// A wrong token is refused.
await assert.rejects(connect(worker, { token: "wrong" }), code("unauthorized"));
await assert.rejects(connect(worker), code("unauthorized"));

// A write whose answer is lost is not sent again; nobody knows whether it was done.
const heard = [];
const dying = net.createServer((socket) => {
  socket.write("TROUGH 1 worker w auth=none new-field=1\n");
  socket.on("error", () => {});
  socket.on("data", (data) => {
    heard.push(String(data).split(" ")[1]);
    socket.destroy();
  });
});
await new Promise((resolve) => dying.listen(0, "127.0.0.1", resolve));
const lost = new TroughAt(`127.0.0.1:${dying.address().port}`);
await assert.rejects(lost.trough.write("a", "DELETE FROM t"), code("outcome-unknown"));
assert.deepEqual(heard, ["WRITE"]);
dying.close();
trough.close();
console.log("done");

// A Trough that knows the writer of a segment already.
function TroughAt(address) {
  this.trough = Object.create(Object.getPrototypeOf(trough));
  Object.assign(this.trough, { address, options: {}, connections: new Map(), readers: new Map(), writers: new Map([["a", address]]) });
}
