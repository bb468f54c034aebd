// Elements, and requests to this server. Whatever comes from a segment becomes text, never markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function problem(text, ...more) {
  return h("div", {class: "problem", role: "alert"}, text, ...more);
}

export function bytes(number) {
  if (number === null || number === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let place = 0;
  while (number >= 1024 && place < units.length - 1) { number /= 1024; place += 1; }
  return `${place ? number.toFixed(1) : number} ${units[place]}`;
}

export const count = (number) => Number(number).toLocaleString("en");
export const counted = (number, noun) => `${count(number)} ${noun}${Number(number) === 1 ? "" : "s"}`;
export const moment = (seconds) => (seconds ? new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC" : "");

export async function failure(response) {
  const text = await response.text();
  try { return JSON.parse(text).error || text; } catch { return text.replace(/^500 Server Error: /, ""); }
}

// A request to this server. The header keeps the browser from asking for a password by itself.
export async function ask(path, {headers = {}, ...options} = {}) {
  const response = await fetch(path, {...options, headers: {...headers, "X-Trough-Console": "1"}});
  if (response.ok) return response;
  const error = new Error(await failure(response));
  error.status = response.status;
  // The session is over: the frame shows the log-in.
  if (response.status === 401) document.dispatchEvent(new Event("log-in"));
  throw error;
}

export async function getJson(path, signal) {
  return (await ask(path, {signal, headers: {Accept: "application/json"}})).json();
}

export async function postJson(path, body) {
  const headers = {"Content-Type": "application/json"};
  return (await ask(path, {method: "POST", headers, body: JSON.stringify(body)})).json();
}

export function later(milliseconds, action) {
  let timer = 0;
  return (...given) => { clearTimeout(timer); timer = setTimeout(() => action(...given), milliseconds); };
}

// The page and its parameters, in the address after the #.
export function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return {parts: path.split("/").map(decodeURIComponent), options: new URLSearchParams(query)};
}

export function address(page, options = {}) {
  const given = Object.entries(options).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return `#/${page.split("/").map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}
