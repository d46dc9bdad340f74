// A job of the server: followed, shown with a bar and what is left of it, stopped by a button. Jobs of this tab are
// remembered, so that a page that is loaded again goes on showing them.

import { ask, make, spoken } from "./dom.js";

const POLL_MS = 500;
const RETRIES = 5;
const KEPT = "mixstyle-jobs";

/** Waits for a job and shows it in a box; its result, or null where it was stopped. Throws what went wrong. */
export async function finished(job, box, kind) {
  let now = job;
  keep([...kept().filter((one) => one.id !== job.id), { id: job.id, kind }]);
  try {
    while (now.state === "waiting" || now.state === "running") {
      show(box, now);
      await new Promise((done) => { setTimeout(done, POLL_MS); });
      now = await state(job.id);
    }
  } finally {
    keep(kept().filter((one) => one.id !== job.id));
  }
  if (now.state === "failed") throw new Error(now.error);
  return now.state === "stopped" ? null : now.result;
}

/** The jobs of this tab that were not done when it was loaded: their state as `kind` began them. */
export async function unfinished(kind) {
  const found = await Promise.all(kept().filter((one) => one.kind === kind).map(({ id }) => ask(`/api/jobs/${id}`).catch(() => null)));
  return found.filter(Boolean);
}

/** What a closed box says of a job that was stopped. */
export function stopped(box, what) {
  box.replaceChildren(make("p", { role: "status" }, `${what}: stopped.`));
}

async function state(id) {
  for (let again = 0; ; again += 1) {
    try {
      return await ask(`/api/jobs/${id}`);
    } catch (error) {
      if (again === RETRIES || error.status) throw error;
      await new Promise((done) => { setTimeout(done, 2 * POLL_MS); }); // a machine that slept, or a server with much to do
    }
  }
}

function show(box, job) {
  if (!box.querySelector("progress")) {
    const stop = make("button", { type: "button", onclick: () => {
      stop.textContent = "Stopping…";
      ask(`/api/jobs/${job.id}`, { method: "DELETE" }).catch((error) => { stop.textContent = "Stop"; stop.title = error.message; });
    } }, "Stop");
    box.replaceChildren(make("p", { role: "status" }), make("progress", { max: 1, "aria-label": "progress of this step" }),
      make("div", { className: "row" }, make("span", { className: "figures soft" }), stop));
  }
  const bar = box.querySelector("progress");
  if (typeof job.done === "number") bar.value = job.done;
  else bar.removeAttribute("value");
  const step = job.step && job.steps > 1 ? `step ${job.step} of ${job.steps}: ` : "";
  const words = `${job.what}: ${step}${job.phase}…`;
  const line = box.querySelector("p");
  if (line.textContent !== words) line.textContent = words; // said once for each step
  box.querySelector("span").textContent = [
    typeof job.done === "number" ? `${Math.round(100 * job.done)}%` : "",
    typeof job.rate === "number" ? `${job.rate.toFixed(1)} x real time` : "",
    typeof job.left_s === "number" ? `about ${spoken(job.left_s)} left of this step` : "",
    job.state === "running" ? `${spoken(job.seconds)} so far` : "",
  ].filter(Boolean).join(", ");
}

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) || [];
  } catch {
    return []; // storage is off
  }
}

function keep(jobs) {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(jobs));
  } catch {
    // storage is off: a page that is loaded again does not show the job
  }
}
