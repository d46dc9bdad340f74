// Keys that work wherever the focus is, but for where text is written. They can be switched off.

import { byId, make } from "./dom.js";
import { STEMS } from "./player.js";

const TOLD = [
  ["Space", "play or pause"], ["A, B, C", "hear that side; X the next one"], ["← →", "back or forward by a second, with Shift five"],
  ["1 to 4", "solo vocals, bass, drums, other; with Shift mute"], ["0", "back to the mix"],
  ["L", "loop on or off; [ and ] set its ends"], ["H", "the next heard seconds"], ["E", "equal loudness on or off"], ["/", "to the search"],
];

export function bindKeys(player) {
  byId("keys").querySelector("dl").replaceChildren(...TOLD.flatMap(([key, what]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)]));
  const does = {
    a: () => player.choose(0), b: () => player.choose(1), c: () => player.choose(2),
    x: () => player.choose((player.side + 1) % Math.max(1, player.sides.length)),
    l: () => player.toggleLoop(), "[": () => player.loopEnd("first"), "]": () => player.loopEnd("last"),
    h: () => player.chooseClip((player.clip + 1) % Math.max(1, player.sides[0]?.audio.heard.length || 0)),
    e: () => player.setEqual(!player.equal), 0: () => player.wholeMix(),
  };
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || !byId("keys-on").checked) return;
    if (target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=file])")) return;
    if (event.key === "/") byId("query").focus();
    else if (!player.sides.length || player.stale) return;
    else if (event.key === " " && !target.matches("button, summary, input, a")) player.playOrPause();
    else if (/^Digit[1-4]$/.test(event.code)) player.toggle(event.shiftKey ? "mute" : "solo", STEMS[Number(event.code[5]) - 1]);
    else if (event.key === "ArrowLeft" && !target.matches("[role]")) player.move(event.shiftKey ? -5 : -1);
    else if (event.key === "ArrowRight" && !target.matches("[role]")) player.move(event.shiftKey ? 5 : 1);
    else if (event.key.toLowerCase() in does) does[event.key.toLowerCase()]();
    else return;
    event.preventDefault();
  });
}
