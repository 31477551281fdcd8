// The reviewer's hands: the key of this tab, selecting, and deciding by key. What is selected lives here alone.
const KEPT = "sawyer-admin-key";
const selected = new Set();
let offered = sessionStorage.getItem(KEPT); // the key that was sent last; kept once it has opened the door
let saved = 0;
let place = 0; // which vote is being read

if (offered) send({ act: "enter", key: offered });

element.addEventListener("submit", (event) => {
  if (event.target.dataset.act === "enter") offered = new FormData(event.target).get("key");
}, true);

const votes = () => [...element.querySelectorAll(".rv-item")];

function count() {
  element.querySelectorAll("[data-select]").forEach((box) => { box.checked = selected.has(box.dataset.select); });
  const counter = element.querySelector(".rv-count");
  if (counter) counter.textContent = selected.size;
  const all = element.querySelector("[data-all]");
  if (all) all.checked = selected.size > 0 && selected.size === votes().length;
  element.querySelectorAll("[data-bulk]").forEach((button) => { button.disabled = selected.size === 0; });
}

function read(at) {
  const list = votes();
  if (!list.length) return;
  place = Math.min(Math.max(at, 0), list.length - 1);
  list[place].focus({ preventScroll: true });
  list[place].scrollIntoView({ block: "nearest" });
}

function decide(state, ids) {
  const note = element.querySelector(".rv-note");
  send({ act: "decide", state, ids: ids.join("\n"), note: note ? note.value : "" });
  if (note) note.value = "";
  selected.clear();
  count();
}

element.addEventListener("change", (event) => {
  const box = event.target;
  if (box.dataset.select) selected[box.checked ? "add" : "delete"](box.dataset.select);
  else if ("all" in box.dataset) for (const vote of votes()) selected[box.checked ? "add" : "delete"](vote.dataset.vote);
  count();
});

element.addEventListener("click", (event) => {
  const many = event.target.closest("[data-bulk]");
  if (many && !many.disabled) decide(many.dataset.bulk, [...selected]);
  const pressed = event.target.closest("[data-act]");
  if (pressed?.dataset.act === "leave") { offered = null; sessionStorage.removeItem(KEPT); }
});

// The next table may be drawn into the element of this one, which remembers how far it was scrolled.
element.addEventListener("click", (event) => {
  if (!event.target.closest("[data-act=open], [data-act=show]")) return;
  for (const table of element.querySelectorAll(".bd-scroll")) table.scrollLeft = 0;
});

element.addEventListener("focusin", (event) => {
  const at = votes().indexOf(event.target.closest(".rv-item"));
  if (at >= 0) place = at;
});

const STATES = { a: "approved", r: "rejected", f: "flagged" };
window.addEventListener("keydown", (event) => {
  const writing = event.target.matches?.("input:not([type=checkbox]), textarea, select");
  if (writing || event.ctrlKey || event.metaKey || event.altKey || !votes().length) return;
  const reading = votes().indexOf(document.activeElement?.closest?.(".rv-item"));
  const key = event.key.toLowerCase();
  if (key === "j") read(reading < 0 ? place : reading + 1);
  else if (key === "k") read(reading < 0 ? place : reading - 1);
  else if (key === "x" && reading >= 0) {
    const id = votes()[reading].dataset.vote;
    selected[selected.has(id) ? "delete" : "add"](id);
    count();
  } else if (STATES[key] && selected.size) decide(STATES[key], [...selected]);
  else if (STATES[key] && reading >= 0) {
    decide(STATES[key], [votes()[reading].dataset.vote]);
    read(reading + 1);
  } else return;
  event.preventDefault();
});

watch("value", () => {
  const here = new Set(votes().map((vote) => vote.dataset.vote));
  for (const id of selected) if (!here.has(id)) selected.delete(id);
  count();
  if (element.querySelector("[data-inside]")) {
    if (offered) sessionStorage.setItem(KEPT, offered);
  } else sessionStorage.removeItem(KEPT);
  const file = element.querySelector("[data-file]");
  if (!file || Number(file.dataset.serial) === saved) return;
  saved = Number(file.dataset.serial);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([file.textContent], { type: "application/jsonl" }));
  link.download = file.dataset.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});
