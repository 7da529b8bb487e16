"use strict";
// All text of the transcripts is inserted as text nodes, never as markup.
const contents = JSON.parse(document.getElementById("index").textContent);
const at = id => document.getElementById(id);
const [list, pane, detail, panes] = [at("list"), at("talk"), at("detail"), at("panes")];
const filters = { persona: at("persona"), seat: at("seat"), verdict: at("verdict") };
const byNumber = contents.runs.map(run => new Map(run.index.map(entry => [entry.c, entry])));
const numbers = [...new Set(contents.runs.flatMap(run => run.index.map(entry => entry.c)))].sort((a, b) => a - b);
const unpacked = new Map();
let shown = [], open = null, marks = [], place = -1, opening = 0;

function make(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}

async function packet(run, number) {
  const key = `packet-${run}-${number}`;
  if (!unpacked.has(key)) {
    const bytes = Uint8Array.from(atob(at(key).textContent.trim()), char => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    unpacked.set(key, new Response(stream).json());
    if (unpacked.size > 40) unpacked.delete(unpacked.keys().next().value);
  }
  return unpacked.get(key);
}

const seats = () => filters.seat.value ? [filters.seat.value] : ["user", "assistant"];
const sum = (counts) => seats().reduce((total, seat) => total + (counts[seat] || 0), 0);
const VERDICTS = {
  "": () => true, bad: entry => sum(entry.bad) > 0, clean: entry => sum(entry.bad) === 0 && entry.st !== "failed",
  wrong: entry => sum(entry.wrong) > 0, unscored: entry => entry.un > 0, failed: entry => entry.st === "failed",
};

function fits(entry) {
  const persona = filters.persona.value;
  return (!persona || seats().some(seat => entry.who[seat] === persona)) && VERDICTS[filters.verdict.value](entry);
}

function fill() {
  shown = numbers.filter(number => byNumber.some(entries => entries.has(number) && fits(entries.get(number))));
  list.replaceChildren(...shown.map(number => make("li", "", row(number))));
  at("count").textContent = `${shown.length} of ${numbers.length} dialogues`;
  mark();
}

function row(number) {
  const entries = byNumber.map(some => some.get(number));
  const who = entries.find(Boolean).who;
  const button = make("button", "", make("b", "", `#${number}`),
    make("span", "talkers", make("span", "user", who.user || "?"), " ⇄ ", make("span", "assistant", who.assistant || "?")));
  button.type = "button";
  button.dataset.number = number;
  entries.forEach((entry, run) => {
    if (!entry) return;
    const bad = sum(entry.bad), name = contents.runs[run].mark;
    if (bad || entry.st === "failed") button.append(make("span", "bad", ` ${name}${entry.st === "failed" ? "failed " : ""}${bad ? `✗${bad}` : ""}`));
    else if (name) button.append(make("span", "good", ` ${name}✓`));
  });
  button.addEventListener("click", () => go(number));
  return button;
}

function mark() {
  for (const button of list.querySelectorAll("button")) button.setAttribute("aria-current", String(Number(button.dataset.number) === open));
}

async function go(number, turn = null, run = 0) {
  const ticket = ++opening;
  const talks = await Promise.all(byNumber.map(async (entries, side) => {
    const entry = entries.get(number);
    return entry ? (await packet(side, entry.k))[entry.i] : null;
  }));
  if (ticket !== opening) return;
  open = number;
  close();
  const turns = [...new Set(talks.flatMap(talk => talk ? talk.lines.map(line => line.t) : []))].sort((a, b) => a - b);
  const lines = talks.map(talk => new Map(talk ? talk.lines.map(line => [line.t, line]) : []));
  marks = [];
  const head = make("div", "turn", ...talks.map((talk, side) => make("div", "", make("b", "", `${contents.runs[side].mark} #${number}`),
    make("span", "dim", talk ? ` ${byNumber[side].get(number).st}${talk.why ? `: ${talk.why}` : ""}` : " is not in this run"))));
  pane.replaceChildren(head, ...turns.map(t => make("div", talks.length > 1 ? "turn split" : "turn",
    ...lines.map((some, side) => some.has(t) ? said(side, number, some.get(t), some) : make("div", "")))));
  place = -1;
  mark();
  const current = list.querySelector("[aria-current=true]");
  if (current) within(list, current);
  pane.scrollTop = 0;
  history.replaceState(null, "", `#c${number}${turn === null ? "" : `t${turn}${contents.runs[run].mark}`}`);
  if (turn !== null) light(run, turn);
}

function within(box, child) { // scrolls the box alone, never the page
  const [outer, inner] = [box.getBoundingClientRect(), child.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
}

function said(side, number, line, all) {
  const who = byNumber[side].get(number).who[line.s] || "?";
  const conflicts = line.k || [], faults = conflicts.filter(mark => !mark.r);
  const sign = faults.length ? make("b", "bad", "✗ ") : conflicts.length ? make("b", "good", "↩ ") : null;
  const box = make("div", "line", make("div", "who", sign, make("b", line.s, who), make("span", "dim", ` ${line.s} · t${line.t} · ${line.n}`)), text(line));
  box.dataset.key = `${side}-${line.t}`;
  if (filters.seat.value && filters.seat.value !== line.s) box.classList.add("other");
  const items = folded(conflicts).map(same => {
    const [mark] = same, sure = mark.p === null || mark.p === 1 || same.length > 1;
    const button = make("button", mark.r ? "mark-link back" : "mark-link", `${sentence(same)} (${mark.j}${sure ? "" : `, p ${mark.p.toFixed(2)}`})`);
    button.type = "button";
    button.addEventListener("click", () => tell(side, who, line, same, all));
    if (!mark.r) marks.push(button);
    return make("li", "", button);
  });
  for (const [why, count] of Object.entries(line.u || {})) items.push(make("li", "dim", `unscored ×${count}: ${why}`));
  if (items.length) box.append(make("ul", "", ...items));
  for (const seat of ["user", "assistant"]) {
    const answers = (line.q || []).filter(answer => answer.s === seat);
    for (const judge of new Set(answers.map(answer => answer.j))) box.append(asked(seat, judge, answers.filter(answer => answer.j === judge)));
  }
  return box;
}

function folded(conflicts) { // the contradictions of a line, those of earlier lines by one judge together
  const groups = new Map();
  for (const mark of conflicts) {
    const key = mark.m === "line_to_line" ? `${mark.j} ${mark.r}` : `${mark.j} ${mark.m} ${mark.a}`;
    groups.set(key, [...(groups.get(key) || []), mark]);
  }
  return [...groups.values()];
}

const names = same => same.length > 1 ? `${same.length} earlier lines` : name(same[0]);
const sentence = same => same[0].r ? `returns to the persona, conflicts with ${names(same)}`
  : same[0].m === "line_to_line" ? `conflicts with ${names(same)}` : `contradicts ${names(same)}`;
const name = mark => mark.m === "line_to_line" ? `own line t${mark.a}` : mark.a === "persona" ? "the persona" : mark.a.replaceAll("_", " ");

function text(line) {
  const paragraph = make("p", "");
  const spans = (line.k || []).filter(mark => mark.w && !mark.r).map(mark => mark.w).sort((a, b) => a[0] - b[0]);
  const points = [...line.x]; // spans count code points
  let done = 0;
  for (const [start, end] of spans) {
    if (end <= done) continue;
    paragraph.append(points.slice(done, Math.max(done, start)).join(""), make("mark", "", points.slice(Math.max(done, start), end).join("")));
    done = end;
  }
  paragraph.append(points.slice(done).join(""));
  return paragraph;
}

function asked(seat, judge, answers) {
  const right = answers.filter(answer => answer.v === false).length, missing = answers.filter(answer => answer.v === null).length;
  const head = make("summary", "", make("span", seat, seat), ` Q&A probe: ${right} of ${answers.length - missing} right (${judge})`
    + (missing ? `, ${missing} unscored` : ""));
  return make("details", "", head, make("ul", "", ...answers.map(answer => make("li", answer.v === false ? "good" : answer.v ? "bad" : "dim",
    `${answer.v === false ? "✓" : answer.v ? "✗" : "–"} ${answer.f.replaceAll("_", " ")}${answer.a ? `: ${answer.a}` : ""}${answer.u ? `: ${answer.u}` : ""}`))));
}

function tell(side, who, line, same, all) {
  const [mark] = same, persona = contents.people[who], fact = persona && persona.facts[mark.a];
  const earlier = mark.m === "line_to_line" ? same.map(each => all.get(Number(each.a))).filter(Boolean) : [];
  const close_ = make("button", "", "close");
  close_.type = "button";
  close_.addEventListener("click", close);
  const jump = turn => { const link = make("a", "", `t${turn}`); link.href = `#c${open}t${turn}${contents.runs[side].mark}`; return link; };
  const parts = [close_, make("h3", "", `${who} ${sentence(same)}`), make("p", "dim", `${mark.j}, p ${mark.p === null ? "–" : mark.p.toFixed(2)}`),
    make("p", "", "says at ", jump(line.t)), make("blockquote", "", text({ x: line.x, k: same }))];
  if (mark.c && same.length === 1) parts.push(make("p", "", "which contradicts"), make("blockquote", "", mark.c));
  for (const was of earlier) parts.push(make("p", "", "said at ", jump(was.t)), make("blockquote", "", was.x));
  if (fact) parts.push(make("p", "", `the fact: ${name(mark)} = ${fact.value}`), make("blockquote", "", fact.claim));
  if (persona && (!earlier.length || mark.r)) parts.push(make("p", "", "the card"), make("blockquote", "", persona.card));
  detail.replaceChildren(...parts);
  detail.hidden = false;
  panes.classList.add("open");
  unlight();
  for (const turn of [line.t, ...earlier.map(was => was.t)]) {
    const box = pane.querySelector(`[data-key="${side}-${turn}"]`);
    if (box) box.classList.add("lit");
  }
}

function unlight() { for (const box of pane.querySelectorAll(".lit")) box.classList.remove("lit"); }

function light(side, turn) {
  unlight();
  const box = pane.querySelector(`[data-key="${side}-${turn}"]`);
  if (box) { box.classList.add("lit"); within(pane, box); }
}

function close() { detail.hidden = true; panes.classList.remove("open"); unlight(); }

function step(by) {
  if (!shown.length) return;
  const now = shown.indexOf(open);
  go(shown[now < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, now + by))]);
}

function next(by) {
  if (!marks.length) return;
  place = Math.min(marks.length - 1, Math.max(0, place + by));
  marks[place].click();
  marks[place].focus({ preventScroll: true });
  within(pane, marks[place]);
}

const KEYS = { j: () => step(1), k: () => step(-1), n: () => next(1), p: () => next(-1), f: () => filters.persona.focus(), Escape: close };
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT" || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

function follow() {
  const match = /^#c(\d+)(?:t(\d+)([A-Z]?))?$/.exec(location.hash);
  if (!match || !numbers.includes(Number(match[1]))) return false;
  const side = Math.max(0, contents.runs.findIndex(run => run.mark === (match[3] || "")));
  const turn = match[2] === undefined ? null : Number(match[2]);
  if (Number(match[1]) === open && turn !== null) light(side, turn);
  else go(Number(match[1]), turn, side);
  return true;
}
window.addEventListener("hashchange", () => { if (follow()) at("reader").scrollIntoView(); });

at("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
});
for (const persona of [...new Set(contents.runs.flatMap(run => run.index.flatMap(entry => Object.values(entry.who))))].sort()) {
  const option = make("option", "", persona);
  option.value = persona;
  filters.persona.append(option);
}
for (const filter of Object.values(filters)) filter.addEventListener("change", () => { fill(); if (open !== null && shown.includes(open)) go(open); });
at("filters").addEventListener("submit", event => event.preventDefault());
fill();
if (!follow() && shown.length) go(shown[0]);
