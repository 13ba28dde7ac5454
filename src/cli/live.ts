/**
 * Commands that stay: `status --watch` and `events --follow`. They survive a restart of the service and end with Ctrl-C.
 */
import { isHoldfastError } from '../core/index.ts'
import type { OperatorClient, Status, StreamMessage, TimelineEntry } from '../operate/index.ts'
import type { Io } from './io.ts'
import { renderEntry, renderStatus } from './render.ts'

/** A service that restarts is back within this; one that is not is gone, and that is an answer too. */
const RECONNECTS_MAX = 30
const RECONNECT_MS = 1_000

/** Shows the status whenever it changes. Answers the state that was shown last. */
export async function watchStatus(io: Io, client: OperatorClient, json: boolean): Promise<Status['verdict']['state'] | undefined> {
  let last: Status | undefined
  for await (const message of follow(io, client)) {
    if (message.event !== 'status') continue
    last = message.data
    if (json) io.out(JSON.stringify(last))
    // Home and clear, so that the page stands still instead of scrolling.
    else io.out(`${io.terminal ? '\u001b[H\u001b[2J' : ''}${renderStatus(io, last)}${io.terminal ? '' : '\n'}`)
  }
  return last?.verdict.state
}

/** The last `limit` entries, then each new one; with `json`, one per line. */
export async function followEvents(io: Io, client: OperatorClient, options: { readonly json: boolean; readonly limit: number }): Promise<void> {
  let last = ''
  const show = (entry: TimelineEntry): void => {
    // The entry that we had comes again when we connect again; a line that repeats is shown at 1, 10, 100 times.
    const version = `${entry.id} ${String(entry.count)}`
    if (version === last || (!options.json && !/^10*$/.test(String(entry.count)))) return
    last = version
    io.out(options.json ? JSON.stringify(entry) : renderEntry(io, entry))
  }
  for await (const message of follow(io, client)) {
    if (message.event === 'timeline') message.data.entries.slice(-options.limit).forEach(entry => { io.out(options.json ? JSON.stringify(entry) : renderEntry(io, entry)) })
    else if (message.event === 'entry') show(message.data)
  }
}

/** @throws HF_SERVICE_UNREACHABLE at once when it never answered, else after 30 tries; HF_UNAUTHENTICATED */
async function* follow(io: Io, client: OperatorClient): AsyncGenerator<StreamMessage, void, undefined> {
  let after: string | undefined
  let answered = false
  let failures = 0
  while (!io.signal.aborted) {
    try {
      for await (const message of client.follow({ signal: io.signal, ...(after === undefined ? {} : { after }) })) {
        answered = true
        failures = 0
        after = message.id ?? after
        yield message
      }
    } catch (error) {
      failures += 1
      if (io.signal.aborted) return
      if (!answered || failures > RECONNECTS_MAX || !isHoldfastError(error) || error.code !== 'HF_SERVICE_UNREACHABLE') throw error
    }
    if (io.signal.aborted) return
    io.err('(the service went away; trying again)')
    await io.env.sleep(RECONNECT_MS, io.signal)
  }
}
