// Zones and lines drawn on the picture: mouse, touch and keys. Nothing is kept before Save; shapes are saved relative to the picture.
import { h, icon, toast } from "./dom.js";
import { call, cameraPath } from "./api.js";
import { drawLine, drawZone, lineColour, toPx, zoneColour } from "./overlay.js";

const NEAR = 12; // CSS px round a corner that grab it; twice that for fingers

export class Editor {
  constructor(view, { done }) {
    this.view = view;
    this.done = done;
    this.shapes = [
      ...view.zones.zones.map((zone) => ({ ...zone, kind: "zone", points: toPx(zone.polygon, view.wh) })),
      ...view.zones.lines.map((line) => ({ ...line, kind: "line", points: toPx([line.start, line.end], view.wh) })),
    ];
    this.chosen = null;
    this.corner = 0;
    this.drawing = null; // {kind, points, hover}
    this.drag = null;
    this.dirty = false;
    this.list = h("ul", { class: "shapes", "aria-label": "Zones and lines" });
    this.fields = h("div", { class: "fields" });
    this.help = h("p", { class: "hint" });
    this.problem = h("p", { class: "error", role: "alert", hidden: true });
    this.saving = h("button", { class: "strong", onclick: () => this.save() }, "Save");
    this.node = h("section", { class: "editor", "aria-label": "Zones and lines" },
      h("div", { class: "pair" },
        h("button", { onclick: () => this.begin("zone"), "data-draw": "zone" }, icon("zone"), "Draw zone"),
        h("button", { onclick: () => this.begin("line"), "data-draw": "line" }, icon("line"), "Draw line")),
      this.list, this.fields,
      h("div", { class: "fields" }, this.help, this.problem, h("div", { class: "row" }, this.saving, h("button", { class: "quiet", onclick: () => this.cancel() }, "Cancel"))));
    const canvas = view.canvas;
    this.off = new AbortController();
    const on = (name, handler, target = canvas) => target.addEventListener(name, handler, { signal: this.off.signal });
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", () => { this.drag = null; });
    on("dblclick", () => this.finish());
    on("keydown", (event) => this.key(event), document);
    view.paint = (ctx, scale) => this.paint(ctx, scale);
    this.refresh();
  }

  close() {
    this.view.node.closest(".stage")?.classList.remove("drawing");
    this.off.abort();
    this.view.paint = null;
    this.view.draw();
  }

  cancel() {
    if (this.dirty && !confirm("Leave without saving the zones and lines?")) return;
    this.done();
  }

  // ---------------------------------------------------------------------------------------------------------- drawing

  begin(kind) {
    this.drawing = { kind, points: [], hover: null };
    this.chosen = null;
    this.view.canvas.focus();
    this.refresh();
  }

  finish() {
    const drawing = this.drawing;
    if (!drawing) return;
    const points = drawing.points.filter((p, i) => !i || Math.hypot(p[0] - drawing.points[i - 1][0], p[1] - drawing.points[i - 1][1]) > 2);
    if (points.length < (drawing.kind === "zone" ? 3 : 2)) return;
    const number = this.shapes.filter((shape) => shape.kind === drawing.kind).length + 1;
    const taken = new Set(this.shapes.map((shape) => shape.name));
    let name = `${drawing.kind === "zone" ? "Zone" : "Line"} ${number}`;
    while (taken.has(name)) name += "b";
    const shape = { kind: drawing.kind, name, points, classes: [], anchor: "center", ...(drawing.kind === "zone" ? { inertia: 3, dwell_s: [] } : { hysteresis_px: 2 }) };
    this.shapes.push(shape);
    this.drawing = null;
    this.touched();
    this.choose(shape);
  }

  down(event) {
    if (event.button) return;
    this.view.canvas.setPointerCapture(event.pointerId);
    const at = this.inside(this.view.at(event));
    const reach = (event.pointerType === "touch" ? 2 * NEAR : NEAR) / this.view.scale;
    if (this.drawing) {
      const { kind, points } = this.drawing;
      if (kind === "zone" && points.length > 2 && far(at, points[0]) < reach) return this.finish();
      points.push(at);
      this.drag = { from: at, drawing: true };
      if (kind === "line" && points.length === 2) this.finish();
      return this.refresh(false);
    }
    const corner = this.chosen?.points.findIndex((point) => far(at, point) < reach) ?? -1;
    if (corner >= 0) { this.corner = corner; this.drag = { from: at, corner }; return this.view.draw(); }
    const edge = this.chosen?.kind === "zone" ? this.edgeAt(this.chosen, at, reach) : -1;
    if (edge >= 0) {
      this.chosen.points.splice(edge + 1, 0, at);
      this.corner = edge + 1;
      this.drag = { from: at, corner: edge + 1 };
      return this.touched();
    }
    const hit = this.shapes.findLast((shape) => (shape.kind === "zone" ? within(shape.points, at) : onSegment(...shape.points, at) < reach));
    if (hit) this.drag = { from: at, points: hit.points.map((point) => [...point]) };
    this.choose(hit ?? null);
  }

  move(event) {
    const at = this.inside(this.view.at(event));
    if (this.drawing) { this.drawing.hover = at; return this.view.draw(); }
    if (!this.drag || !this.chosen) return;
    if (this.drag.corner !== undefined) this.chosen.points[this.drag.corner] = at;
    else this.chosen.points = this.drag.points.map(([x, y]) => this.inside([x + at[0] - this.drag.from[0], y + at[1] - this.drag.from[1]]));
    this.touched();
  }

  up(event) {
    const at = this.inside(this.view.at(event));
    const drag = this.drag;
    this.drag = null;
    if (!this.drawing || !drag?.drawing || far(at, drag.from) * this.view.scale < 12) return;
    const { kind, points } = this.drawing;
    if (kind === "line" && points.length === 1) { points.push(at); this.finish(); } // pressed, drawn, let go
    else if (kind === "zone" && points.length === 1) { // likewise: a rectangle
      const [x, y] = drag.from;
      this.drawing.points = [[x, y], [at[0], y], at, [x, at[1]]];
      this.finish();
    }
  }

  key(event) {
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const step = (event.shiftKey ? 10 : 1) / this.view.scale;
    const ways = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key === "Escape" && this.drawing) { this.drawing = null; this.refresh(); }
    else if (event.key === "Enter" && this.drawing) this.finish();
    else if (event.key === "Backspace" && this.drawing) { this.drawing.points.pop(); this.refresh(false); }
    else if (event.key === "Delete" && this.chosen) this.remove();
    else if (event.key === "Tab" && this.chosen && event.target === this.view.canvas && this.corner < this.chosen.points.length - 1 && !event.shiftKey) { this.corner += 1; this.view.draw(); }
    else if (ways[event.key] && this.chosen && event.target === this.view.canvas) {
      const [x, y] = this.chosen.points[this.corner];
      this.chosen.points[this.corner] = this.inside([x + ways[event.key][0], y + ways[event.key][1]]);
      this.touched();
    } else return;
    event.preventDefault();
  }

  inside([x, y]) {
    const [width, height] = this.view.wh;
    return [Math.max(0, Math.min(width, x)), Math.max(0, Math.min(height, y))];
  }

  edgeAt(shape, at, reach) {
    return shape.points.findIndex((point, i) => onSegment(point, shape.points[(i + 1) % shape.points.length], at) < reach * 0.6);
  }

  remove() {
    this.shapes = this.shapes.filter((shape) => shape !== this.chosen);
    this.touched();
    this.choose(null);
  }

  touched() {
    this.dirty = true;
    this.view.draw();
  }

  choose(shape) {
    this.chosen = shape;
    this.corner = 0;
    this.refresh();
  }

  paint(ctx, scale) {
    const px = (points) => points.map((p) => p.map((v) => v * scale));
    for (const shape of this.shapes) {
      const lit = shape === this.chosen;
      if (shape.kind === "zone") drawZone(ctx, px(shape.points), shape.name, { lit });
      else drawLine(ctx, px(shape.points), shape.name, { lit });
      if (lit) px(shape.points).forEach((point, i) => handle(ctx, point, i === this.corner));
    }
    if (!this.drawing?.points.length) return;
    const points = px(this.drawing.points), hover = this.drawing.hover && px([this.drawing.hover])[0];
    const closing = points.length > 2 && hover && far(hover, points[0]) < NEAR;
    ctx.beginPath();
    [...points, ...(hover && !closing ? [hover] : [])].forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
    if (closing) ctx.closePath();
    ctx.setLineDash([5, 4]);
    ctx.strokeStyle = this.drawing.kind === "zone" ? zoneColour : lineColour;
    ctx.lineWidth = 1.8;
    ctx.stroke();
    ctx.setLineDash([]);
    points.forEach((point, i) => handle(ctx, point, closing && i === 0));
  }

  // ------------------------------------------------------------------------------------------------------------ panel

  refresh(rebuild = true) {
    this.view.draw();
    this.view.node.closest(".stage")?.classList.toggle("drawing", Boolean(this.drawing));
    for (const button of this.node.querySelectorAll("[data-draw]")) button.setAttribute("aria-pressed", String(this.drawing?.kind === button.dataset.draw));
    this.help.replaceChildren(...this.advice());
    if (!rebuild) return;
    this.list.replaceChildren(...this.shapes.map((shape) => h("li", {}, h("button", { "aria-current": String(shape === this.chosen), onclick: () => { this.drawing = null; this.choose(shape); } },
      this.swatch(shape.kind), h("span", { class: "grow" }, shape.name), h("small", {}, shape.kind)))));
    this.list.hidden = !this.shapes.length;
    this.fields.hidden = !this.chosen;
    if (this.chosen) this.fields.replaceChildren(...this.form(this.chosen));
  }

  swatch(kind) {
    const node = h("i", { class: "swatch" });
    node.style.background = kind === "zone" ? zoneColour : lineColour;
    return node;
  }

  advice() {
    if (this.drawing?.kind === "zone") return this.drawing.points.length ? ["Click the next corner. ", h("kbd", {}, "Enter"), " or the first corner closes it, ", h("kbd", {}, "Esc"), " gives up."] : ["Click corner by corner, or drag a rectangle."];
    if (this.drawing) return ["Drag from one end to the other. Who passes in the direction of the arrow goes “in”."];
    if (this.chosen) return ["Drag corners or the whole shape; drag an edge for a new corner. ", h("kbd", {}, "Del"), " removes it."];
    return [this.shapes.length ? "Choose a shape, or draw another." : "Nothing is watched on this camera yet. Draw a zone or a line."];
  }

  form(shape) {
    const set = (change) => { change(); this.dirty = true; this.view.draw(); };
    const name = h("input", { value: shape.name, maxLength: 60, required: true, oninput: (e) => set(() => { shape.name = e.target.value; }), onchange: () => this.refresh() });
    const classes = h("input", { value: shape.classes.join(", "), placeholder: "all", oninput: (e) => set(() => { shape.classes = words(e.target.value); }) });
    const anchors = { center: "middle", bottom_center: "foot", top_center: "top" };
    const anchor = h("select", { onchange: (e) => set(() => { shape.anchor = e.target.value; }) }, Object.entries(anchors).map(([value, text]) => h("option", { value, selected: value === shape.anchor }, text)));
    const dwell = shape.kind === "zone" && h("input", { value: shape.dwell_s.join(", "), placeholder: "never", inputMode: "decimal", oninput: (e) => set(() => { shape.dwell_s = words(e.target.value).map(Number).filter((s) => s > 0); }) });
    return [
      h("label", {}, "Name", name),
      h("label", {}, "Only these classes", classes),
      h("div", { class: "pair" }, h("label", {}, "Point that counts", anchor), dwell ? h("label", {}, "Tell after (s)", dwell) : h("label", {}, "Direction", h("button", { onclick: () => set(() => shape.points.reverse()) }, icon("swap"), "Turn"))),
      h("div", { class: "row" }, h("button", { class: "quiet danger", onclick: () => this.remove() }, icon("trash"), "Remove")),
    ];
  }

  // ------------------------------------------------------------------------------------------------------------- save

  async save() {
    const [width, height] = this.view.wh;
    const relative = ([x, y]) => [+(x / width).toFixed(5), +(y / height).toFixed(5)];
    const zones = this.shapes.filter((s) => s.kind === "zone").map(({ name, points, classes, anchor, inertia, dwell_s }) => ({ name, polygon: points.map(relative), classes, anchor, inertia, dwell_s }));
    const lines = this.shapes.filter((s) => s.kind === "line").map(({ name, points, classes, anchor, hysteresis_px }) => ({ name, start: relative(points[0]), end: relative(points[1]), classes, anchor, hysteresis_px }));
    this.problem.hidden = true;
    this.saving.disabled = true;
    try {
      this.view.zones = await call("PUT", `${cameraPath(this.view.name)}/zones`, { zones, lines });
      this.dirty = false;
      toast("Saved. It counts from the next frame on.");
      this.done();
    } catch (error) {
      this.problem.textContent = error.message;
      this.problem.hidden = false;
    } finally {
      this.saving.disabled = false;
    }
  }
}

const words = (text) => text.split(/[,;]/).map((word) => word.trim()).filter(Boolean);
const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

function onSegment(a, b, p) {
  const long = (b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2 || 1;
  const t = Math.max(0, Math.min(1, ((p[0] - a[0]) * (b[0] - a[0]) + (p[1] - a[1]) * (b[1] - a[1])) / long));
  return far(p, [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]);
}

function within(points, [x, y]) {
  let inside = false;
  points.forEach(([x1, y1], i) => {
    const [x2, y2] = points[(i + 1) % points.length];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  });
  return inside;
}

function handle(ctx, [x, y], lit) {
  ctx.beginPath();
  ctx.arc(x, y, lit ? 6.5 : 5, 0, 7);
  ctx.fillStyle = lit ? "#fff" : "#12181b";
  ctx.fill();
  ctx.strokeStyle = "#fff";
  ctx.lineWidth = 1.8;
  ctx.stroke();
}
