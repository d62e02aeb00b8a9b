// What is drawn over a picture, crisp at any size: marks, trails, labels, zones. Sizes are CSS px, colours follow the track as in the film.

export const PALETTE = ["#4CC3FF", "#FF7A3D", "#FFB3C7", "#9C6BFF", "#00C27A", "#FFF07C", "#E8553F", "#FFB000"];
export const colourOf = (track) => PALETTE[(((track ?? 1) - 1) % 8 + 8) % 8];
export const zoneColour = "#F2C14E";
export const lineColour = "#5AD1C0";

const SMALL_PX = 26; // on the screen: below it a ring with air round the object, above it a box
const TRAIL_S = 1.2;

/** Remembers where tracks were. */
export class Trails {
  constructor() { this.points = new Map(); this.epoch = null; this.now = 0; }

  add(record) {
    if (record.epoch !== this.epoch || record.pts_s < this.now || record.motion === "cut") this.points.clear();
    const torn = record.pts_s - Math.max(0.3, 3 * (record.pts_s - this.now)) - 1e-9; // not seen since: nobody knows the way
    this.epoch = record.epoch;
    this.now = record.pts_s;
    for (const object of record.objects) {
      if (!object.track) continue;
      const [x1, y1, x2, y2] = object.bbox;
      const trail = this.points.get(object.track) ?? [];
      trail.push([record.pts_s, (x1 + x2) / 2, (y1 + y2) / 2, trail.length > 0 && trail[trail.length - 1][0] < torn]);
      this.points.set(object.track, trail);
    }
    for (const [track, trail] of this.points) {
      while (trail.length && trail[0][0] < this.now - TRAIL_S) trail.shift();
      if (!trail.length) this.points.delete(track);
    }
  }

  draw(ctx, scale) {
    ctx.lineCap = "round";
    for (const [track, trail] of this.points) {
      ctx.strokeStyle = colourOf(track);
      for (let i = 1; i < trail.length; i++) {
        if (trail[i][3]) continue;
        const fresh = 1 - (this.now - trail[i][0]) / TRAIL_S;
        ctx.globalAlpha = 0.15 + 0.75 * fresh;
        ctx.lineWidth = 0.8 + 1.8 * fresh;
        ctx.beginPath();
        ctx.moveTo(trail[i - 1][1] * scale, trail[i - 1][2] * scale);
        ctx.lineTo(trail[i][1] * scale, trail[i][2] * scale);
        ctx.stroke();
      }
    }
    ctx.globalAlpha = 1;
  }
}

function mark(ctx, [x1, y1, x2, y2], colour, coasting) {
  const long = Math.max(x2 - x1, y2 - y1);
  ctx.setLineDash(coasting ? [4, 4] : []);
  const path = () => {
    ctx.beginPath();
    if (long < SMALL_PX) ctx.arc((x1 + x2) / 2, (y1 + y2) / 2, Math.max(7, long * 0.72 + 4), 0, 7);
    else ctx.roundRect(x1, y1, x2 - x1, y2 - y1, 3);
  };
  path(); ctx.strokeStyle = "#0008"; ctx.lineWidth = 3.4; ctx.stroke();
  path(); ctx.strokeStyle = colour; ctx.lineWidth = 1.7; ctx.stroke();
  ctx.setLineDash([]);
}

function label(ctx, text, box, colour, width) {
  const [x1, y1, x2, y2] = box;
  const air = Math.max(x2 - x1, y2 - y1) < SMALL_PX ? 9 : 2;
  const wide = ctx.measureText(text).width + 10;
  const x = Math.max(2, Math.min(width - wide - 2, (x1 + x2) / 2 - wide / 2));
  const y = y1 - air - 18 > 2 ? y1 - air - 18 : y2 + air + 2;
  ctx.fillStyle = colour;
  ctx.beginPath(); ctx.roundRect(x, y, wide, 16, 3); ctx.fill();
  ctx.fillStyle = "#12181b";
  ctx.fillText(text, x + 5, y + 8.5);
}

export function drawObjects(ctx, record, scale, width, labels) {
  ctx.font = "600 11px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  const objects = record.objects.filter((object) => object.state !== "tentative");
  for (const object of objects) mark(ctx, object.bbox.map((v) => v * scale), object.state === "coasting" ? "#a9b2b7" : colourOf(object.track), object.state === "coasting");
  if (!labels) return;
  for (const object of objects.slice(0, 60)) {
    if (object.state === "coasting") continue;
    const score = objects.length <= 12 ? ` ${object.score.toFixed(2).replace(/^0/, "")}` : "";
    label(ctx, `${object.label}${object.track ? ` ${object.track}` : ""}${score}`, object.bbox.map((v) => v * scale), colourOf(object.track), width);
  }
}

/** Points of a zone or line as px of the picture: they are relative if no value is above 1. */
export function toPx(points, [width, height]) {
  const relative = points.flat().every((value) => value <= 1);
  return points.map(([x, y]) => (relative ? [x * width, y * height] : [x, y]));
}

function plate(ctx, text, x, y, colour) {
  ctx.font = "600 11px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  const wide = ctx.measureText(text).width + 12;
  ctx.fillStyle = "#0c0f11b8";
  ctx.beginPath(); ctx.roundRect(x - wide / 2, y - 9, wide, 18, 4); ctx.fill();
  ctx.fillStyle = colour;
  ctx.fillText(text, x - wide / 2 + 6, y + 0.5);
}

export function drawZone(ctx, points, name, { lit = false, names = true } = {}) {
  if (!points.length) return;
  ctx.beginPath();
  points.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
  ctx.closePath();
  ctx.fillStyle = zoneColour + (lit ? "38" : "16");
  ctx.fill();
  ctx.strokeStyle = "#0006"; ctx.lineWidth = 3; ctx.stroke();
  ctx.strokeStyle = zoneColour; ctx.lineWidth = lit ? 2 : 1.4; ctx.stroke();
  if (names && name) {
    const [x, y] = points.reduce((best, point) => (point[1] < best[1] ? point : best));
    const middle = points.reduce((sum, point) => sum + point[0], 0) / points.length;
    plate(ctx, name, (x + middle) / 2, Math.max(12, y + 14), zoneColour);
  }
}

export function drawLine(ctx, [start, end], name, { lit = false, names = true } = {}) {
  const [dx, dy] = [end[0] - start[0], end[1] - start[1]];
  const long = Math.hypot(dx, dy) || 1;
  const [mx, my] = [(start[0] + end[0]) / 2, (start[1] + end[1]) / 2];
  const [nx, ny] = [-dy / long, dx / long]; // to the right hand of who walks from start to end: "in"
  const path = () => {
    ctx.beginPath();
    ctx.moveTo(...start); ctx.lineTo(...end);
    ctx.moveTo(mx, my); ctx.lineTo(mx + nx * 16, my + ny * 16);
    ctx.moveTo(mx + nx * 10 - (dx / long) * 5, my + ny * 10 - (dy / long) * 5);
    ctx.lineTo(mx + nx * 16, my + ny * 16);
    ctx.lineTo(mx + nx * 10 + (dx / long) * 5, my + ny * 10 + (dy / long) * 5);
  };
  ctx.lineCap = ctx.lineJoin = "round";
  path(); ctx.strokeStyle = "#0008"; ctx.lineWidth = 4.5; ctx.stroke();
  path(); ctx.strokeStyle = lineColour; ctx.lineWidth = lit ? 2.6 : 1.9; ctx.stroke();
  if (names && name) plate(ctx, name, mx - nx * 15, my - ny * 15, lineColour);
}

/** What a thing is told by when there is no picture of it: its way over the frame. */
export function drawPath(canvas, event) {
  const path = event.path?.length ? event.path : null;
  const [x1, y1, x2, y2] = event.bbox;
  const here = [(x1 + x2) / 2, (y1 + y2) / 2];
  const [vx, vy] = event.velocity ?? [0, 0]; // without a path: where it came from, by how it moves
  const points = path ? path.map(([, x, y]) => [x, y]) : [[here[0] - vx * 0.4, here[1] - vy * 0.4], here];
  const ctx = canvas.getContext("2d");
  const [w, h] = [(canvas.width = 184), (canvas.height = 112)];
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const span = Math.max((Math.max(...xs) - Math.min(...xs)) / (w - 44), (Math.max(...ys) - Math.min(...ys)) / (h - 40), 1);
  const [cx, cy] = [(Math.max(...xs) + Math.min(...xs)) / 2, (Math.max(...ys) + Math.min(...ys)) / 2];
  const at = ([x, y]) => [w / 2 + (x - cx) / span, h / 2 + (y - cy) / span];
  ctx.lineCap = ctx.lineJoin = "round";
  ctx.strokeStyle = colourOf(event.track);
  for (let i = 1; i < points.length; i++) {
    ctx.globalAlpha = 0.2 + (0.7 * i) / points.length;
    ctx.lineWidth = 1 + (2.5 * i) / points.length;
    ctx.beginPath(); ctx.moveTo(...at(points[i - 1])); ctx.lineTo(...at(points[i])); ctx.stroke();
  }
  ctx.globalAlpha = 1;
  ctx.lineWidth = 2.5;
  ctx.beginPath(); ctx.arc(...at(points[points.length - 1]), 8, 0, 7); ctx.stroke();
}
