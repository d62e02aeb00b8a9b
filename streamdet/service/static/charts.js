// Small charts of the last minutes: one line, its area, what it is now, and its value under the pointer.
import { h, milliseconds } from "./dom.js";
import { call, cameraPath } from "./api.js";

const SPAN_S = 180;

const KINDS = [
  { key: "objects", title: "Objects", text: (v) => String(Math.round(v)), least: 2 },
  { key: "fps", title: "Frames a second", text: (v) => v.toFixed(0), least: 5 },
  { key: "latency_s", title: "Latency", text: (v) => milliseconds(v), least: 0.05 },
  { key: "tiles_run", title: "Tiles run", text: (v) => v.toFixed(1), least: 1, of: "tiles_of" },
];

export class Charts {
  constructor(camera) {
    this.camera = camera;
    this.columns = null;
    this.pointer = null;
    this.parts = KINDS.map((kind) => {
      const value = h("b", {}, "–"), of = h("small", {}), canvas = h("canvas", { role: "img" });
      const node = h("section", { class: "chart" }, h("header", {}, h("span", {}, kind.title), value, of), canvas);
      canvas.onpointermove = (event) => { this.pointer = event.offsetX / canvas.clientWidth; this.draw(); };
      canvas.onpointerleave = () => { this.pointer = null; this.draw(); };
      return { kind, value, of, canvas, node };
    });
    this.node = h("div", { class: "charts" }, this.parts.map((part) => part.node));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.node);
    this.themed = new MutationObserver(() => this.draw());
    this.themed.observe(document.documentElement, { attributes: true });
    this.load(SPAN_S);
    this.timer = setInterval(() => this.load(8), 1000);
  }

  close() {
    clearInterval(this.timer);
    this.observer.disconnect();
    this.themed.disconnect();
  }

  async load(seconds) {
    if (document.hidden || this.loading) return;
    this.loading = true;
    const come = await call("GET", `${cameraPath(this.camera)}/history?seconds=${seconds}`).catch(() => null);
    this.loading = false;
    if (!come) return;
    const rows = new Map((this.columns?.at ?? []).map((at, i) => [at, KINDS.map(({ key }) => this.columns[key][i]).concat(this.columns.tiles_of[i])]));
    come.at.forEach((at, i) => rows.set(at, KINDS.map(({ key }) => come[key][i]).concat(come.tiles_of[i])));
    this.now = Math.floor(Date.now() / 1000) - 1;
    const sorted = [...rows].filter(([at]) => at > this.now - SPAN_S).sort((a, b) => a[0] - b[0]);
    this.columns = { at: sorted.map(([at]) => at), tiles_of: sorted.map(([, row]) => row[KINDS.length]) };
    KINDS.forEach(({ key }, i) => { this.columns[key] = sorted.map(([, row]) => row[i]); });
    this.draw();
  }

  draw() {
    if (!this.columns) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const tiled = this.columns.tiles_of.some((count) => count > 0); // without a network there are none
    for (const part of this.parts) part.node.hidden = part.kind.of !== undefined && !tiled;
    for (const part of this.parts) this.one(part, colour("--accent"), colour("--rule"), colour("--ink-3"));
  }

  one({ kind, value, of, canvas }, accent, rule, ink) {
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    if (!wide) return;
    canvas.width = wide * ratio;
    canvas.height = high * ratio;
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    const { at } = this.columns, values = this.columns[kind.key];
    const last = values.findLastIndex((v) => v !== null);
    const fresh = last >= 0 && at[last] > this.now - 5;
    const x = (second) => ((second - (this.now - SPAN_S)) / SPAN_S) * wide;
    const top = Math.max(kind.least, ...values.filter((v) => v !== null)) * 1.12;
    const y = (v) => high - 1 - (v / top) * (high - 4);
    let marked = fresh ? last : -1;
    if (this.pointer !== null && at.length) {
      const wanted = this.now - SPAN_S + this.pointer * SPAN_S;
      const near = at.reduce((best, second, i) => (values[i] !== null && Math.abs(second - wanted) < Math.abs(at[best] - wanted) ? i : best), 0);
      if (Math.abs(at[near] - wanted) < 4 && values[near] !== null) marked = near;
    }
    value.textContent = marked >= 0 ? kind.text(values[marked]) : "–";
    of.textContent = kind.of && marked >= 0 && this.columns[kind.of][marked] ? `of ${Math.round(this.columns[kind.of][marked])}` : "";
    canvas.setAttribute("aria-label", `${kind.title}: ${value.textContent}`);
    ctx.strokeStyle = rule;
    ctx.beginPath(); ctx.moveTo(0, high - 0.5); ctx.lineTo(wide, high - 0.5); ctx.stroke();
    const runs = [];
    at.forEach((second, i) => {
      if (values[i] === null) return;
      const run = runs.at(-1);
      if (run && second - run.at(-1)[0] <= 3) run.push([second, values[i]]);
      else runs.push([[second, values[i]]]);
    });
    const fill = ctx.createLinearGradient(0, 0, 0, high);
    fill.addColorStop(0, `${accent}40`);
    fill.addColorStop(1, `${accent}05`);
    for (const run of runs) {
      ctx.beginPath();
      run.forEach(([second, v], i) => (i ? ctx.lineTo(x(second), y(v)) : ctx.moveTo(x(second), y(v))));
      ctx.strokeStyle = accent; ctx.lineWidth = 1.5; ctx.lineJoin = "round"; ctx.stroke();
      ctx.lineTo(x(run.at(-1)[0]), high); ctx.lineTo(x(run[0][0]), high); ctx.closePath();
      ctx.fillStyle = fill; ctx.fill();
    }
    if (marked < 0) return;
    ctx.fillStyle = accent;
    ctx.beginPath(); ctx.arc(Math.min(x(at[marked]), wide - 3), y(values[marked]), 2.6, 0, 7); ctx.fill();
    if (this.pointer === null) return;
    ctx.strokeStyle = ink; ctx.globalAlpha = 0.5; ctx.lineWidth = 1;
    ctx.beginPath(); ctx.moveTo(x(at[marked]), 0); ctx.lineTo(x(at[marked]), high); ctx.stroke();
  }
}
