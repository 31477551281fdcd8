(where, tab, chat, connection, visitor, chats) => {
  // What the page is told when it opens. The address may hold a shared chat; once read it goes, or the next reload would
  // bring that chat back. The past chats are read here because what keeps them (memory.js) may begin later than this.
  const here = location.href;
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  const last = sessionStorage.getItem("sawyer-chat:" + location.pathname) || "";
  try {
    chats = JSON.parse(localStorage.getItem("$MEMORY")) || [];
  } catch {
    chats = [];
  }
  return [here, last, chat, connection, visitor, chats];
}
