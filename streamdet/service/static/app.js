// The page: what is shown where, and the one line to the station that keeps all of it up to date.
import { $, h, icon, sheet, toast, rate, milliseconds, duration } from "./dom.js";
import { Line, address, call, cameraPath } from "./api.js";
import { View } from "./view.js";
import { Charts } from "./charts.js";
import { Editor } from "./editor.js";
import { Rail } from "./events.js";
import { Zoom } from "./zoom.js";

const main = $("main");
const rail = new Rail($("rail"));
let cameras = null; // as the station last told
let screen = null; // what is in `main` now: {update, close}

// ------------------------------------------------------------------------------------------------------------- the grid

function grid() {
  const title = h("h1", {}, "Cameras");
  const list = h("ul", { class: "cameras" });
  const tiles = new Map();
  main.replaceChildren(h("div", { class: "heading" }, title, h("span", { class: "grow" }), h("button", { onclick: addCamera }, icon("plus"), "Add camera")), list);
  list.append(h("li", { class: "bones" }, h("i")), h("li", { class: "bones" }, h("i")));

  function update(states) {
    const names = new Set(states.map((state) => state.name));
    if (!tiles.size && (states.length || !list.querySelector(".empty"))) list.replaceChildren(); // bones, or that there is nothing
    for (const [name, tile] of tiles) {
      if (!names.has(name)) { tile.view.close(); tile.node.remove(); tiles.delete(name); }
    }
    for (const state of states) {
      if (!tiles.has(state.name)) tiles.set(state.name, tileOf(state, list, states.length));
      tiles.get(state.name).update(state);
    }
    list.dataset.count = states.length;
    if (!states.length && !list.querySelector(".empty")) list.replaceChildren(nothing());
  }

  return { update, close: () => tiles.forEach((tile) => tile.view.close()), title: "Cameras", stale: () => {} };
}

function tileOf(state, list, count) {
  const view = new View(state.name, { width: count > 4 ? 480 : 800, fps: count > 6 ? 12 : 0 });
  const dot = h("i", { class: "state" });
  const facts = h("span", { class: "facts" });
  const link = h("a", { class: "tile", href: `#/camera/${encodeURIComponent(state.name)}` }, view.node, h("span", { class: "row" }, dot, h("span", { class: "name" }, state.name), facts));
  const node = h("li", {}, link);
  list.append(node);
  return {
    view,
    node,
    update(now) {
      dot.dataset.state = now.state;
      dot.title = now.state;
      facts.replaceChildren(...factsOf(now));
      link.setAttribute("aria-label", `${now.name}, ${now.state}, ${now.objects} objects`);
      if (now.state !== "running") view.tell(now);
    },
  };
}

function factsOf(state) {
  if (state.state !== "running") return [h("span", {}, state.state === "lost" && state.last_frame_age_s ? `lost ${duration(state.last_frame_age_s)}` : state.state)];
  const late = state.latency_p50_s !== null && state.latency_p50_s !== undefined && h("span", { title: "latency, median" }, milliseconds(state.latency_p50_s));
  return [h("span", {}, h("b", {}, state.objects), state.objects === 1 ? " object" : " objects"), h("span", { title: "frames a second, processed" }, h("b", {}, rate(state.fps_out)), " fps"), late].filter(Boolean);
}

function nothing() {
  return h("li", { class: "empty" }, icon("camera"), h("strong", {}, "No cameras yet"), h("span", {}, "Add one here, or in the configuration file:"),
    h("pre", {}, "cameras:\n  court:\n    source: rtsp://192.168.1.20/stream1"), h("button", { class: "strong", onclick: addCamera }, icon("plus"), "Add camera"));
}

// ------------------------------------------------------------------------------------------------------- the large view

const SHOWN = { boxes: "Boxes", trails: "Trails", labels: "Labels", zones: "Zones" };

function large(name) {
  const show = JSON.parse(stored("show") ?? "{}");
  const view = new View(name, { large: true, show });
  const charts = new Charts(name);
  const dot = h("i", { class: "state" });
  const facts = h("span", { class: "facts hint" });
  const toggles = h("div", { class: "toggles", role: "group", "aria-label": "What is drawn" }, Object.entries(SHOWN).map(([key, text]) =>
    h("button", { "aria-pressed": String(view.show[key]), onclick: (event) => {
      view.show[key] = !view.show[key];
      event.currentTarget.setAttribute("aria-pressed", String(view.show[key]));
      store("show", JSON.stringify(view.show));
      view.draw();
    } }, text)));
  const pause = h("button", { class: "quiet", onclick: () => act(call("POST", `${cameraPath(name)}/${state?.state === "paused" ? "resume" : "pause"}`)) });
  const edit = h("button", { onclick: () => (editor ? editor.cancel() : startEditing()), "data-edit": "" }, icon("zone"), "Edit zones");
  const remove = h("button", { class: "quiet danger icon", title: "Remove camera", "aria-label": "Remove camera", onclick: () => removeCamera(name) }, icon("trash"));
  const full = h("button", { class: "quiet icon", title: "Full screen", "aria-label": "Full screen", onclick: () => stage.requestFullscreen?.() }, icon("expand"));
  const save = h("a", { class: "button quiet icon", title: "Save picture", "aria-label": "Save picture", href: `/cameras/${encodeURIComponent(name)}/snapshot.jpg?annotated=true`, download: `${name}.jpg` }, icon("camera"));
  const stage = h("div", { class: "stage" }, view.node);
  const split = h("div", { class: "split" }, stage);
  let editor = null, state = null;

  function startEditing() {
    if (!view.wh) return toast("Zones are drawn on the picture, and there is none yet.", true);
    editor = new Editor(view, { done: stopEditing });
    split.append(editor.node);
    split.classList.add("editing");
    stage.classList.add("editing");
    edit.setAttribute("aria-pressed", "true");
  }

  function stopEditing() {
    editor.close();
    editor.node.remove();
    editor = null;
    split.classList.remove("editing");
    stage.classList.remove("editing");
    edit.removeAttribute("aria-pressed");
  }

  main.replaceChildren(h("div", { class: "large" },
    h("div", { class: "heading" }, h("a", { class: "icon", href: "#/", "aria-label": "All cameras", title: "All cameras" }, icon("back")), dot, h("h1", {}, name), facts,
      h("div", { class: "doing" }, toggles, edit, pause, save, full, remove)),
    split, charts.node));
  const resized = new ResizeObserver(() => { clearTimeout(resized.timer); resized.timer = setTimeout(() => view.zoom.closer > 1 || view.ask(widthFor(stage)), 400); });
  resized.observe(stage);
  view.ask(widthFor(stage));
  new Zoom(view, { free: () => !editor, changed: (closer) => view.ask(closer ? 0 : widthFor(stage)) });

  return {
    title: name,
    update(states) {
      state = states.find((one) => one.name === name) ?? null;
      if (!state) { toast(`The camera ${name} is gone.`); location.hash = "#/"; return; }
      dot.dataset.state = state.state;
      dot.title = state.state;
      facts.textContent = about(state);
      pause.replaceChildren(icon(state.state === "paused" ? "play" : "pause"), state.state === "paused" ? "Resume" : "Pause");
      if (state.state !== "running") view.tell(state);
    },
    mayLeave: () => !editor?.dirty || confirm("Leave without saving the zones and lines?"),
    close() { editor?.close(); resized.disconnect(); charts.close(); view.close(); },
  };
}

function about(state) {
  const size = state.frame_wh ? `${state.frame_wh[0]} × ${state.frame_wh[1]}` : null;
  const dropped = Object.values(state.dropped).reduce((sum, n) => sum + n, 0);
  const parts = [size, state.state === "running" ? `${rate(state.fps_out)} of ${rate(state.fps_in)} fps` : state.state];
  if (dropped) parts.push(`${dropped} dropped`);
  if (state.reconnects) parts.push(`${state.reconnects} reconnects`);
  return parts.filter(Boolean).join("  ·  ");
}

/** How wide a picture is worth asking for, in steps so that not every pixel makes a new one. */
function widthFor(node) {
  const wide = (node?.clientWidth || Math.min(innerWidth, 1400)) * Math.min(devicePixelRatio || 1, 2);
  return Math.min(3840, Math.ceil(wide / 320) * 320);
}

async function act(asked) {
  try { await asked; } catch (error) { toast(error.message, true); }
}

// ------------------------------------------------------------------------------------------------------------- cameras

function addCamera() {
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const field = (name, props = {}) => h("input", { name, autocomplete: "off", spellcheck: false, ...props });
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    const given = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
    submit.disabled = true;
    try {
      await call("POST", "/api/cameras", given);
      close();
      toast(`${given.name} is being opened.`);
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    } finally { submit.disabled = false; }
  } },
    h("label", {}, "Name", field("name", { required: true, maxLength: 60, pattern: "[A-Za-z0-9][A-Za-z0-9_\\-]*", title: "letters, digits, dash and underscore", placeholder: "court" })),
    h("label", {}, "Address", field("source", { required: true, placeholder: "rtsp://192.168.1.20/stream1" })),
    h("div", { class: "pair" }, h("label", {}, "User name", field("username")), h("label", {}, "Password", field("password", { type: "password", autocomplete: "new-password" }))),
    h("p", { class: "hint" }, "rtsp, rtmp or http on your network, or demo for a rendered scene. Files and USB cameras belong into the configuration file."),
    problem,
    h("footer", {}, h("button", { type: "button", class: "quiet", onclick: () => close() }, "Cancel"), null));
  const submit = h("button", { class: "strong" }, "Add");
  form.lastChild.append(submit);
  const close = sheet("Add a camera", [form], { small: true });
  form.querySelector("input").focus();
}

function removeCamera(name) {
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    close();
    await act(call("DELETE", cameraPath(name)));
    location.hash = "#/";
  } },
    h("p", {}, "It is no longer read, also after a restart. Its events stay."),
    h("footer", {}, h("button", { type: "button", class: "quiet", onclick: () => close() }, "Keep it"), h("button", { class: "strong" }, "Remove")));
  const close = sheet(`Remove ${name}?`, [form], { small: true });
}

// ------------------------------------------------------------------------------------------------------------ the frame

function told(states) {
  cameras = states;
  screen?.update(states);
  const bad = states.filter((s) => !["running", "paused", "opening"].includes(s.state));
  const live = states.filter((s) => s.state === "running").length;
  const objects = states.reduce((sum, s) => sum + (s.state === "running" ? s.objects : 0), 0);
  $("sum").replaceChildren(h("b", {}, live), ` of ${states.length} live`, "  ·  ", h("b", {}, objects), objects === 1 ? " object" : " objects",
    ...(bad.length ? ["  ·  ", h("span", { class: "bad" }, bad.length === 1 ? `${bad[0].name} is ${bad[0].state}` : `${bad.length} cameras need a look`)] : []));
}

function linked(state) {
  $("link").dataset.state = state;
  $("link").lastElementChild.textContent = { open: "Live", lost: "Connection lost, trying again", opening: "Connecting" }[state];
}

let lastEvent = null;
new Line(() => {
  const url = address("/api/live");
  if (lastEvent) url.searchParams.set("after", lastEvent); // nothing that happened while away is missed
  return url;
}, {
  opened: () => linked("open"),
  lost: () => linked("lost"),
  message(text) {
    const data = JSON.parse(text);
    if (data.cameras) told(data.cameras);
    if (data.event) {
      lastEvent = data.event.id;
      rail.heard(data.event);
      dispatchEvent(new CustomEvent("station-event", { detail: data.event }));
    }
  },
});

let here = location.hash;
function route() {
  if (screen?.mayLeave && !screen.mayLeave()) { history.replaceState(null, "", here); return; }
  here = location.hash;
  const [, kind, name] = location.hash.split("/");
  screen?.close();
  screen = kind === "camera" && name ? large(decodeURIComponent(name)) : grid();
  rail.of(kind === "camera" && name ? decodeURIComponent(name) : null);
  document.title = screen.title === "Cameras" ? "streamdet" : `${screen.title} · streamdet`;
  if (cameras) screen.update(cameras);
  main.scrollTop = 0;
}

function stored(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function store(key, value) {
  try { localStorage.setItem(key, value); } catch { /* no storage: it lasts as long as the page */ }
}

$("theme").onclick = () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  store("theme", theme);
};
matchMedia("(prefers-color-scheme: light)").onchange = (event) => {
  if (!stored("theme")) document.documentElement.dataset.theme = event.matches ? "light" : "dark";
};
$("show-events").onclick = () => rail.toggle();
addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && location.hash !== "#/" && location.hash !== "" && !$("sheet").open && !event.defaultPrevented && event.target.tagName !== "INPUT") location.hash = "#/";
});
call("GET", "/api/cameras").then(({ cameras: states }) => told(states), (error) => { if (!cameras) main.replaceChildren(h("div", { class: "empty" }, h("strong", {}, "Cameras cannot be shown"), error.message)); });
route();
