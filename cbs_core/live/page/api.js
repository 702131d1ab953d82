// The server's HTTP API. Changes of the look go one at a time, and the newest wins.

let feed = "main";
let pending = null;
let flying = false;
let touched = 0;

export const setFeed = (name) => { feed = name; };
export const getFeed = () => feed;

export function address(path, more = {}) {
  const query = new URLSearchParams({ feed, ...more });
  return `v1/${path}?${query}`;
}

export async function ask(path, method = "GET", body = undefined) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const answer = await fetch(address(path), { method, headers, body: body && JSON.stringify(body) });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.error ?? `the server answered ${answer.status}`);
  return told;
}

/** Whether what the server tells of the look may be older than what was just said. */
export const settling = () => flying || pending !== null || performance.now() - touched < 700;

export async function change(look, failed) {
  touched = performance.now();
  pending = merged(pending, look);
  if (flying) return;
  flying = true;
  try {
    while (pending) {
      const now = pending;
      pending = null;
      await ask("look", "PATCH", now);
    }
  } catch (error) {
    pending = null;
    failed(error);
  } finally {
    flying = false;
    touched = performance.now();
  }
}

function merged(old, look) {
  if (!old) return look;
  const routes = { ...old.routes };
  for (const [name, paint] of Object.entries(look.routes ?? {})) {
    routes[name] = paint && routes[name] ? { ...routes[name], ...paint } : paint;
  }
  const all = { ...old, ...look };
  return Object.keys(routes).length ? { ...all, routes } : all;
}
