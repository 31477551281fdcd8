// Runs once for the head of each page: presenter mode, remembered by this browser, and menus that close by themselves.
const root = document.documentElement;
const remembered = "sawyer-presenter";

function present(on) {
  root.classList.toggle("sw-presenter", on);
  for (const button of element.querySelectorAll("[data-presenter]")) button.setAttribute("aria-pressed", String(on));
}

function presenting() {
  return localStorage.getItem(remembered) === "on";
}

element.addEventListener("click", (event) => {
  if (!event.target.closest("[data-presenter]")) return;
  localStorage.setItem(remembered, presenting() ? "off" : "on");
  present(presenting());
});
watch("value", () => present(presenting()));
present(presenting());
root.lang = "en";

function closeMenus(except) {
  for (const menu of document.querySelectorAll("details.sw-menu[open]")) if (menu !== except) menu.removeAttribute("open");
}

document.addEventListener("click", (event) => closeMenus(event.target.closest("details.sw-menu")));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeMenus(null); });
