// The page: asks /search as one types, shows rows with their passages, and the binding's state.
"use strict";

const byId = (id) => document.getElementById(id);
const q = byId("q"), list = byId("results"), said = byId("said"), picker = byId("binding");
const stateLine = byId("state"), hello = byId("hello"), root = document.documentElement;

const K = 10;
const LEAD = 160;
const LONG = 80;           // longer values that the text shows already aren't repeated below it
const TYPING_MS = 90;
const STATE_MS = 500;
const STATE_HIDDEN_MS = 5000;

const number = new Intl.NumberFormat("en");
let asking = null;       // AbortController of the question on its way
let timer = 0;
let shown = null;        // the answer on the page, as JSON text: the same answer isn't drawn twice
let selected = -1;
let open = new Set();    // keys of opened results
let bindings = [];
let seenVersion = null;

/* ---- making elements: text only ever becomes text, never markup ---- */

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/* ---- dark and light ---- */

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function remembered() { try { return localStorage.getItem("theme"); } catch { return null; } }
function applyTheme() { root.dataset.theme = remembered() || (prefersDark.matches ? "dark" : "light"); }
applyTheme();
prefersDark.addEventListener("change", applyTheme);
byId("theme").addEventListener("click", () => {
  const next = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", next); } catch { /* private window: for this page only */ }
  root.dataset.theme = next;
});

/* ---- asking ---- */

function binding() { return picker.value || (bindings[0] && bindings[0].name) || ""; }

async function ask(options) {
  clearTimeout(timer);
  const text = q.value.trim();
  if (asking) asking.abort();
  if (!text || !binding()) { asking = null; return clear(); }
  const mine = asking = new AbortController();
  try {
    const response = await fetch("search", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ q: text, k: K, binding: binding() }),
      signal: mine.signal,
    });
    const answer = await response.json();
    if (mine !== asking) return;   // a later question has been asked meanwhile
    if (!response.ok) return say(answer.error ? answer.error.message : "the server refused", true);
    show(answer, options);
  } catch (failed) {
    if (failed.name !== "AbortError" && mine === asking) say("The server doesn't answer.", true);
  } finally {
    if (mine === asking) asking = null;
  }
}

function say(text, wrong) {
  said.textContent = text;
  said.classList.toggle("wrong", Boolean(wrong));
}

function clear() {
  shown = null;
  selected = -1;
  list.replaceChildren();
  say("");
  q.setAttribute("aria-expanded", "false");
  q.removeAttribute("aria-activedescendant");
  hello.hidden = false;
}

/* ---- showing ---- */

function show(answer, options) {
  hello.hidden = true;
  const count = answer.results.length;
  say(count ? `${count} nearest rows in ${Math.max(1, Math.round(answer.took_ms))} ms` : "Nothing found.");
  list.dataset.q = answer.q;
  const text = JSON.stringify(answer.results);
  if (text === shown) return;
  shown = text;
  const kept = options && options.keep && selected >= 0 ? list.children[selected].dataset.key : null;
  list.replaceChildren(...answer.results.map(result));
  selected = -1;
  q.setAttribute("aria-expanded", String(count > 0));
  q.removeAttribute("aria-activedescendant");
  if (kept !== null) select([...list.children].findIndex((item) => item.dataset.key === kept));
}

function result(found, at) {
  const key = JSON.stringify(found.key);
  const part = Math.max(0, Math.min(1, found.score));
  const score = element("span", { class: "score", title: "similarity" }, element("i"), found.score.toFixed(3));
  score.firstChild.style.setProperty("--part", part);
  const place = element("div", { class: "place" }, placeOf(found));
  if (!found.fresh) place.append(element("span", { class: "stale" }, " · changed since it was embedded"));
  const item = element("li", { class: "result", role: "option", id: `result-${at}`, "aria-selected": "false" },
    element("div", { class: "head" }, element("span", { class: "name" }, nameOf(found)), score),
    place, passage(found), rowOf(found));
  item.dataset.key = key;
  item.classList.toggle("open", open.has(key));
  item.addEventListener("click", () => {
    if (getSelection().toString()) return;   // somebody is copying text
    select(at);
    toggle(item);
  });
  return item;
}

function placeOf(found) {
  return `${found.table} ${found.key.map(shownValue).join(", ")}`;
}

const NAMES = ["title", "name", "subject", "headline", "heading", "label"];
function nameOf(found) {
  for (const wanted of NAMES)
    for (const column of Object.keys(found.row))
      if (column.toLowerCase() === wanted && found.row[column]) return shownValue(found.row[column]);
  const first = found.text.trim().split("\n", 1)[0];
  return first.length > 90 ? first.slice(0, 89) + "…" : first || placeOf(found);
}

// Offsets count code points; JavaScript strings count UTF-16 units.
function unitsOf(text, points) {
  let units = 0;
  for (const point of text) {
    if (points-- <= 0) break;
    units += point.length;
  }
  return units;
}

// The whole text, in pieces: `skipped` ones show only when the result is open, marked ones always.
function passage(found) {
  const text = found.text;
  const start = unitsOf(text, found.passage.start), end = unitsOf(text, found.passage.end);
  // A closed result begins near its passage, or the lines it has might not reach it.
  const near = start > LEAD ? Math.max(0, text.lastIndexOf(" ", start - LEAD / 2)) : 0;
  const name = nameOf(found);
  const from = near || (text.startsWith(name + "\n") && text.length > name.length + 1 ? name.length + 1 : 0);
  const cuts = [...new Set([0, from, start, end, text.length])].sort((a, b) => a - b);
  const made = element("p", { class: end - start >= text.trim().length ? "text whole" : "text" });
  for (let i = 1; i < cuts.length; i++) {
    if (cuts[i - 1] === from && near) made.append(element("span", { class: "ellipsis" }, "…"));
    const isMarked = cuts[i - 1] >= start && cuts[i] <= end;
    const piece = element(isMarked ? "mark" : "span", {}, text.slice(cuts[i - 1], cuts[i]));
    if (cuts[i] <= from) piece.className = "skipped";
    made.append(piece);
  }
  return made;
}

function rowOf(found) {
  const rows = element("dl", { class: "row" });
  for (const [column, value] of Object.entries(found.row)) {
    if (typeof value === "string" && value.length >= LONG && found.text.includes(value.trim())) continue;
    rows.append(element("dt", {}, column), element("dd", {}, shownValue(value)));
  }
  return rows;
}

function shownValue(value) {
  if (value === null) return "NULL";
  if (typeof value === "object") return value.base64 === undefined ? JSON.stringify(value) : `bytes ${value.base64}`;
  return String(value);
}

/* ---- the keyboard ---- */

function select(at) {
  const items = list.children;
  if (items[selected]) items[selected].setAttribute("aria-selected", "false");
  selected = at >= 0 && at < items.length ? at : -1;
  const item = items[selected];
  if (!item) return q.removeAttribute("aria-activedescendant");
  item.setAttribute("aria-selected", "true");
  item.scrollIntoView({ block: "nearest" });
  q.setAttribute("aria-activedescendant", item.id);
}

function toggle(item) {
  const isOpen = item.classList.toggle("open");
  if (!isOpen) return open.delete(item.dataset.key);
  open.add(item.dataset.key);
  const mark = item.querySelector("mark");
  if (mark && mark.getBoundingClientRect().top > innerHeight) mark.scrollIntoView({ block: "center" });
}

const KEYS = {
  ArrowDown: () => select(Math.min(selected + 1, list.children.length - 1)),
  ArrowUp: () => select(selected - 1),
  Enter: () => {
    if (selected >= 0) toggle(list.children[selected]);
    else if (list.children.length) select(0);
  },
  Escape: () => {
    if (selected >= 0 && list.children[selected].classList.contains("open")) toggle(list.children[selected]);
    else if (selected >= 0) select(-1);
    else { q.value = ""; changed(); }
    q.focus();
  },
};

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && document.activeElement !== q) {
    event.preventDefault();
    q.focus();
    q.select();
    return;
  }
  const inside = document.activeElement === q || document.activeElement === document.body;
  if (inside && KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

/* ---- typing, and the address ---- */

function changed() {
  const url = new URL(location.href);
  const text = q.value.trim();
  if (text) url.searchParams.set("q", text); else url.searchParams.delete("q");
  if (bindings.length > 1) url.searchParams.set("binding", binding());
  history.replaceState(null, "", url);
  showTitle();
  clearTimeout(timer);
  open = new Set();
  timer = setTimeout(ask, text ? TYPING_MS : 0);
}

function showTitle() {
  const text = q.value.trim();
  document.title = text ? `${text} · Likewise` : "Likewise";
}

q.addEventListener("input", changed);
picker.addEventListener("change", () => { seenVersion = null; changed(); showState(); });
byId("form").addEventListener("submit", (event) => event.preventDefault());

/* ---- the binding's state, live ---- */

async function followState() {
  try {
    const response = await fetch("bindings");
    bindings = (await response.json()).bindings;
    offer();
    showState();
    const here = bindings.find((each) => each.name === binding());
    const version = here && `${here.name} ${here.version} ${here.pending}`;
    // Something was published or changed: the question on the page may have another answer now.
    if (seenVersion !== null && version !== seenVersion && !asking && q.value.trim()) ask({ keep: true });
    if (seenVersion === null && q.value.trim() && shown === null) ask();
    seenVersion = version;
  } catch {
    stateLine.replaceChildren(dot("wrong"), "The server doesn't answer.");
  }
  setTimeout(followState, document.hidden ? STATE_HIDDEN_MS : STATE_MS);
}

function offer() {
  const names = bindings.map((each) => each.name);
  if (names.join() !== [...picker.options].map((each) => each.value).join()) {
    const wanted = picker.value || new URLSearchParams(location.search).get("binding");
    picker.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    if (names.includes(wanted)) picker.value = wanted;
    picker.hidden = names.length < 2;
  }
}

function dot(kind) { return element("span", { class: `dot ${kind}` }); }

function count(value, name) {
  return element("span", {}, element("b", {}, number.format(value)), ` ${name}`);
}

function showState() {
  const here = bindings.find((each) => each.name === binding());
  if (!here) {
    const how = "No binding is served; make one with: likewise bind add";
    stateLine.replaceChildren(dot("wrong"), how);
    return;
  }
  byId("examples").hidden = here.table !== DEMO_TABLE;
  const parts = [];
  const kind = here.error ? "wrong" : here.pending ? "working" : "";
  parts.push(element("span", {}, dot(kind), element("b", {}, here.name)));
  if (here.rows !== undefined) {
    parts.push(count(here.rows, "rows"), count(here.current, "current"), count(here.pending, "pending"));
    if (here.parked) parts.push(count(here.parked, "parked"));
    parts.push(element("span", {}, "lag ", element("b", {}, `${here.lag_seconds.toFixed(1)} s`)));
  }
  if (here.error) parts.push(element("span", { class: "wrong" }, here.error));
  stateLine.replaceChildren(...parts);
}

/* ---- begin ---- */

// Questions that the demo's table has answers to; other tables have other answers.
const DEMO_TABLE = "docs";
const EXAMPLES = ["find words that are almost the same", "give up after waiting too long", "the middle value of a list of numbers"];
for (const example of EXAMPLES) {
  const button = element("button", { type: "button" }, example);
  button.addEventListener("click", () => { q.value = example; q.focus(); changed(); });
  byId("examples").append(element("li", {}, button));
}
q.value = new URLSearchParams(location.search).get("q") || "";
hello.hidden = Boolean(q.value);
showTitle();
followState();
