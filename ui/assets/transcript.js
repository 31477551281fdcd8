// Runs once for the transcript (Gradio hands in `element`, `trigger` and `watch`). This tab remembers which chat it
// shows, so that a reload brings it back. A new question is brought to the top of the
// window, and kept there while the three answers below it grow, until the visitor scrolls.
let asked = 0;
let following = false;

function follow() {
  const current = element.querySelector(".sw-current");
  if (following && current) current.scrollIntoView({ block: "start" });
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button && !button.disabled) trigger("click", { ...button.dataset });
});

watch("value", () => {
  const shown = element.querySelector("[data-chat]");
  if (shown) sessionStorage.setItem("sawyer-chat:" + location.pathname, shown.dataset.chat);
  const count = element.querySelectorAll(".sw-question").length;
  if (count > asked) following = true;
  asked = count;
  follow();
});

for (const gesture of ["wheel", "touchmove", "keydown", "pointerdown"]) {
  window.addEventListener(gesture, () => { following = false; }, { passive: true });
}

const panes = document.querySelector("#sw-panes");
if (panes) new ResizeObserver(follow).observe(panes);
