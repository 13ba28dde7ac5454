/**
 * Waiting that ends: work that hangs (a store, somebody's handler) must not take along whoever waits for it.
 */
import type { Env } from '../core/index.ts'

/** Waits for `work`, at most `ms`. Answers whether it ended; how it ended is `work`'s own business. Never rejects, leaves no timer. */
export async function endsWithin(env: Pick<Env, 'sleep'>, ms: number, work: () => Promise<unknown>): Promise<boolean> {
  let ended = false
  const late = new AbortController()
  // Asynchronous, so that work that throws at once has ended like any other.
  const working = (async () => work())().then(() => { ended = true }, () => { ended = true })
  await Promise.race([working, env.sleep(ms, late.signal)])
  late.abort()
  return ended
}
