// Moments and how a person reads them.

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** How long it is until then: `12 s`, or `4:05 min`; never less than a second. */
export function left(at) {
  const seconds = Math.max(1, Math.ceil((at - Date.now()) / 1000));
  if (seconds < 100) return `${seconds} s`;
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
}
/** How long ago that was, roughly. */
export function ago(time) {
  const minutes = Math.floor((Date.now() - Date.parse(time)) / 60_000);
  if (!(minutes >= 1)) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ago`;
  return new Date(time).toLocaleDateString([], { day: "numeric", month: "short" });
}
export const clockTime = (time) => new Date(time).toLocaleTimeString([], { timeStyle: "short" });
/** The day that a separator names. */
export function dayOf({ createdAt }) {
  const before = (days) => new Date(Date.now() - days * 86_400_000).toDateString();
  const date = new Date(createdAt);
  const day = { [before(0)]: "Today", [before(1)]: "Yesterday" }[date.toDateString()];
  return day ?? date.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
}
