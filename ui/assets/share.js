// Runs once for the share menu. The link is made in Python; its beginning is known to the browser alone.
element.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-link]");
  if (!button) return;
  const link = location.origin + location.pathname + button.dataset.link;
  const field = element.querySelector("input");
  field.hidden = false;
  field.value = link;
  field.select();
  // The clipboard is open to pages served by https or from this computer; elsewhere the selected link can be copied.
  if (navigator.clipboard) await navigator.clipboard.writeText(link).catch(() => document.execCommand("copy"));
  else document.execCommand("copy");
  const label = button.querySelector("span"), before = label.textContent;
  label.textContent = button.dataset.copied;
  setTimeout(() => { label.textContent = before; }, 2000);
});
