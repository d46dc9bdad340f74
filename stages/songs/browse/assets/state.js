// What the address holds: songs, filter, place, what is heard and how to match, so that a page can be kept and sent.

const NAMES = ["song", "reference", "q", "folder", "sort", "reversed", "at", "loop", "match", "also",
  "side", "clip", "solo", "mute", "levels", "amount", "keep", "effects"];

export function readState() {
  const found = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(NAMES.map((name) => [name, found.get(name) || ""]));
}

/** Lays values over those of the address. push: a new entry in the history, for another song. */
export function writeState(values, push = false) {
  const now = { ...readState(), ...values };
  const kept = new URLSearchParams(NAMES.filter((name) => now[name]).map((name) => [name, now[name]]));
  const hash = `#${kept}`;
  if (hash === (location.hash || "#")) return;
  history[push ? "pushState" : "replaceState"](null, "", kept.size ? hash : location.pathname);
}
