
// Cases: a table whose rows open a picture. Records are JSON in <script type="application/json" data-case>.
const viewer = document.querySelector(".viewer");
const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

class Picture {
  // One plane of a case: an image, layers over it, and what part of it is seen.
  constructor(plane, record, classes, select) {
    Object.assign(this, {plane, record, classes, select});
    [this.width, this.height] = plane.size.map((side, n) => side * plane.scale[n]);
    this.index = Math.max(plane.slices.indexOf(plane.start), 0);
    const label = plane.name || (plane.axis == null ? "picture" : `plane across ${"xyz"[plane.axis]}`);
    this.root = svg("svg", {class: "picture", role: "img", "aria-label": label});
    this.content = svg("g");
    const clip = `clip${Picture.count = (Picture.count || 0) + 1}`;
    this.content.setAttribute("clip-path", `url(#${clip})`);
    const frame = svg("rect", {width: this.width, height: this.height});
    this.root.append(svg("clipPath", {id: clip}, frame), this.content);
    this.box = document.createElement("div");
    this.box.className = "frame";
    this.box.append(this.root);
    this.root.style.aspectRatio = `${this.width} / ${this.height}`;
    for (const [n, letter] of (plane.letters || []).entries()) {
      const shown = document.createElement("span");
      shown.className = `letter ${["left", "right", "top", "bottom"][n]}`;
      shown.textContent = letter;
      this.box.append(shown);
    }
    this.whole();
    this.listen();
  }

  whole() { this.view = {x: 0, y: 0, w: this.width, h: this.height}; this.draw(); }

  zoom(factor, x = this.view.x + this.view.w / 2, y = this.view.y + this.view.h / 2) {
    const w = Math.min(this.view.w / factor, this.width), h = Math.min(this.view.h / factor, this.height);
    const part = w / this.view.w;
    this.view = {x: x - (x - this.view.x) * part, y: y - (y - this.view.y) * part, w, h};
    this.draw();
  }

  // Where a point (x, y[, z]) of the image lies in the picture.
  place(point) {
    const {axis, scale, flipped, size} = this.plane;
    const flat = axis == null ? point : point.filter((_, n) => n !== axis);
    return [(flat[0] + .5) * scale[0], (flipped ? size[1] - flat[1] - .5 : flat[1] + .5) * scale[1]];
  }

  enlarge() {  // show the plane's window
    const [x, y, w, h] = this.plane.window, {scale, flipped, size} = this.plane;
    const top = flipped ? size[1] - y - h : y;
    this.view = {x: x * scale[0], y: top * scale[1], w: w * scale[0], h: h * scale[1]};
    this.draw();
  }

  show(point) {  // go to the slice that a point lies in
    if (this.plane.axis == null || !point) return;
    const away = this.plane.slices.map((slice) => Math.abs(slice - point[this.plane.axis]));
    this.index = away.indexOf(Math.min(...away));
  }

  scroll(index) {
    this.index = Math.min(Math.max(index, 0), this.plane.slices.length - 1);
    this.draw();
  }

  draw() {
    const {plane, view} = this, count = plane.slices.length;
    view.x = Math.min(Math.max(view.x, 0), this.width - view.w);
    view.y = Math.min(Math.max(view.y, 0), this.height - view.h);
    this.root.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
    this.box.classList.toggle("zoomed", view.w < this.width);
    const image = {href: plane.href, y: -this.index * this.height, width: this.width, height: count * this.height,
                   preserveAspectRatio: "none"};
    const layers = [svg("image", image)];
    if (plane.heat) layers.push(svg("g", {class: "layer-heat"}, this.heat()));
    for (const shape of plane.shapes?.[this.index] || []) layers.push(...this.outline(shape));
    if (plane.ignored?.[this.index]) layers.push(this.path("ignored", plane.ignored[this.index]));
    const unit = Math.sqrt(view.w * view.h) / (this.marksLarge ? 50 : 100);  // planes and insets are small
    const order = [...this.record.marks.keys()].sort((a, b) => (a === this.chosen) - (b === this.chosen));
    layers.push(...order.map((n) => this.mark(n, unit)));
    this.content.replaceChildren(...layers);
    if (this.slider) {
      this.slider.value = this.index;
      this.counter.textContent = `${"xyz"[plane.axis]} = ${plane.slices[this.index]}`;
    }
  }

  heat() {
    const {plane} = this, [x, y, w, h] = plane.heat_box, count = plane.slices.length;
    const height = h * plane.scale[1], top = (plane.flipped ? plane.size[1] - y - h : y) * plane.scale[1];
    const inner = svg("svg", {x: x * plane.scale[0], y: top, width: w * plane.scale[0], height});
    inner.append(svg("image", {href: plane.heat, y: -this.index * height, width: w * plane.scale[0],
                               height: count * height, preserveAspectRatio: "none"}));
    return inner;
  }

  path(kind, d) {
    const {scale, flipped, size} = this.plane;
    const flip = flipped ? `translate(0 ${size[1] * scale[1]}) scale(1 -1) ` : "";
    return svg("path", {class: kind, d, transform: `${flip}scale(${scale[0]} ${scale[1]})`});
  }

  outline(shape) {
    const group = (kind, d) => {
      const found = svg("g", {class: `layer-${kind}`, style: `--class:${this.classes[shape.index - 1].colour}`},
                        this.path(kind, d));
      found.append(svg("title", {}, this.classes[shape.index - 1].name));
      return found;
    };
    return [shape.target && group("target", shape.target), shape.predicted && group("prediction", shape.predicted)]
      .filter(Boolean);
  }

  mark(n, unit) {
    const mark = this.record.marks[n], {axis, slices, scale} = this.plane;
    const at = (point) => axis == null || !point || Math.abs(point[axis] - slices[this.index]) <= 1.5;
    const near = at(mark.prediction) || (mark.target && at(mark.target));
    const kind = `mark${n === this.chosen ? " chosen" : ""}${near ? "" : " far"}`;
    const group = svg("g", {class: kind}, svg("title", {}, mark.text));
    const p = mark.prediction && this.place(mark.prediction), t = mark.target && this.place(mark.target);
    if (p && mark.radius) {
      const flat = axis == null ? mark.radius : mark.radius.filter((_, k) => k !== axis);
      group.append(svg("ellipse", {class: "layer-region", cx: p[0], cy: p[1], rx: flat[0] * scale[0],
                                   ry: flat[1] * scale[1]}));
    }
    if (p && t) group.append(svg("line", {class: "layer-target layer-prediction", x1: t[0], y1: t[1], x2: p[0],
                                          y2: p[1]}));
    if (t) group.append(svg("circle", {class: "layer-target target", cx: t[0], cy: t[1], r: 1.5 * unit}));
    if (p) group.append(svg("circle", {class: "layer-prediction prediction", cx: p[0], cy: p[1], r: .8 * unit}));
    const [x, y] = p || t || [];
    if (x != null) {
      group.append(svg("text", {class: "layer-names", x: x + 2 * unit, y: y - unit, "font-size": 3 * unit}, mark.name));
      group.addEventListener("click", () => this.select(n));
    }
    return group;
  }

  listen() {
    const pointers = new Map();
    const place = (event) => {
      const box = this.root.getBoundingClientRect(), {view} = this;
      const unit = Math.max(view.w / box.width, view.h / box.height);
      return [view.x + view.w / 2 + (event.clientX - box.x - box.width / 2) * unit,
              view.y + view.h / 2 + (event.clientY - box.y - box.height / 2) * unit, unit];
    };
    this.root.addEventListener("wheel", (event) => {
      if (this.plane.axis != null && !event.ctrlKey) this.scroll(this.index + Math.sign(event.deltaY));
      else if (event.ctrlKey) this.zoom(Math.exp(-event.deltaY / 300), ...place(event));
      else return;
      event.preventDefault();
    }, {passive: false});
    this.root.addEventListener("dblclick", (event) => this.zoom(2, ...place(event)));
    this.root.addEventListener("pointerdown", (event) => pointers.set(event.pointerId, event));
    this.root.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before || this.view.w === this.width) return;
      if (pointers.size === 2) {  // two fingers
        const [a, b] = pointers.values(), apart = (p, q) => Math.hypot(p.clientX - q.clientX, p.clientY - q.clientY);
        const other = a === before ? b : a;
        this.zoom(apart(event, other) / Math.max(apart(before, other), 1), ...place(event));
      } else {
        const unit = place(event)[2];
        this.view.x -= (event.clientX - before.clientX) * unit;
        this.view.y -= (event.clientY - before.clientY) * unit;
        this.draw();
      }
      pointers.set(event.pointerId, event);
    });
    for (const end of ["pointerup", "pointercancel", "pointerleave"])
      this.root.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
}

function button(text, label, act) {
  const found = document.createElement("button");
  Object.assign(found, {type: "button", textContent: text});
  if (label) found.setAttribute("aria-label", label);
  found.addEventListener("click", act);
  return found;
}

function openCase(number) {
  const source = document.querySelector(`script[data-case="${number}"]`);
  const row = document.querySelector(`tr[data-case="${number}"]`);
  const classes = JSON.parse(viewer.dataset.classes || "[]");
  document.querySelectorAll("tr[data-case]").forEach((one) => one.classList.toggle("open", one === row));
  viewer.querySelector(".case-name").textContent = row.cells[0].textContent.trim();
  const planes = viewer.querySelector(".planes"), marks = viewer.querySelector(".marks");
  const status = viewer.querySelector(".status");
  planes.replaceChildren();
  marks.replaceChildren();
  status.textContent = "";
  if (!source) {
    status.textContent = viewer.dataset.without;
    return;
  }
  const record = JSON.parse(source.textContent);
  viewer.classList.toggle("volume", record.planes.length > 1);
  const widths = record.planes.map((plane) => plane.size[0] * plane.scale[0]);  // on one scale
  const least = Math.max(...widths) / 3;  // a thin one stays visible
  planes.style.setProperty("--columns", widths.map((width) => `minmax(0, ${Math.max(width, least)}fr)`).join(" "));
  const select = (n) => {
    const mark = record.marks[n], point = mark.prediction || mark.target;
    for (const picture of pictures) {
      picture.chosen = n;
      picture.show(mark.target || mark.prediction);
      picture.draw();
    }
    if (inset) {
      inset.chosen = n;
      focusOn(inset, mark);
    }
    [...marks.children].forEach((one, k) => one.setAttribute("aria-pressed", k === n));
    status.textContent = point ? mark.text : `${mark.text}: not found`;
  };
  const pictures = record.planes.map((plane) => new Picture(plane, record, classes, select));
  if (pictures.length > 1) pictures.forEach((picture) => { picture.marksLarge = true; });
  let inset = null;
  if (record.planes.length === 1 && (record.marks.length || record.planes[0].window)) {
    inset = new Picture(record.planes[0], record, classes, select);
    inset.box.classList.add("inset");
    inset.marksLarge = true;
  }
  for (const picture of [...pictures, ...(inset ? [inset] : [])]) {
    const cell = document.createElement("div");
    cell.className = "plane";
    cell.append(picture.box);
    if (picture.plane.slices.length > 1) {
      const slider = document.createElement("input"), counter = document.createElement("output");
      const name = picture.plane.name || `across ${"xyz"[picture.plane.axis]}`;
      Object.assign(slider, {type: "range", min: 0, max: picture.plane.slices.length - 1, value: picture.index});
      slider.setAttribute("aria-label", `slice, ${name}`);
      slider.addEventListener("input", () => picture.scroll(Number(slider.value)));
      Object.assign(picture, {slider, counter});
      const line = document.createElement("label");
      line.append(picture.plane.name ? `${picture.plane.name} ` : "", slider, counter);
      cell.append(line);
      picture.draw();
    } else if (picture.plane.axis != null) {
      const line = document.createElement("label");
      line.append(`${picture.plane.name} ${"xyz"[picture.plane.axis]} = ${picture.plane.slices[0]}`);
      cell.append(line);
    }
    planes.append(cell);
    if (picture.plane.window && (picture === inset || !inset)) picture.enlarge();
  }
  record.marks.forEach((mark, n) => {
    const found = button(mark.name, "", () => select(n));
    if (mark.figure) found.append(" ", Object.assign(document.createElement("small"), {textContent: mark.figure}));
    marks.append(found);
  });
  if (record.focus != null) select(record.focus);
  viewer.zoomAll = (factor) => pictures.forEach((one) => (factor ? one.zoom(factor) : one.whole()));
  viewer.number = number;
}

// The inset shows what is round a landmark, large enough to tell prediction and annotation apart.
function focusOn(picture, mark) {
  const ends = [mark.prediction, mark.target].filter(Boolean).map((point) => picture.place(point));
  if (!ends.length) return picture.whole();
  const middle = [0, 1].map((n) => ends.reduce((sum, end) => sum + end[n], 0) / ends.length);
  const apart = ends.length < 2 ? 0 : Math.max(...[0, 1].map((n) => Math.abs(ends[0][n] - ends[1][n])));
  const half = Math.max(.05 * Math.max(picture.width, picture.height), .9 * apart);
  const w = Math.min(2 * half, picture.width), h = Math.min(2 * half, picture.height);
  picture.view = {x: middle[0] - w / 2, y: middle[1] - h / 2, w, h};
  picture.draw();
}

if (viewer) {
  const rows = () => [...document.querySelectorAll("tr[data-case]")];
  for (const row of rows())
    row.querySelector("button.open").addEventListener("click", () => {
      openCase(row.dataset.case);
      if (matchMedia("(max-width: 800px)").matches) viewer.scrollIntoView({block: "start"});
    });
  const step = (by) => {
    const every = rows(), at = every.findIndex((row) => row.dataset.case === viewer.number);
    openCase(every[Math.min(Math.max(at + by, 0), every.length - 1)].dataset.case);
  };
  const tools = viewer.querySelector(".tools");
  viewer.querySelector("header").prepend(button("‹", "case before", () => step(-1)));
  viewer.querySelector("header").append(button("›", "next case", () => step(1)));
  for (const box of tools.querySelectorAll("input")) {
    const toggle = () => viewer.classList.toggle(`without-${box.value}`, !box.checked);
    box.addEventListener("change", toggle);
    toggle();
  }
  tools.append(button("+", "zoom in", () => viewer.zoomAll(1.5)), button("−", "zoom out", () => viewer.zoomAll(1 / 1.5)),
               button("whole", "whole picture", () => viewer.zoomAll(0)));
  openCase(rows()[0].dataset.case);
}
