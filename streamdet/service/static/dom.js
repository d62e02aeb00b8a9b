// Building the page: elements, icons, notices, numbers. No markup is ever made from text that came from outside.

/** An element. `props`: attributes, `on*` listeners, `data-*`; children: nodes or text, null is left out. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name in node && !name.includes("-") && name !== "list" && name !== "form") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export const $ = (id) => document.getElementById(id);

export function toast(text, bad = false) {
  const node = h("p", { class: bad ? "toast bad" : "toast" }, text);
  $("toasts").append(node);
  setTimeout(() => node.remove(), bad ? 7000 : 3000);
}

/** Show `children` in the dialog; gives a function that closes it. `closed` is called once it is gone. */
export function sheet(title, children, { small = false, closed = () => {} } = {}) {
  const dialog = $("sheet");
  const close = () => dialog.close();
  dialog.className = small ? "sheet small" : "sheet";
  dialog.setAttribute("aria-label", title);
  dialog.replaceChildren(
    h("header", {}, h("h2", {}, title), h("button", { class: "icon", "aria-label": "Close", title: "Close", onclick: close }, icon("close"))),
    ...children,
  );
  dialog.onclick = (event) => { if (event.target === dialog) close(); }; // giving back false would stop forms from being sent
  dialog.onclose = () => { dialog.replaceChildren(); closed(); };
  if (!dialog.open) dialog.showModal();
  return close;
}

// -------------------------------------------------------------------------------------------------------------- numbers

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export function time(utc) {
  if (!utc) return "";
  const date = new Date(utc);
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
}

export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export const milliseconds = (seconds) => (seconds === null || seconds === undefined ? "–" : seconds < 10 ? `${Math.round(seconds * 1000)} ms` : duration(seconds));
export const rate = (fps) => (fps >= 9.95 ? fps.toFixed(0) : fps.toFixed(1));
