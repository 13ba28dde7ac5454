/**
 * The process that is killed as its parent sees it: a message after the other, and at some point its death.
 */
import { fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import type { FromProcess, ToProcess } from './protocol.ts'

export interface Gone {
  readonly type: 'gone'
  /** Signal or exit code. */
  readonly how: string
  readonly stderr: string
}

export interface Program {
  tell(message: ToProcess): void
  /** What it says next; for ever that it has gone, once it has. `silent` where it says nothing for so long. */
  next(withinMs: number): Promise<FromProcess | Gone | { readonly type: 'silent' }>
  /** SIGKILL from outside, unless it has gone; resolves when it has. */
  kill(): Promise<void>
}

/** Starts loading at once, and waits to be told what to open. */
export function startProgram(script: string): Program {
  // Dates in rows survive the structured clone.
  const child = fork(script, [], { serialization: 'advanced', stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [], env: { ...process.env, NODE_OPTIONS: '' } })
  const queue: FromProcess[] = []
  const news = new EventEmitter()
  let stderr = ''
  let gone: Gone | undefined
  child.stderr?.on('data', (chunk: Buffer) => { stderr = `${stderr}${chunk.toString()}`.slice(-4_000) })
  // A message to one that has just died; its end is told by 'exit'.
  child.on('error', () => undefined)
  child.on('message', (message: FromProcess) => {
    queue.push(message)
    news.emit('news')
  })
  // After 'exit' messages may still be on their way; 'close' comes when the channel has been read to its end.
  child.once('close', (code, signal) => {
    gone = { type: 'gone', how: signal ?? `exit ${String(code)}`, stderr }
    news.emit('news')
  })
  return {
    tell: message => { if (child.connected) child.send(message, () => undefined) },
    next: async withinMs => {
      const patience = AbortSignal.timeout(withinMs)
      for (;;) {
        const message = queue.shift() ?? gone
        if (message !== undefined) return message
        try {
          await once(news, 'news', { signal: patience })
        } catch {
          return { type: 'silent' }
        }
      }
    },
    kill: async () => {
      child.kill('SIGKILL')
      while (gone === undefined) await once(news, 'news')
    },
  }
}
