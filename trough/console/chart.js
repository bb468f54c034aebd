// Bars, a line or a histogram of some rows, drawn by uPlot.
import {h} from "./dom.js";
import uPlot from "./vendor/uplot.js";

const MOST = 20000;
const MOST_BARS = 200;

const colour = () => getComputedStyle(document.documentElement).getPropertyValue("--link").trim();
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--fore").trim();
const isNumber = (value) => typeof value === "number" || typeof value === "bigint";
const numeric = (rows, place) => rows.some((row) => isNumber(row[place])) && rows.every((row) => row[place] === null || isNumber(row[place]));
const dated = (rows, place) => rows.length > 0 && rows.every((row) => typeof row[place] === "string" && /^\d{4}-\d\d-\d\d/.test(row[place]) && !Number.isNaN(Date.parse(row[place])));

// What suits the rows: a line over time or numbers, bars of names, or how often values occur.
export function suitable(columns, rows) {
  const numbers = columns.map((_, place) => place).filter((place) => numeric(rows, place));
  const y = numbers[numbers.length - 1];
  const x = columns.findIndex((_, place) => place !== y);
  if (y === undefined) return null;
  if (x < 0) return {kind: "histogram", x: y, y};
  return {kind: dated(rows, x) || numeric(rows, x) ? "line" : "bars", x, y};
}

function axes(names) {
  const axis = {stroke: ink(), grid: {stroke: "#8884"}, ticks: {stroke: "#8884"}};
  return [names ? {...axis, values: (_, places) => places.map((place) => (Number.isInteger(place) ? names[place] ?? "" : "")), rotate: -35, size: 90} : axis, {...axis, size: 70}];
}

export function drawChart(where, columns, rows, {kind, x, y, zero = false, height = 320}) {
  const plain = (value) => (typeof value === "bigint" ? Number(value) : value);
  const used = rows.slice(0, kind === "bars" ? MOST_BARS : MOST).map((row) => row.map(plain));
  const width = Math.max(280, Math.min(where.clientWidth || 600, 1100));
  const bar = {paths: uPlot.paths.bars({size: [0.7, 60]}), fill: colour(), stroke: colour(), points: {show: false}};
  const fromZero = {range: (_, least, most) => [Math.min(0, least), Math.max(0, most) * 1.05 || 1]};
  let data, options;
  if (kind === "histogram") {
    const values = used.map((row) => row[y]).filter((value) => typeof value === "number" && Number.isFinite(value));
    if (!values.length) throw new Error("There are no numbers in this column.");
    let least = values[0], most = values[0];
    for (const value of values) { least = Math.min(least, value); most = Math.max(most, value); }
    const number = Math.max(1, Math.min(40, Math.ceil(Math.sqrt(values.length))));
    const step = (most - least) / number || 1;
    const found = new Array(number).fill(0);
    for (const value of values) found[Math.min(number - 1, Math.floor((value - least) / step))] += 1;
    data = [found.map((_, place) => least + (place + 0.5) * step), found];
    options = {scales: {x: {time: false}, y: fromZero}, axes: axes(), series: [{label: columns[y]}, {label: "rows", ...bar}]};
  } else if (kind === "line") {
    const time = dated(used, x);
    const pairs = used.map((row) => [time ? Date.parse(row[x]) / 1000 : row[x], row[y]]).filter(([a]) => typeof a === "number").sort((a, b) => a[0] - b[0]);
    if (!pairs.length) throw new Error("A line needs numbers or dates in its first column.");
    data = [pairs.map((pair) => pair[0]), pairs.map((pair) => pair[1])];
    options = {scales: {x: {time}, ...(zero ? {y: fromZero} : {})}, axes: axes(), series: [{label: columns[x]}, {label: columns[y], stroke: colour(), width: 2}]};
  } else {
    const names = used.map((row) => String(row[x] ?? "NULL").slice(0, 24));
    data = [names.map((_, place) => place), used.map((row) => (typeof row[y] === "number" ? row[y] : null))];
    options = {scales: {x: {time: false, range: [-0.6, names.length - 0.4]}, y: fromZero}, axes: axes(names), series: [{label: columns[x], value: (_, place) => names[place] ?? ""}, {label: columns[y], ...bar}]};
  }
  const label = `${kind} of ${columns[y]}${kind === "histogram" ? "" : ` by ${columns[x]}`}, ${used.length} rows`;
  const frame = h("div", {role: "img", "aria-label": label});
  where.replaceChildren(frame);
  new uPlot({width, height, legend: {show: !zero}, ...options}, data, frame);
  if (used.length < rows.length) where.append(h("p", {class: "soft"}, `Of ${rows.length} rows the first ${used.length} are drawn.`));
}
