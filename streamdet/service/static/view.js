// One camera, live: the newest picture with what was found in that very frame, and why there is none.
import { h, duration } from "./dom.js";
import { Line, address, call, cameraPath } from "./api.js";
import { Trails, drawLine, drawObjects, drawZone, toPx } from "./overlay.js";

const WORDS = {
  opening: ["Opening", "Waiting for the first picture."],
  stalled: ["No picture", "The camera is connected but sends nothing."],
  lost: ["Lost", "Trying to reach it again."],
  paused: ["Paused", "It is not read until you resume it."],
  failed: ["Not usable", ""],
  running: ["Waiting", "No picture yet."],
};

export class View {
  /** `show`: what is drawn, {boxes, trails, labels, zones}; `width`: most px wide the picture is asked for (0: as it is). */
  constructor(name, { width = 0, fps = 0, show = {}, large = false } = {}) {
    this.name = name;
    this.show = { boxes: true, trails: true, labels: large, zones: true, ...show };
    this.width = width;
    this.fps = fps;
    this.canvas = h("canvas", { tabIndex: large ? 0 : -1, role: "img", "aria-label": `Live picture of ${name}` });
    this.saying = h("div", { class: "say" }, h("i"));
    this.node = h("div", { class: "picture" }, this.canvas, this.saying);
    this.trails = new Trails();
    this.zones = { zones: [], lines: [] };
    this.rules = -1;
    this.shown = 0; // pictures drawn so far
    this.wh = null;
    this.zoom = { closer: 1, x: 0.5, y: 0.5 };
    this.paint = null; // the editor draws here
    this.pending = null;
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.node);
    if (!large) this.open(); // the large one waits to know how wide it is
  }

  open() {
    this.line = new Line(() => this.address(), { message: (data, socket) => this.take(data, socket), lost: () => this.stale("Not connected", "streamdet does not answer.") });
  }

  address() {
    const url = address(`/cameras/${encodeURIComponent(this.name)}/live`);
    if (this.width) url.searchParams.set("width", this.width);
    if (this.fps) url.searchParams.set("fps", this.fps);
    return url;
  }

  /** Ask for pictures of another width (opens the view, the first time). */
  ask(width) {
    if (this.line && width === this.width) return;
    this.width = width;
    if (this.line) this.line.again();
    else this.open();
  }

  close() {
    this.closed = true;
    this.line?.close();
    this.observer.disconnect();
    this.picture?.close();
  }

  async take(data, socket) {
    if (typeof data === "string") {
      const { camera } = JSON.parse(data);
      this.tell(camera);
      return;
    }
    const long = new DataView(data).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, long)));
    const picture = await createImageBitmap(new Blob([new Uint8Array(data, 4 + long)], { type: "image/jpeg" })).catch(() => null);
    if (socket.readyState === WebSocket.OPEN) socket.send(String(head.seq)); // ready for the next one
    if (!picture || this.closed || socket !== this.line?.socket) return picture?.close();
    this.picture?.close();
    this.picture = picture;
    this.head = head;
    this.trails.add(head.record);
    if (head.wh.join() !== this.wh?.join()) {
      this.wh = head.wh;
      this.node.style.setProperty("--aspect", head.wh[0] / head.wh[1]);
      this.node.parentElement?.style.setProperty("--aspect", head.wh[0] / head.wh[1]);
    }
    if (head.rules !== this.rules) this.learn(head.rules);
    if (this.saying.isConnected) { this.saying.remove(); delete this.node.dataset.state; }
    this.shown += 1;
    Object.assign(this.canvas.dataset, { frame: head.record.frame, objects: head.record.objects.length });
    if (head.record.utc) this.canvas.dataset.age = Date.now() - Date.parse(head.record.utc); // ms since it left the decoder, if the clocks agree
    if (!this.pending) this.pending = requestAnimationFrame(() => { this.pending = null; this.draw(); });
  }

  async learn(revision) {
    this.rules = revision;
    this.zones = await call("GET", `${cameraPath(this.name)}/zones`).catch(() => this.zones);
  }

  tell(camera) {
    const [word, about] = WORDS[camera.state] ?? WORDS.running;
    const age = camera.last_frame_age_s;
    if (camera.state === "running" && this.picture && (age ?? 0) < 2) return; // between two pictures of a slow camera
    this.stale(age && camera.state !== "paused" && camera.state !== "failed" ? `${word} for ${duration(age)}` : word, camera.reason ?? about, camera.state === "opening");
  }

  stale(word, about, busy = false) {
    this.node.dataset.state = "stale";
    this.saying.replaceChildren(...(busy ? [h("i")] : []), h("strong", {}, word), h("span", {}, about));
    this.node.append(this.saying);
  }

  /** CSS px per px of the camera's picture. */
  get scale() { return this.placed?.scale ?? 1; }

  draw() {
    if (!this.picture || this.closed) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const [wide, high] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (!wide) return;
    if (this.canvas.width !== Math.round(wide * ratio) || this.canvas.height !== Math.round(high * ratio)) {
      this.canvas.width = Math.round(wide * ratio);
      this.canvas.height = Math.round(high * ratio);
    }
    const ctx = this.canvas.getContext("2d", { alpha: false });
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    const { closer, x, y } = this.zoom;
    const fit = Math.min(this.canvas.width / this.wh[0], this.canvas.height / this.wh[1]) * closer;
    const [pw, ph] = [this.wh[0] * fit, this.wh[1] * fit];
    ctx.fillStyle = "#07090a";
    ctx.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const [left, top] = closer > 1 ? [this.canvas.width / 2 - x * pw, this.canvas.height / 2 - y * ph] : [(this.canvas.width - pw) / 2, (this.canvas.height - ph) / 2];
    ctx.imageSmoothingEnabled = fit * (this.wh[0] / this.picture.width) < 4; // pixels are shown as what they are
    this.placed = { left: left / ratio, top: top / ratio, scale: fit / ratio };
    ctx.drawImage(this.picture, left, top, pw, ph);
    ctx.setTransform(ratio, 0, 0, ratio, left, top);
    this.over(ctx, fit / ratio, pw / ratio);
  }

  over(ctx, scale, width) {
    const names = this.show.labels;
    if (this.paint) this.paint(ctx, scale);
    else if (this.show.zones) {
      const occupied = new Set();
      for (const zone of this.zones.zones) drawZone(ctx, toPx(zone.polygon, this.wh).map((p) => p.map((v) => v * scale)), zone.name, { names, lit: occupied.has(zone.name) });
      for (const line of this.zones.lines) drawLine(ctx, toPx([line.start, line.end], this.wh).map((p) => p.map((v) => v * scale)), line.name, { names });
    }
    if (this.show.trails) this.trails.draw(ctx, scale);
    if (this.show.boxes) drawObjects(ctx, this.head.record, scale, width, this.show.labels);
  }

  /** Where a pointer is, in px of the camera's picture. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const { left, top, scale } = this.placed ?? { left: 0, top: 0, scale: 1 };
    return [(event.clientX - box.left - left) / scale, (event.clientY - box.top - top) / scale];
  }
}
