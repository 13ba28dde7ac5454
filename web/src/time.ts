/** Times for people: short, and of steady width where they tick. */

/** `48 s`, `4 min`, `2 h 5 min`, `3 d`. */
export function span(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1_000))
  if (s < 60) return `${String(s)} s`
  const min = Math.floor(s / 60)
  if (min < 10 && s % 60 !== 0) return `${String(min)} min ${String(s % 60)} s`
  if (min < 60) return `${String(min)} min`
  const h = Math.floor(min / 60)
  if (h < 24) return min % 60 === 0 ? `${String(h)} h` : `${String(h)} h ${String(min % 60)} min`
  return `${String(Math.floor(h / 24))} d`
}

/** A length that began in the past, rounded so that it does not tick while it is read: `4 min`. */
export function ago(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1_000))
  if (s < 60) return `${String(s)} s`
  const min = Math.floor(s / 60)
  if (min < 60) return `${String(min)} min`
  const h = Math.floor(min / 60)
  return h < 48 ? `${String(h)} h` : `${String(Math.floor(h / 24))} d`
}

export function clock(at: number): string {
  return new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })
}

export function moment(at: number): string {
  return new Date(at).toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium' })
}
