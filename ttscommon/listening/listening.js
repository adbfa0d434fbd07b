"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// Listening: one clip at a time, a line that runs over the pictures, a click that seeks.
let items = $$(".item");
let current = 0;

function hush(but) {
  for (const other of $$("audio")) if (other !== but) other.pause();
}

// The event comes late: by then another clip may have been started.
document.addEventListener("play", (event) => {
  if (!event.target.paused) hush(event.target);
}, true);

for (const clip of $$(".clip")) {
  const player = $("audio", clip), track = $(".track", clip);
  if (!player) continue;
  const follow = () => {
    $(".cursor", track).style.left = 100 * player.currentTime / player.duration + "%";
    if (!player.paused) requestAnimationFrame(follow);
  };
  player.addEventListener("play", () => {
    clip.classList.add("playing");
    mark(items.indexOf(clip.closest(".item")), false);
    follow();
  });
  player.addEventListener("seeked", follow);
  for (const name of ["pause", "ended"]) player.addEventListener(name, () => clip.classList.remove("playing"));
  track.addEventListener("click", (event) => {
    const box = track.getBoundingClientRect();
    player.currentTime = player.duration * (event.clientX - box.left) / box.width;
    begin(player);
  });
}

function mark(index, scrolls = true) {
  current = Math.max(0, Math.min(items.length - 1, index));
  items.forEach((item, i) => item.classList.toggle("current", i === current));
  if (scrolls) items[current].scrollIntoView({ block: "nearest" });
}

// The largest values first; what has none comes last, in the order in which it was given.
function sortBy(name) {
  const values = data.orders[name];
  const place = (item) => Number(item.dataset.order);
  const value = (item) => (values ? values[place(item)] ?? -Infinity : 0);
  const difference = (a, b) => (value(a) === value(b) ? place(a) - place(b) : value(b) - value(a));
  items = [...items].sort(difference);
  for (const item of items) $("#listen").append(item);
  mark(0, false);
}

$("[name=order]")?.addEventListener("change", (event) => sortBy(event.target.value));

function listenKey(key) {
  const players = $$(".clip", items[current]).map((clip) => $("audio", clip));
  if (key === "ArrowDown" || key === "ArrowUp") {
    mark(current + (key === "ArrowDown" ? 1 : -1));
  } else if (key === " ") {
    const player = players.find((p) => p && !p.paused) ?? players.find((p) => p && p.currentTime > 0) ?? players.find(Boolean);
    if (player) player.paused ? begin(player) : player.pause();
  } else if (/^[1-9]$/.test(key) && players[key - 1]) {
    restart(players[key - 1]);
  } else {
    return false;
  }
  return true;
}

function restart(player) {
  player.currentTime = 0;
  begin(player);
}

// A pause that comes before the sound has begun is no error.
function begin(player) {
  hush(player);
  player.play().catch(() => {});
}

// Views.
let view = "listen";
const test = $("#test"), screens = Object.fromEntries($$("[data-screen]").map((s) => [s.dataset.screen, s]));

function show(name) {
  view = name;
  const isTest = ["ab", "abx", "like"].includes(name);
  for (const section of $$("main > section")) section.hidden = section.id !== (isTest ? "test" : name);
  for (const button of $$("[data-view]")) {
    if (button.dataset.view === name) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  hush();
  if (isTest) openTest(name);
}

for (const button of $$("[data-view]")) button.addEventListener("click", () => show(button.dataset.view));

// Blind tests.
const TITLES = { ab: "Blind A/B", abx: "ABX", like: "More like X" };
const ABOUT = {
  ab: "You hear two versions of a sentence without knowing which is which. Play both as often as you like, then choose.",
  abx: "A and B are two versions of a sentence, and X is one of them again. Find out which one.",
  like: "X is the real person. A and B are two attempts at the same sentence. Choose the one that is closer.",
};
let run = null; // { mode, listener, session, began, trials, index, answers }
let slots = {}; // letter -> audio element
let heard = {}, shownAt = 0;

function shuffled(list) {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

// Each side of a pair stands as often at A as at B, and X as often is the one as the other.
function allTrials(mode) {
  const found = [];
  for (const pair of data.pairs) {
    const usable = shuffled(data.items.filter((item) =>
      pair.every((name) => item.clips[name]) && (mode !== "like" || item.clips[data.reference])));
    const offset = Math.floor(Math.random() * 4);
    usable.forEach((item, i) => {
      const turn = (i + offset) % 4;
      const [a, b] = turn % 2 ? [pair[1], pair[0]] : pair;
      const x = mode === "abx" ? (turn < 2 ? a : b) : mode === "like" ? data.reference : null;
      found.push({ item: item.id, pair, a, b, x });
    });
  }
  return shuffled(found);
}

function openTest(mode) {
  $("h2", test).textContent = TITLES[mode];
  $(".about").textContent = ABOUT[mode];
  const trials = allTrials(mode), select = $("[name=count]");
  const sizes = [...new Set([10, 20, 40, trials.length].filter((n) => n <= trials.length))].sort((x, y) => x - y);
  select.replaceChildren(...sizes.map((n) => new Option(n === trials.length ? `all ${n}` : n, n)));
  $(".nothing").hidden = trials.length > 0;
  $("[data-do=start]").disabled = trials.length === 0;
  const stored = recall(mode);
  $("[data-do=continue]").hidden = !stored;
  if (stored) $("[name=listener]").value = stored.listener;
  screen("start");
}

function screen(name) {
  for (const [key, element] of Object.entries(screens)) element.hidden = key !== name;
}

// Private windows and some phones refuse storage; then a closed page has lost its answers.
const place = (mode) => `voxtune ${data.page} ${mode}`;
function remember() {
  try { localStorage.setItem(place(run.mode), JSON.stringify(run)); } catch { /* see above */ }
}
function recall(mode) {
  try {
    const stored = JSON.parse(localStorage.getItem(place(mode)));
    return stored && stored.index < stored.trials.length ? stored : null;
  } catch { return null; }
}

function start() {
  const mode = view, trials = allTrials(mode).slice(0, Number($("[name=count]").value));
  const session = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  run = { mode, listener: $("[name=listener]").value.trim() || "anonymous", session, began: new Date().toISOString(), trials, index: 0, answers: [] };
  trial();
}

function trial() {
  remember();
  if (run.index >= run.trials.length) return finish();
  const { item: id, a, b, x } = run.trials[run.index];
  const item = data.items.find((other) => other.id === id);
  screen("trial");
  hush();
  $("progress").max = run.trials.length;
  $("progress").value = run.index;
  $(".place").textContent = `${run.index + 1} of ${run.trials.length}`;
  $(".question").textContent = data.questions[run.mode];
  $(".said").textContent = item.text;
  heard = {};
  shownAt = performance.now();
  slots = {};
  const row = $(".players");
  row.replaceChildren();
  for (const [letter, name] of Object.entries({ A: a, B: b, ...(x === null ? {} : { X: x }) })) {
    const player = new Audio($("#" + item.clips[name]).src), button = document.createElement("button");
    button.type = "button";
    button.dataset.play = letter;
    button.textContent = `${letter} ▶`;
    player.hidden = true;
    button.addEventListener("click", () => play(letter));
    for (const event of ["play", "pause", "ended"]) {
      player.addEventListener(event, () => button.classList.toggle("playing", !player.paused && !player.ended));
    }
    slots[letter] = player;
    row.append(button, player);
  }
  const choices = [["a", run.mode === "abx" ? "X is A" : "Choose A"], ["b", run.mode === "abx" ? "X is B" : "Choose B"]];
  if (run.mode !== "abx") choices.push(["none", "No difference"]);
  $(".choices").replaceChildren(...choices.map(([choice, label]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.choice = choice;
    button.textContent = label;
    button.addEventListener("click", () => choose(choice));
    return button;
  }));
  $("[data-screen=trial] [data-do=back]").disabled = run.index === 0;
  permit();
}

function play(letter) {
  if (!slots[letter]) return;
  heard[letter] = (heard[letter] ?? 0) + 1;
  $(`[data-play=${letter}]`).classList.add("heard");
  restart(slots[letter]);
  permit();
}

function permit() {
  const isReady = Object.keys(slots).every((letter) => heard[letter]);
  for (const button of $$("[data-choice]")) button.disabled = !isReady;
  $(".hint").textContent = isReady ? "" : "Play each of them first.";
  return isReady;
}

function choose(choice) {
  if (!permit() || (choice === "none" && run.mode === "abx")) return;
  const { item, pair, a, b, x } = run.trials[run.index];
  run.answers[run.index] = { item, pair, a, b, x, choice, plays: { ...heard }, seconds: Math.round((performance.now() - shownAt) / 100) / 10 };
  run.index += 1;
  trial();
}

function back() {
  if (!screens.end.hidden && run.index < run.trials.length) return trial(); // stopped too early
  if (run.index === 0) return;
  run.index -= 1;
  trial();
}

// A trial that was gone back to and not answered again is left out.
function answers() {
  const { mode, listener, session, began } = run;
  const given = run.answers.slice(0, run.index);
  return { format: data.format, version: 1, page: data.page, title: data.title, mode, question: data.questions[mode], listener, session, began, answers: given };
}

function finish() {
  hush();
  screen("end");
  const given = answers();
  $(".thanks").textContent = `${given.answers.length} answer${given.answers.length === 1 ? "" : "s"}. Thank you, ${given.listener}.`;
  $("textarea").value = JSON.stringify(given, null, 2);
}

function save() {
  const link = document.createElement("a"), name = run.listener.replace(/[^\p{L}\p{N}]+/gu, "-");
  link.href = URL.createObjectURL(new Blob([$("textarea").value], { type: "application/json" }));
  link.download = `answers_${run.mode}_${name}_${run.session.slice(0, 6)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const actions = { start, back, finish, save, continue: () => { run = recall(view); trial(); } };
for (const button of $$("[data-do]")) button.addEventListener("click", actions[button.dataset.do]);

function testKey(key) {
  if (screens.trial.hidden) return false;
  const letter = key.toUpperCase();
  if (slots[letter]) play(letter);
  else if (key === "1" || key === "2") choose(key === "1" ? "a" : "b");
  else if (key === "0") choose("none");
  else if (key === "Backspace") back();
  else if (key === " ") {
    const player = Object.values(slots).find((p) => !p.paused) ?? Object.values(slots).find((p) => p.currentTime > 0);
    if (player) player.paused ? begin(player) : player.pause();
  } else return false;
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, audio")) return;
  if (event.key === " " && event.target.closest("button")) return; // the space bar presses it
  const isUsed = view === "listen" ? listenKey(event.key) : !test.hidden && testKey(event.key);
  if (isUsed) event.preventDefault();
});

// Where there is no script, every view is shown one below the other.
show(data.view);
mark(0, false);
