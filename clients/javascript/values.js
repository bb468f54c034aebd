// Values on the wire: "Values" in PROTOCOL.rst.

// Strings and numbers of JSON. What is between them needs no look.
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const LEAST = -(2n ** 63n);
const GREATEST = 2n ** 63n - 1n;

/** The rows of a ROWS line. */
export function decodeRows(text) {
  // JSON.parse() would round integers of more than 53 bits.
  const exact = /\d{16}/.test(text)
    ? text.replace(TOKENS, (token) =>
        /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token))
          ? `{"integer":"${token}"}`
          : token,
      )
    : text;
  return JSON.parse(exact).map((row) => row.map(decodeValue));
}

function decodeValue(value) {
  if (value === null || typeof value !== "object") return value;
  if ("integer" in value) return BigInt(value.integer);
  return Buffer.from(value.blob, "base64");
}

/** What bind= takes: an array for ?, an object for :name. */
export function encodeParameters(parameters) {
  if (Array.isArray(parameters)) return `[${parameters.map(encodeValue).join(",")}]`;
  const pairs = Object.entries(parameters);
  return `{${pairs.map(([name, value]) => `${JSON.stringify(name)}:${encodeValue(value)}`).join(",")}}`;
}

function encodeValue(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "null";
  if (value === Infinity) return "9e999";
  if (value === -Infinity) return "-9e999";
  if (typeof value === "boolean") return value ? "1" : "0";
  if (typeof value === "bigint") {
    if (value < LEAST || value > GREATEST) throw new RangeError(`${value} has more than 64 bits`);
    return String(value);
  }
  if (typeof value === "number") {
    // Beyond 53 bits a number is a REAL, and needs an exponent to be one.
    return Number.isInteger(value) && !Number.isSafeInteger(value)
      ? value.toExponential()
      : String(value);
  }
  if (typeof value === "string") return JSON.stringify(value.toWellFormed?.() ?? value);
  if (value instanceof Uint8Array)
    return `{"blob":"${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64")}"}`;
  throw new TypeError(`SQLite has no value like ${typeof value}`);
}
