// The frame of the console: which page is shown, which server this is, and who is logged in.
import {ask, getJson, h, place, problem} from "./dom.js";
import {clusterPage} from "./cluster.js";
import {loginPage} from "./login.js";
import {queryPage} from "./query.js";
import {segmentsPage} from "./segments.js";

const PAGES = {query: queryPage, segments: segmentsPage, cluster: clusterPage};
const main = document.getElementById("main");
const who = document.getElementById("who");
let leave = () => {};
let shown = "";
let server = {role: "sync", closed: false, token: null, session: false};

const wantsToken = () => server.closed && !server.token;

async function show() {
  const {parts, options} = place();
  const known = PAGES[parts[0]] && (server.role === "sync" || parts[0] === "cluster");
  const name = wantsToken() ? "log in" : known ? parts[0] : server.role === "sync" ? "query" : "cluster";
  leave();
  leave = () => {};
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} - Trough`;
  main.replaceChildren();
  if (wantsToken()) { loginPage(main, start); shown = name; return; }
  try {
    leave = (await PAGES[name](main, options, parts.slice(1), server)) || (() => {});
  } catch (error) {
    if (error.status !== 401) main.append(problem(error.message));
  }
  if (shown && shown !== name) main.focus();
  shown = name;
}

async function leaveSession() {
  try { await ask("/session", {method: "DELETE"}); } catch { /* it is over anyway */ }
  // The next person at this browser sees nothing of what was asked.
  try { localStorage.removeItem("trough-history"); } catch { /* there is no store */ }
  await start();
}

// What the token gives may have changed since the page was loaded.
async function start() {
  try {
    server = await getJson("server.json");
    const worker = server.role === "worker";
    document.querySelectorAll("nav a").forEach((link) => { link.hidden = wantsToken() || (worker && link.dataset.role === "sync"); });
    document.getElementById("server").textContent = `${worker ? "worker" : "sync server"} ${location.host}`;
    who.replaceChildren(...(server.token && server.closed ? [h("span", {title: `rights: ${server.token.rights.join(", ")}`}, server.token.name)] : []),
      ...(server.session ? [h("button", {onclick: leaveSession}, "Log out")] : []));
  } catch (error) {
    main.replaceChildren(problem(`This server does not answer: ${error.message}`));
    return;
  }
  await show();
}

document.addEventListener("log-in", () => { if (!wantsToken()) start(); });
addEventListener("hashchange", show);
start();
