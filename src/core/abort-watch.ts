/**
 * One listener per caller's signal, however many calls share it.
 *
 * Hundreds of calls under one shutdown signal would otherwise add hundreds of listeners (and Node's leak warning).
 * The listener is removed with the last watcher, so a long-lived signal gathers nothing.
 */

/** What is told, at most once, when the signal aborts. */
export interface AbortWatcher {
  aborted(): void
}

interface Watch {
  readonly watchers: Set<AbortWatcher>
  readonly listener: () => void
}

const watches = new WeakMap<AbortSignal, Watch>()

export function watchAbort(signal: AbortSignal, watcher: AbortWatcher): void {
  let watch = watches.get(signal)
  if (watch === undefined) {
    const watchers = new Set<AbortWatcher>()
    watch = {
      watchers,
      listener: () => {
        watches.delete(signal)
        for (const one of [...watchers]) one.aborted()
      },
    }
    watches.set(signal, watch)
    signal.addEventListener('abort', watch.listener, { once: true })
  }
  watch.watchers.add(watcher)
}

export function unwatchAbort(signal: AbortSignal, watcher: AbortWatcher): void {
  const watch = watches.get(signal)
  if (watch === undefined || !watch.watchers.delete(watcher) || watch.watchers.size > 0) return
  signal.removeEventListener('abort', watch.listener)
  watches.delete(signal)
}
