// A song of one's own: checked here in words, sent to this server alone, embedded there in line with other jobs.

import { ask, byId, make } from "./dom.js";

const POLL_MS = 400;

/** Waits for a job; told gets its state again and again. Throws what went wrong. */
export async function finished(job, told) {
  let now = job;
  while (now.state === "waiting" || now.state === "running") {
    told(now);
    await new Promise((done) => { setTimeout(done, POLL_MS); });
    now = await ask(`/api/jobs/${job.id}`);
  }
  if (now.state === "failed") throw new Error(now.error);
  return now.result;
}

/** A bar and words for a job. */
export function showJob(box, job) {
  if (!box.querySelector("progress")) {
    box.replaceChildren(make("p", { role: "status" }), make("progress", { max: 1, "aria-label": "progress" }));
  }
  const bar = box.querySelector("progress");
  if (job.done === null) bar.removeAttribute("value");
  else bar.value = job.done;
  const words = `${job.what}: ${job.state === "waiting" ? "waits for the job before it" : job.phase}`;
  const line = box.querySelector("p");
  if (line.dataset.words !== words) { line.dataset.words = words; line.textContent = words; }
}

export class Drop {
  constructor(about, added, removed) {
    Object.assign(this, { about, added, removed, own: new Map() });
    const input = byId("file");
    input.addEventListener("change", () => { this._take([...input.files]); input.value = ""; });
    let depth = 0;
    const over = (on) => document.body.classList.toggle("dragging", on);
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragenter", (event) => { if (hasFiles(event)) { depth += 1; over(true); } });
    document.addEventListener("dragleave", (event) => { if (hasFiles(event)) { depth -= 1; over(depth > 0); } });
    document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      over(false);
      this._take([...event.dataTransfer.files]);
    });
    if (about.why_not) {
      input.disabled = true;
      document.querySelector("label[for=file]").setAttribute("aria-disabled", "true");
      byId("drop-help").textContent = `No songs can be added: ${about.why_not}.`;
    } else {
      byId("drop-help").textContent += ` Up to ${about.most_mb} MB.`;
    }
    for (const track of about.added) this.keep(track);
  }

  async _take(files) {
    for (const file of files) await this._one(file);
  }

  async _one(file) {
    const box = make("div", { className: "job" });
    byId("drop-state").append(box);
    try {
      this._check(file);
      box.replaceChildren(make("p", { role: "status" }, `${file.name}: is sent to this server…`));
      const job = await ask(`/api/dropped?name=${encodeURIComponent(file.name)}`,
        { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
      const result = await finished(job, (now) => showJob(box, now));
      const track = await ask(`/api/songs/${result.key}`);
      box.remove();
      this.keep(track, result.note);
      await this.added(track);
    } catch (error) {
      this._failed(box, error.message);
    }
  }

  _check(file) {
    if (this.about.why_not) throw new Error(`${file.name}: ${this.about.why_not}`);
    const suffix = (/\.[^.]+$/.exec(file.name) || [""])[0].toLowerCase();
    if (!this.about.suffixes.includes(suffix)) {
      throw new Error(`${file.name}: ${suffix || "a name without an ending"} is no kind of music that is read here; try WAV, FLAC, MP3 or Ogg`);
    }
    if (file.size > this.about.most_mb * 1e6) {
      throw new Error(`${file.name}: ${Math.round(file.size / 1e6)} MB, and up to ${this.about.most_mb} MB are taken (embed.dropped_mb)`);
    }
  }

  _failed(box, message) {
    box.replaceChildren(make("p", { className: "bad", role: "alert" }, message),
      make("button", { type: "button", onclick: () => box.remove() }, "Close"));
  }

  /** A line with a button that forgets the song. */
  keep(track, note = "") {
    const line = make("div", { className: "row job" }, make("span", {}, note ? `${track.name} (${note})` : track.name),
      make("button", { type: "button", "aria-label": `Remove ${track.name}`, onclick: async () => {
        try {
          await ask(`/api/songs/${track.key}`, { method: "DELETE" });
          line.remove();
          this.removed(track.key);
        } catch (error) {
          this._failed(line, error.message);
        }
      } }, "Remove"));
    byId("drop-state").append(line);
  }
}
