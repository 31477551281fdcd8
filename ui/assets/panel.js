// The script of a page that is one piece of HTML (Gradio hands in `element`, `trigger` and `watch`;
// `panel` is its name). Whatever carries
// `data-act` reports itself when it is pressed, or submitted if it is a form: the act's name and its other data.
const waiting = [];
let under_way = 0; // when the act was sent whose answer is waited for; 0: none
let looked = 0;

function send(act) {
  waiting.push(act);
  next();
}

function next() {
  // An answer that never comes, because the page's own server went away, must not hold up the page for ever.
  if (!waiting.length || (under_way && Date.now() - under_way < 30000)) return;
  under_way = Date.now();
  trigger("act", waiting.shift());
}

window.addEventListener("sw-answered", (event) => {
  if (event.detail !== panel) return;
  under_way = 0;
  next();
});

element.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-act]:not(form)");
  if (!pressed || pressed.matches("[aria-disabled=true], :disabled")) return;
  if (pressed.dataset.confirm && !window.confirm(pressed.dataset.confirm)) return;
  const { confirm, ...act } = pressed.dataset;
  send({ ...act });
});

element.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) return;
  const { confirm, keep, ...act } = form.dataset;
  send({ ...act, ...Object.fromEntries(new FormData(form)) });
});

// Folded parts that the visitor opened stay open when the HTML is drawn anew.
const opened = new Set();
element.addEventListener("click", (event) => {
  const fold = event.target.closest("summary")?.parentElement;
  if (!fold?.dataset.keep) return;
  if (fold.open) opened.delete(fold.dataset.keep);
  else opened.add(fold.dataset.keep);
});
watch("value", () => {
  for (const fold of element.querySelectorAll("details[data-keep]")) fold.open = opened.has(fold.dataset.keep);
});

setInterval(() => {
  const every = Number(element.querySelector("[data-poll]")?.dataset.poll);
  const seen = document.visibilityState === "visible" && element.offsetParent !== null;
  if (!every || !seen || under_way || waiting.length || Date.now() - looked < every) return;
  looked = Date.now();
  send({ act: "poll" });
}, 250);
