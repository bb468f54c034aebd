// The frame of the console: which page is shown, and which server this is.
import {getJson, h, place, problem} from "./dom.js";
import {clusterPage} from "./cluster.js";
import {queryPage} from "./query.js";
import {segmentsPage} from "./segments.js";

const PAGES = {query: queryPage, segments: segmentsPage, cluster: clusterPage};
const main = document.getElementById("main");
let leave = () => {};
let shown = "";
let role = "sync";

async function show() {
  const {parts, options} = place();
  const name = PAGES[parts[0]] && (role === "sync" || parts[0] === "cluster") ? parts[0] : role === "sync" ? "query" : "cluster";
  leave();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} - Trough`;
  main.replaceChildren();
  try {
    leave = (await PAGES[name](main, options, parts.slice(1))) || (() => {});
  } catch (error) {
    leave = () => {};
    main.append(problem(error.message));
  }
  if (shown && shown !== name) main.focus();
  shown = name;
}

async function start() {
  try {
    role = (await getJson("server.json")).role;
    if (role !== "sync") document.querySelectorAll("[data-role=sync]").forEach((link) => { link.hidden = true; });
    document.getElementById("server").textContent = `${role === "worker" ? "worker" : "sync server"} ${location.host}`;
  } catch (error) {
    main.append(h("p", {}, problem(`This server does not answer: ${error.message}`)));
  }
  addEventListener("hashchange", show);
  await show();
}

start();
