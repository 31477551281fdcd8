// Runs once for the transcript (Gradio hands in `element` and `watch`). A new question is brought to the top of the
// window, and kept there while the three answers below it grow, until the visitor scrolls.
let asked = 0;
let following = false;

function follow() {
  const current = element.querySelector(".sw-current");
  if (following && current) current.scrollIntoView({ block: "start" });
}

watch("value", () => {
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
