// Runs once for the past chats, a list that all tabs of this browser share under the name `props.memory`. Python sends
// what changed, which is put into the list as it is then: meanwhile another tab may have kept a chat of its own.

function kept() {
  try {
    const chats = JSON.parse(localStorage.getItem(props.memory));
    return Array.isArray(chats) ? chats : [];
  } catch {
    return [];
  }
}

function keep(chats) {
  // A browser's memory has an end, too: the oldest ones make room.
  for (let number = Math.min(chats.length, props.most); number >= 0; number--) {
    try {
      localStorage.setItem(props.memory, JSON.stringify(chats.slice(0, number)));
      return;
    } catch {
      continue;
    }
  }
}

// While answers stream, each message repeats what the ones before it changed.
let done = "";

watch("value", () => {
  const { put, forget } = props.value;
  if (!put) return;
  const change = JSON.stringify(props.value);
  if (change === done) {
    props.value = kept();
    return;
  }
  done = change;
  const gone = new Set([...forget, ...put.map((chat) => chat.id)]);
  keep([...put, ...kept().filter((chat) => !gone.has(chat.id))]);
  props.value = kept();
});

window.addEventListener("storage", (event) => {
  if (event.key !== props.memory) return;
  props.value = kept();
  trigger("input");
});

props.value = kept();
