// The map: two principal components, drawn on a canvas; the list holds the same songs for those who do not see it.

import { ask, byId } from "./dom.js";

const COLOURS = ["--vocals", "--bass", "--drums", "--other", "--soft"];

export class SongMap {
  /** choose: called with a song's number. */
  constructor(choose, nameOf, groupOf) {
    Object.assign(this, { choose, nameOf, groupOf, points: null, chosen: [] });
    this.canvas = byId("map");
    byId("map-box").addEventListener("toggle", () => this._open());
    this.canvas.addEventListener("click", (event) => { const found = this._at(event); if (found >= 0) this.choose(String(found)); });
    this.canvas.addEventListener("pointermove", (event) => {
      const found = this._at(event);
      this.canvas.title = found >= 0 ? this.nameOf(found) : "";
    });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  setChosen(numbers) { this.chosen = numbers; this.draw(); }

  async _open() {
    if (!byId("map-box").open || this.points) return;
    byId("map-help").textContent = "Loading the map…";
    try {
      const { points, share } = await ask("/api/map");
      this.points = points;
      const [first, second] = share.map((part) => `${Math.round(100 * part)}%`);
      byId("map-help").textContent = `A point is a song, coloured by folder; those near each other are mixed alike. The axes are the first two principal components of the embeddings, ${first} and ${second} of the variance: a shadow of many dimensions. The list above has the same songs.`;
      this.draw();
    } catch (error) {
      byId("map-help").textContent = error.message;
    }
  }

  _scale() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const ends = [0, 1].map((axis) => {
      const all = this.points.map((point) => point[axis]);
      return [all.reduce((a, b) => Math.min(a, b), Infinity), all.reduce((a, b) => Math.max(a, b), -Infinity)];
    });
    const along = (value, [low, high], size) => 14 + ((value - low) / (high - low || 1)) * (size - 28);
    return ([x, y]) => [along(x, ends[0], width), height - along(y, ends[1], height)];
  }

  draw() {
    const { canvas } = this;
    if (!this.points || !canvas.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const scale = (this._to = this._scale());
    const size = this.points.length > 2000 ? 2 : 4;
    this.points.forEach((point, number) => {
      const [x, y] = scale(point);
      pen.fillStyle = style.getPropertyValue(COLOURS[this.groupOf(number) % COLOURS.length]);
      pen.beginPath();
      pen.arc(x, y, size, 0, 7);
      pen.fill();
    });
    pen.strokeStyle = style.getPropertyValue("--text");
    pen.lineWidth = 2;
    for (const number of this.chosen.filter((one) => this.points[one])) {
      pen.beginPath();
      pen.arc(...scale(this.points[number]), 9, 0, 7);
      pen.stroke();
    }
  }

  _at(event) {
    if (!this.points || !this._to) return -1;
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, found] = [14 ** 2, -1];
    this.points.forEach((point, number) => {
      const [px, py] = this._to(point);
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < best) [best, found] = [far, number];
    });
    return found;
  }
}
