// The rail: what happened, newest first, filling as it happens; and the film of each event.
import { $, h, icon, sheet, time, duration, toast } from "./dom.js";
import { call } from "./api.js";
import { drawPath } from "./overlay.js";

const KEPT = 250;
const GROUPS = {
  all: ["new", "enter", "leave", "cross", "dwell", "end"],
  rules: ["enter", "leave", "cross", "dwell"],
  objects: ["new", "end"],
};

const thing = (event) => `${event.label} ${event.track}`;

const seen = (event) => Math.max(0, (event.end_s ?? 0) - (event.start_s ?? 0));

/** What happened, as [text, bold text, text]. */
function words(event) {
  switch (event.type) {
    case "enter": return [`${thing(event)} entered `, event.zone, ""];
    case "leave": return [`${thing(event)} ${event.ended ? "was last seen in" : "left"} `, event.zone, event.dwell_s ? ` after ${duration(event.dwell_s)}` : ""];
    case "dwell": return [`${thing(event)} stays in `, event.zone, ` for ${duration(event.dwell_s)}`];
    case "cross": return [`${thing(event)} crossed `, event.line, ` ${event.direction}`];
    case "end": return ["", thing(event), seen(event) < 0.1 ? " seen for a moment" : ` seen for ${duration(seen(event))}`];
    default: return ["", thing(event), " appeared"];
  }
}

/** When it began, as UTC text: an "end" is told long after its object appeared, a "new" a little. */
function began(event) {
  if (!event.utc || !["new", "end"].includes(event.type) || event.start_s === undefined) return event.utc;
  return new Date(new Date(event.utc) - (event.pts_s - event.start_s) * 1000).toISOString();
}

const media = (path) => `/${path.replace(/^\//, "")}`;

export class Rail {
  constructor(node) {
    this.node = node;
    this.group = "all";
    this.camera = null;
    this.rows = new Map(); // key -> {event, node}
    this.newest = null;
    this.unseen = 0;
    this.count = h("small", {});
    this.list = h("ul", { class: "list", tabIndex: -1 });
    this.more = h("div", { class: "more", hidden: true }, h("button", { class: "quiet", onclick: () => this.older() }, "Earlier events"));
    const tab = (key, title) => h("button", { "aria-pressed": String(key === this.group), onclick: () => this.choose(key), "data-group": key }, title);
    this.tabs = h("div", { class: "toggles", role: "group", "aria-label": "Which events" }, tab("all", "All"), tab("rules", "Zones & lines"), tab("objects", "Objects"));
    node.replaceChildren(
      h("header", {},
        h("div", {}, h("h2", {}, "Events", this.count), h("button", { class: "icon only-narrow", "aria-label": "Close events", onclick: () => this.toggle(false) }, icon("close"))),
        h("div", {}, this.tabs)),
      this.list,
    );
    node.addEventListener("keydown", (event) => event.key === "Escape" && this.toggle(false));
    this.load();
  }

  toggle(open = !this.node.classList.contains("open")) {
    this.node.classList.toggle("open", open);
    $("show-events").setAttribute("aria-expanded", String(open));
    if (open) this.seen();
  }

  seen() {
    this.unseen = 0;
    $("unseen").hidden = true;
  }

  /** Show only events of `camera`; null: of all. */
  of(camera) {
    if (camera === this.camera) return;
    this.camera = camera;
    this.load();
  }

  choose(group) {
    this.group = group;
    for (const tab of this.tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.group === group));
    this.load();
  }

  query(more = {}) {
    const query = new URLSearchParams({ limit: 60, ...more });
    for (const type of GROUPS[this.group]) query.append("type", type);
    if (this.camera) query.set("stream", this.camera);
    return `/api/events?${query}`;
  }

  async load() {
    const turn = (this.turn = {});
    this.rows.clear();
    this.list.replaceChildren(h("li", { class: "bones", "aria-hidden": "true" }, h("i"), h("i"), h("i"), h("i")));
    try {
      const { events, next } = await call("GET", this.query());
      if (turn !== this.turn) return;
      this.list.replaceChildren(this.more);
      events.sort((a, b) => ((began(a) ?? a.id) < (began(b) ?? b.id) ? -1 : 1));
      for (const event of events) this.add(event, false);
      this.follow(next);
      if (!this.rows.size) this.empty();
    } catch (error) {
      if (turn !== this.turn) return;
      this.list.replaceChildren(h("li", { class: "empty" }, h("strong", {}, "Events cannot be shown"), error.message, h("button", { onclick: () => this.load() }, "Try again")));
    }
    this.counted();
  }

  async older() {
    const { events, next } = await call("GET", this.query({ before: this.next })).catch((error) => { toast(error.message, true); return { events: [] }; });
    for (const event of events) {
      if (!this.rows.has(this.key(event))) this.more.before(this.row(event));
    }
    this.follow(next);
    this.counted();
  }

  follow(next) {
    this.next = next;
    this.more.hidden = !next;
  }

  /** An event as it happens. */
  heard(event) {
    if (!GROUPS[this.group].includes(event.type) || (this.camera && event.stream !== this.camera)) return;
    if (!this.more.isConnected) { if (this.list.querySelector(".bones")) return; this.list.replaceChildren(this.more); }
    this.add(event, true);
    this.counted();
    const narrow = getComputedStyle($("show-events")).display !== "none";
    if (narrow && !this.node.classList.contains("open") && event.type !== "end") {
      $("unseen").textContent = String(Math.min(99, ++this.unseen));
      $("unseen").hidden = false;
    }
  }

  /** The end of an object belongs to its beginning: one row for both. */
  key(event) {
    return event.type === "new" || event.type === "end" ? `${event.stream}/${event.epoch ?? 0}/${event.track}/${event.start_s}` : event.id;
  }

  add(event, fresh) {
    const known = this.rows.get(this.key(event));
    if (known?.event.type === "end") return; // it holds all that its "new" does
    const row = this.row(event);
    if (known) known.node.replaceWith(row);
    else {
      const top = this.list.scrollTop;
      this.list.prepend(row);
      if (top > 4) this.list.scrollTop = top + row.offsetHeight; // who reads further down is not pushed
      if (fresh) row.firstChild.classList.add("fresh");
    }
    while (this.rows.size > KEPT) {
      const [key, old] = this.rows.entries().next().value;
      this.rows.delete(key);
      old.node.remove();
    }
  }

  row(event) {
    const [before, bold, after] = words(event);
    const button = h("button", { class: "event", "data-type": event.type, "data-id": event.id, onclick: () => play(event) },
      this.thumb(event),
      h("span", {}, h("span", { class: "what" }, h("i", { class: "kind" }), before, h("b", {}, bold), after),
        h("span", { class: "when" }, h("time", { dateTime: began(event) ?? "" }, time(began(event)) || `${event.pts_s.toFixed(1)} s`), h("span", {}, event.stream))));
    const node = h("li", {}, button);
    this.rows.set(this.key(event), { event, node });
    return node;
  }

  thumb(event) {
    const canvas = h("canvas", {});
    drawPath(canvas, event);
    const box = h("span", { class: "thumb" }, canvas);
    if (event.clip) box.append(icon("play"));
    if (event.snapshot) {
      const image = h("img", { alt: "", loading: "lazy", decoding: "async" });
      image.onload = () => canvas.replaceWith(image);
      image.onerror = () => { if ((image.tries = (image.tries ?? 0) + 1) < 6) setTimeout(() => { image.src = `${media(event.snapshot)}?${image.tries}`; }, 1500 * image.tries); };
      image.loading = "eager";
      image.src = media(event.snapshot);
    }
    return box;
  }

  empty() {
    const about = this.group === "rules" ? "Draw a zone or a line in a camera's large view; what happens there is told here." : "What is seen is told here as it happens.";
    this.list.replaceChildren(h("li", { class: "empty" }, icon("events"), h("strong", {}, "Nothing yet"), h("span", {}, about)));
  }

  counted() {
    this.count.textContent = this.rows.size ? (this.next ? `${this.rows.size}+` : String(this.rows.size)) : "";
  }
}

/** The clip of an event, or its picture, or its way; and all that is known of it. */
export function play(event) {
  let gone = false;
  const film = h("div", { class: "film" });
  const facts = [
    ["Camera", event.stream],
    ["Time", event.utc ? new Date(event.utc).toLocaleString() : `${event.pts_s.toFixed(2)} s`],
    ["Object", thing(event)],
    ["Score", (event.top_score ?? event.score).toFixed(2)],
    event.zone && ["Zone", event.zone],
    event.line && ["Line", `${event.line}, ${event.direction}`],
    event.dwell_s && ["Stayed", duration(event.dwell_s)],
    event.end_s !== undefined && event.start_s !== undefined && ["Seen for", duration(seen(event))],
    event.speed_m_s ? ["Speed", `${event.speed_m_s.toFixed(1)} m/s`] : event.speed_px_s && ["Speed", `${Math.round(event.speed_px_s)} px/s`],
    event.latency_s !== undefined && ["Told after", `${Math.round(event.latency_s * 1000)} ms`],
    ["Frame", `${event.frame}${event.epoch ? `, epoch ${event.epoch}` : ""}`],
  ].filter(Boolean);
  sheet(words(event).join(""), [film, h("dl", { class: "facts-list" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))], { closed: () => { gone = true; } });
  const still = () => {
    if (event.snapshot) return h("img", { alt: "Snapshot of the event", src: media(event.snapshot), onerror: (e) => e.target.remove() });
    const canvas = h("canvas", {});
    drawPath(canvas, event);
    return canvas;
  };
  if (!event.clip) { film.append(still()); return; }
  const started = Date.now();
  const attempt = async () => {
    const there = await fetch(media(event.clip).split("#")[0], { method: "HEAD" }).then((answer) => answer.ok, () => false);
    if (gone) return;
    if (there) {
      film.replaceChildren(h("video", { src: media(event.clip), controls: true, autoplay: true, muted: true, playsInline: true, loop: false }));
    } else if (Date.now() - started < 90000) {
      film.replaceChildren(...(event.snapshot ? [still()] : []), h("p", { class: "plain" }, h("i"), "The clip is still being recorded"));
      setTimeout(attempt, 1500);
    } else film.replaceChildren(still(), h("p", { class: "plain" }, "This clip is not kept any more."));
  };
  attempt();
}
