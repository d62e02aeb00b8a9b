// The station, over HTTP and one WebSocket that comes back by itself.

export class ApiError extends Error {}

export async function call(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError("streamdet does not answer. Is it still running?");
  }
  if (answer.status === 401) {
    location.assign("/login");
    return new Promise(() => {});
  }
  const data = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(data?.error ?? `${answer.status} ${answer.statusText}`);
  return data;
}

export const cameraPath = (name) => `/api/cameras/${encodeURIComponent(name)}`;

export function address(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return url;
}

/** A WebSocket that is opened again, later and later, until `close()`. */
export class Line {
  constructor(makeUrl, { message, opened = () => {}, lost = () => {} }) {
    this.makeUrl = makeUrl;
    this.handlers = { message, opened, lost };
    this.tries = 0;
    this.closed = false;
    this.retry = () => { clearTimeout(this.timer); if (!this.closed && this.socket?.readyState === WebSocket.CLOSED) this.open(); };
    addEventListener("online", this.retry);
    this.open();
  }

  open() {
    const socket = new WebSocket(this.makeUrl());
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => { this.tries = 0; this.handlers.opened(); };
    socket.onmessage = (event) => this.handlers.message(event.data, socket);
    socket.onclose = () => {
      if (this.closed || this.socket !== socket) return;
      this.handlers.lost();
      this.timer = setTimeout(() => this.open(), Math.min(8000, 300 * 1.7 ** this.tries++) * (0.7 + 0.6 * Math.random()));
    };
  }

  again() {
    const old = this.socket;
    this.open();
    if (old.readyState === WebSocket.CONNECTING) old.onopen = () => old.close();
    else old.close();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    removeEventListener("online", this.retry);
    const socket = this.socket;
    if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
    else socket.close();
  }
}
