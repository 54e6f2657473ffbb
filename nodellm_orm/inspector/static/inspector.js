// Local times as tooltips, the turn that was asked for, and three keys. Everything works without this.
"use strict";

for (const time of document.querySelectorAll("time[datetime]")) {
  const moment = new Date(time.dateTime);
  if (!Number.isNaN(moment.getTime())) time.title = `${moment.toLocaleString()} here`;
}

const wanted = document.getElementById(`turn-${new URLSearchParams(location.search).get("turn")}`);
if (wanted) { wanted.scrollIntoView(); wanted.focus({ preventScroll: true }); }

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, button");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    const field = document.querySelector("[data-first]");
    if (field) { event.preventDefault(); field.focus(); }
  } else if (event.key === "j" || event.key === "k") {
    const turns = [...document.querySelectorAll(".turn")];
    const top = (turn) => turn.getBoundingClientRect().top;
    const next = event.key === "j"
      ? turns.find((turn) => top(turn) > 20)
      : turns.reverse().find((turn) => top(turn) < -20);
    if (next) { next.scrollIntoView(); next.focus({ preventScroll: true }); }
  }
});
