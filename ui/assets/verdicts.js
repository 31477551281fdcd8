// Runs once for the line of verdicts: its buttons, and the keys of all buttons that name one.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button && !button.disabled) trigger(button.dataset.via === "stream" ? "submit" : "click", { ...button.dataset });
});

function typing() {
  const at = document.activeElement;
  return at && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing()) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector("#sw-box textarea")?.focus();
    return;
  }
  const key = event.key.toLowerCase();
  if (!/^[a-z0-9]$/.test(key)) return;
  const button = document.querySelector(`button[data-key="${key}"]:not(:disabled)`);
  if (button && button.offsetParent) {
    event.preventDefault();
    button.click();
  }
});

// Once there is something to vote on, an empty text box gives the keys free.
watch("value", () => {
  const ready = element.querySelector('[data-ready="true"]');
  const box = document.querySelector("#sw-box textarea");
  if (ready && box && document.activeElement === box && !box.value) ready.focus({ preventScroll: true });
});
