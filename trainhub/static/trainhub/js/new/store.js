// The draft of this tab, kept over reloads. Each way to start has a draft of its own.

const KEY = `trainhub-new ${location.pathname}${location.search}`;

export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null; // a browser without storage, or a draft of an older page
  }
}

export function keep(draft) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(draft));
  } catch {
    // it holds until the page is left
  }
}

export function forget() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // there was nothing
  }
}
