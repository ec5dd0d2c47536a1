// Live parts of a page, changed only where they differ, so that focus, marked text, ticked boxes and opened details
// stay as they are. An htmx extension: hx-ext="calm" hx-swap="calm".

const TEXT = 3;
const ELEMENT = 1;
const OWN = new Set(["open", "checked"]); // what the reader did, which the server knows nothing of

// Make the children of `place` those of `news`. What has an id is found again wherever it went.
export function change(place, news) {
  const focused = document.activeElement;
  const wanted = new Set([...news.children].map((child) => child.id).filter(Boolean));
  const known = new Map();
  for (const child of [...place.children]) {
    if (child.id && wanted.has(child.id)) known.set(child.id, child);
    else if (child.id) child.remove();
  }
  let at = place.firstChild;
  for (const next of [...news.childNodes]) {
    const same = next.id ? known.get(next.id) : alike(at, next) ? at : null;
    if (same) {
      if (same === at) at = at.nextSibling;
      else place.insertBefore(same, at);
      update(same, next);
    } else {
      place.insertBefore(next, at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

function alike(old, next) {
  return old !== null && old.nodeType === next.nodeType && old.nodeName === next.nodeName && !old.id;
}

function update(old, next) {
  if (old.nodeType === TEXT) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  if (old.nodeType !== ELEMENT || old.isEqualNode(next)) return;
  for (const { name } of [...old.attributes]) if (!OWN.has(name) && !next.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of next.attributes) {
    if (!OWN.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  change(old, next);
}

window.htmx.defineExtension("calm", {
  handleSwap(style, target, fragment) {
    if (style !== "calm") return false;
    change(target, fragment);
    return [];
  },
});

// Nobody looks at a hidden page; it catches up when it is seen again.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden) event.preventDefault();
});

// A part that is not up to date says so: an element with data-link beside it.
function tell(live) {
  for (const link of document.querySelectorAll("[data-link]")) link.hidden = live;
}
document.addEventListener("htmx:sendError", () => tell(false));
document.addEventListener("htmx:responseError", () => tell(false));
document.addEventListener("htmx:afterSwap", () => tell(true));
