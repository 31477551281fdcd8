// Runs once for each part that has buttons of its own (Gradio hands in `element` and `trigger`).
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button && !button.disabled) trigger(button.dataset.via === "stream" ? "submit" : "click", { ...button.dataset });
});
