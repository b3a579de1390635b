// What this browser keeps: `localStorage` for the person, `sessionStorage` for the tab.
// It may be full or forbidden; then the page still works, it only forgets.

export function load(storage, key, other) {
  try { return JSON.parse(window[storage].getItem(key)) ?? other; } catch { return other; }
}
export function save(storage, key, value) {
  try { window[storage].setItem(key, JSON.stringify(value)); } catch { /* forgets */ }
}
