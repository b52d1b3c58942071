"use strict";
// The page of `lannunet serve`. Points are [x, y(, z)] in pixels of the image, pixel centres at integers, so the
// picture of a pixel (x, y) is the square from x - 0.5 to x + 0.5 of the SVG.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const DOT = 7, HIT = 18; // screen pixels: radii of a point, and of its touch area
let state = { images: [], names: [] };
let open = null; // the response of /images/KEY, with `marks`, the landmarks on the screen
let chosen = 0, z = 0, zoom = 1, changed = false;

async function ask(path, options = {}) {
  const response = await fetch(path, options);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

function attempt(work) {
  return async (...given) => {
    try { await work(...given); } catch (error) { say(error.message, true); }
  };
}

// A mark is {at, occluded, absent, changed}; `at` is null if the landmark is not placed.
function markOf(written) {
  if (written === null) return { at: null, occluded: false, absent: false };
  if (written === "absent") return { at: null, occluded: false, absent: true };
  if (Array.isArray(written)) return { at: written, occluded: false, absent: false };
  return { at: written.at, occluded: written.occluded === true, absent: false };
}

function writtenOf(mark) {
  if (mark.absent) return "absent";
  if (mark.at === null) return null;
  return mark.occluded ? { at: mark.at, occluded: true } : mark.at;
}

async function refresh() {
  state = await ask("state");
  const list = $("queue");
  list.replaceChildren();
  for (const image of state.images) {
    const button = element("button", { type: "button" }, image.name);
    button.append(element("small", {}, image.saved ? "saved" : ""));
    if (open && open.key === image.key) button.setAttribute("aria-current", "true");
    button.addEventListener("click", attempt(() => show(image.key)));
    const item = document.createElement("li");
    item.append(button);
    list.append(item);
  }
}

function element(name, attributes, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function stays() { // whether the user keeps corrections that are not saved
  if (changed && !confirm("The corrections of this image are not saved. Leave it?")) return true;
  changed = false;
  return false;
}

async function show(key) {
  if (stays()) return;
  say("Predicting …");
  const found = await ask(`images/${key}`);
  if (stays()) return; // corrections in the meantime
  open = found;
  changed = false;
  zoom = 1;
  const depth = found.size.length === 3 ? found.size[2] : 1;
  if (state.task === "landmarks") {
    open.marks = found.points.map((point, index) => {
      const saved = found.saved === null ? null : markOf(found.saved[index]);
      if (saved !== null && (saved.at !== null || saved.absent)) return saved;
      return { at: point.at, occluded: false, absent: point.absent };
    });
  }
  const placed = (open.marks || []).filter((mark) => mark.at !== null && mark.at.length === 3);
  z = placed.length ? Math.round(placed[0].at[2]) : Math.floor(depth / 2);
  z = Math.min(Math.max(z, 0), depth - 1);
  $("z").max = depth - 1;
  $("slices").hidden = depth === 1;
  $("overlay").hidden = state.task !== "segmentation";
  $("states").hidden = state.task !== "landmarks";
  $("stage").hidden = false;
  $("name").textContent = found.name;
  $("meaning").textContent = state.task !== "landmarks" ? found.classes.join(", ")
    : found.radius === null ? "Percentages rank the points; they are not calibrated."
      : `Percentages are the probability that the point lies within ${found.radius} ${found.unit}, the circle.`;
  $("save").disabled = state.task !== "landmarks";
  const [width, height] = found.size;
  $("points").setAttribute("viewBox", `-0.5 -0.5 ${width} ${height}`);
  chosen = 0;
  plane();
  draw();
  await refresh();
  say(found.saved ? "These are the saved landmarks." : "This is the prediction. Correct it, then save.");
}

function plane() {
  $("plane").src = `images/${open.key}/plane?z=${z}`;
  $("plane").alt = open.name;
  $("z").value = z;
  $("z-value").textContent = z;
  $("labels").hidden = state.task !== "segmentation" || !$("show").checked;
  if (state.task === "segmentation") $("labels").src = `images/${open.key}/labels?z=${z}`;
}

function pixelsOfScreen() { // image pixels per screen pixel
  const width = $("points").getBoundingClientRect().width;
  return width > 0 ? open.size[0] / width : 1;
}

function draw() {
  if (open) $("stage").style.width = `calc(min(100%, ${(76 * open.size[0]) / open.size[1]}vh) * ${zoom})`; // fits at first
  const svg = $("points"), list = $("list");
  svg.replaceChildren();
  list.replaceChildren();
  if (!open || !open.marks) return;
  const unit = pixelsOfScreen();
  open.marks.forEach((mark, index) => {
    const point = open.points[index];
    const words = wordsOf(mark, point);
    const button = element("button", { type: "button" }, `${index + 1} ${point.name}`);
    button.append(element("small", {}, words));
    if (index === chosen) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => {
      choose(index);
      $("list").children[index].firstChild.focus(); // draw() has replaced it
    });
    const item = document.createElement("li");
    item.append(button);
    list.append(item);
    if (mark.at === null) return;
    const group = document.createElementNS(SVG, "g");
    group.dataset.index = index;
    group.setAttribute("tabindex", "0");
    group.setAttribute("role", "button");
    group.setAttribute("aria-label", `${point.name}, ${words}`);
    group.classList.toggle("chosen", index === chosen);
    group.classList.toggle("changed", mark.changed === true);
    group.classList.toggle("hidden", mark.occluded);
    group.classList.toggle("elsewhere", mark.at.length === 3 && Math.abs(mark.at[2] - z) > 0.5);
    if (point.radius !== null && !mark.changed) circle(group, "radius", mark.at, point.radius);
    circle(group, "dot", mark.at, DOT * unit, unit);
    const text = document.createElementNS(SVG, "text");
    text.textContent = index + 1;
    place(text, { x: mark.at[0] + 9 * unit, y: mark.at[1] - 6 * unit, "font-size": 14 * unit, "stroke-width": 3 * unit });
    group.append(text);
    group.addEventListener("focus", () => { if (chosen !== index) { chosen = index; mark_chosen(); } });
    svg.append(group);
  });
}

function mark_chosen() {
  for (const group of $("points").children) group.classList.toggle("chosen", Number(group.dataset.index) === chosen);
  [...$("list").children].forEach((item, index) => {
    if (index === chosen) item.firstChild.setAttribute("aria-current", "true");
    else item.firstChild.removeAttribute("aria-current");
  });
}

function wordsOf(mark, point) {
  if (mark.absent) return "absent";
  if (mark.at === null) return "not placed";
  if (mark.occluded) return "occluded";
  return mark.changed ? "corrected" : `${Math.round(point.confidence * 100)} %`;
}

function circle(group, kind, at, radius, stroke = 1) {
  const made = document.createElementNS(SVG, "circle");
  made.setAttribute("class", kind);
  place(made, { cx: at[0], cy: at[1], r: radius, "stroke-width": kind === "dot" ? 2 * stroke : 1.5 });
  group.append(made);
}

function place(made, attributes) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
}

function choose(index) {
  if (!open || !open.marks || index >= open.marks.length) return;
  chosen = index;
  const at = open.marks[index].at;
  if (at !== null && at.length === 3 && Math.round(at[2]) !== z) { z = Math.round(at[2]); plane(); }
  draw();
}

function move(index, at) {
  const mark = open.marks[index];
  const inside = at.map((value, axis) => Math.min(Math.max(value, 0), open.size[axis] - 1));
  open.marks[index] = { at: inside.map((value) => Math.round(value * 100) / 100), occluded: mark.occluded, absent: false, changed: true };
  changed = true;
  say("Not saved yet.");
}

function position(event) { // position of a pointer, in pixels of the image
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform($("points").getScreenCTM().inverse());
  return open.size.length === 3 ? [point.x, point.y, z] : [point.x, point.y];
}

let dragged = null;
$("points").addEventListener("pointerdown", (event) => {
  if (!open || !open.marks) return;
  const at = position(event), reach = HIT * pixelsOfScreen();
  const distances = open.marks.map((mark) => mark.at === null ? Infinity : Math.hypot(mark.at[0] - at[0], mark.at[1] - at[1]));
  const nearest = distances.indexOf(Math.min(...distances));
  if (distances[nearest] <= reach) dragged = nearest;
  else if (open.marks[chosen].at === null) { move(chosen, at); dragged = chosen; } // a click places it
  else return;
  event.preventDefault();
  chosen = dragged;
  $("points").setPointerCapture(event.pointerId);
  draw();
});
$("points").addEventListener("pointermove", (event) => {
  if (dragged === null) return;
  move(dragged, position(event));
  draw();
});
for (const end of ["pointerup", "pointercancel"]) $("points").addEventListener(end, () => { dragged = null; });

function mark(change) {
  if (!open || !open.marks) return;
  const before = open.marks[chosen];
  open.marks[chosen] = { ...change(before), changed: true };
  changed = true;
  say("Not saved yet.");
  draw();
}

const absent = () => mark((before) => before.absent
  ? { at: open.points[chosen].at, occluded: false, absent: false }
  : { at: null, occluded: false, absent: true });
const occluded = () => mark((before) => before.at === null ? before : { ...before, occluded: !before.occluded });

const save = attempt(async () => {
  if (!open || !open.marks) return;
  const saving = open, marks = [...open.marks]; // another image may be opened, and marks moved, in the meantime
  const body = JSON.stringify({ points: marks.map(writtenOf), before: saving.saved });
  const answer = await ask(`images/${saving.key}`, { method: "PUT", body });
  saving.saved = answer.saved;
  marks.forEach((one) => { one.changed = false; });
  if (open === saving) {
    changed = open.marks.some((one, index) => one !== marks[index]);
    draw();
  }
  await refresh();
  say(changed ? "Saved, except for changes in the meantime." : `Saved to ${state.into}.`);
});

const step = attempt(async (by) => {
  const at = state.images.findIndex((image) => open && image.key === open.key);
  const next = state.images[at + by];
  if (next) await show(next.key);
  else say("There are no more images.");
});

const upload = attempt(async (file) => {
  say(`Reading ${file.name} …`);
  const made = await ask(`images?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
  await refresh();
  await show(made.key);
});

function slice(by) {
  if (!open || open.size.length !== 3) return;
  z = Math.min(Math.max(z + by, 0), open.size[2] - 1);
  plane();
  draw();
}

function magnify(by) {
  zoom = Math.min(Math.max(zoom * by, 1), 8);
  if (open) draw();
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = {
  a: absent, o: occluded, s: save, n: () => step(1), p: () => step(-1),
  "+": () => magnify(1.5), "-": () => magnify(1 / 1.5), "[": () => slice(-1), "]": () => slice(1),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  if (event.key in ARROWS && open && open.marks && open.marks[chosen].at !== null) {
    const [x, y] = ARROWS[event.key].map((value) => value * (event.shiftKey ? 10 : 1));
    const at = open.marks[chosen].at;
    move(chosen, [at[0] + x, at[1] + y, ...at.slice(2)]);
    draw();
    const group = $("points").querySelector(`[data-index="${chosen}"]`);
    if (group) group.focus();
  } else if (event.key >= "1" && event.key <= "9") choose(Number(event.key) - 1);
  else if (event.key in KEYS) KEYS[event.key]();
  else return;
  event.preventDefault();
});

$("absent").addEventListener("click", absent);
$("occluded").addEventListener("click", occluded);
$("save").addEventListener("click", save);
$("next").addEventListener("click", () => step(1));
$("previous").addEventListener("click", () => step(-1));
$("larger").addEventListener("click", () => magnify(1.5));
$("smaller").addEventListener("click", () => magnify(1 / 1.5));
$("z").addEventListener("input", () => slice(Number($("z").value) - z));
$("show").addEventListener("change", plane);
$("file").addEventListener("change", () => { if ($("file").files.length) upload($("file").files[0]); });
$("plane").addEventListener("load", draw);
addEventListener("resize", () => { if (open) draw(); });
addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });

document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", attempt(async (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  for (const file of event.dataTransfer.files) await upload(file);
}));

attempt(async () => {
  await refresh();
  if (state.images.length) await show((state.images.find((image) => !image.saved) || state.images[0]).key);
})();
