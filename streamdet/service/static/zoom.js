// Small things looked at closely: wheel or two fingers zoom where the pointer is, dragging moves, double-click goes back.

const MOST = 12;

export class Zoom {
  /** `changed(closer)`: called after every change; `closer`: whether the picture is enlarged now. */
  constructor(view, { free = () => true, changed = () => {} }) {
    this.view = view;
    this.free = free; // whether dragging is ours, and not the editor's
    this.changed = changed;
    this.touches = new Map();
    const canvas = view.canvas;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.by(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), event);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || !this.free()) return;
      canvas.setPointerCapture(event.pointerId);
      this.touches.set(event.pointerId, event);
    });
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.touches.delete(event.pointerId));
    canvas.addEventListener("dblclick", () => this.free() && this.set(1, 0.5, 0.5));
    canvas.addEventListener("keydown", (event) => {
      if (event.key === "+" || event.key === "=") this.by(1.4);
      else if (event.key === "-") this.by(1 / 1.4);
      else if (event.key === "0") this.set(1, 0.5, 0.5);
    });
  }

  move(event) {
    const before = this.touches.get(event.pointerId);
    if (!before) return;
    const { closer, x, y } = this.view.zoom;
    const other = [...this.touches.values()].find((touch) => touch.pointerId !== event.pointerId);
    this.touches.set(event.pointerId, event);
    if (other) {
      const far = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY) || 1;
      this.by(far(event) / far(before), { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 });
    } else if (closer > 1) {
      const [width, height] = this.view.wh.map((side) => side * this.view.scale);
      this.set(closer, x - (event.clientX - before.clientX) / width, y - (event.clientY - before.clientY) / height);
    }
  }

  /** `times` closer, with what is under the pointer staying there. */
  by(times, pointer = null) {
    if (!this.view.wh) return;
    const { closer, x, y } = this.view.zoom;
    const next = Math.max(1, Math.min(MOST, closer * times));
    const at = pointer ? this.view.at(pointer).map((v, i) => v / this.view.wh[i]) : [x, y];
    this.set(next, at[0] + ((x - at[0]) * closer) / next, at[1] + ((y - at[1]) * closer) / next);
  }

  set(closer, x, y) {
    const edge = 0.5 / closer;
    const inside = (v) => Math.max(edge, Math.min(1 - edge, v));
    this.view.zoom = { closer, x: inside(x), y: inside(y) };
    this.view.canvas.style.touchAction = closer > 1 ? "none" : "";
    this.view.draw();
    this.changed(closer > 1.05);
  }
}
