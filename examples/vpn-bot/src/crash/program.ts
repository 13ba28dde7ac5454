/**
 * The program under test as the rig sees it: a child process that is started, told things, dies, and is started again.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Env } from 'holdfast/core'
import type { ChildSettings, FromChild, Look, ToChild } from './protocol.ts'

export interface Program {
  readonly pid: number
  /** Points that it passed, in order. */
  readonly points: readonly string[]
  /** Warnings and errors that it logged. */
  readonly log: readonly string[]
  readonly readyAfterMs: number
  /** Undefined while it runs; the signal or exit code that ended it. */
  readonly ended: string | undefined
  /** Resolves when it has ended. */
  readonly gone: Promise<string>
  tell(message: ToChild): void
  /** Undefined when it died or did not answer in time. */
  look(): Promise<Look | undefined>
  /** SIGKILL, unless it has ended; resolves when it is gone. */
  kill(): Promise<void>
}

const READY_WITHIN_MS = 30_000
const LOOK_WITHIN_MS = 5_000

/** Built, not from the sources: it starts in a third of the time. */
const CHILD = fileURLToPath(new URL('../../dist/crash/child.js', import.meta.url))

/** Resolves when it is ready. @throws Error with what it said when it ended before, or was not ready in time */
export async function startProgram(env: Env, settings: ChildSettings): Promise<Program> {
  const child = fork(CHILD, [JSON.stringify(settings)], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [], env: { ...process.env, NODE_OPTIONS: '' } })
  const points: string[] = []
  const log: string[] = []
  const looks = new Map<number, (look: Look) => void>()
  let stderr = ''
  let ended: string | undefined
  let lastLook = 0
  child.stderr?.on('data', (chunk: Buffer) => { stderr = `${stderr}${chunk.toString()}`.slice(-4_000) })
  // A message to a child that has just died; its end is told by 'exit'.
  child.on('error', () => undefined)
  const gone = new Promise<string>(resolve => {
    child.once('exit', (code, signal) => {
      ended = signal ?? `exit ${String(code)}`
      resolve(ended)
    })
  })
  const ready = new Promise<number>(resolve => {
    child.on('message', (message: FromChild) => {
      if (message.type === 'ready') resolve(message.tookMs)
      else if (message.type === 'point') points.push(message.name)
      else if (message.type === 'log') log.push(`${message.level}: ${message.message}`)
      else looks.get(message.id)?.(message)
    })
  })
  const patience = new AbortController()
  const readyAfterMs = await Promise.race([ready, gone.then(how => new Error(`the program ended (${how}) before it was ready: ${stderr}`)), env.sleep(READY_WITHIN_MS, patience.signal).then(() => new Error(`the program was not ready within ${String(READY_WITHIN_MS)} ms: ${stderr}`))])
  patience.abort()
  if (readyAfterMs instanceof Error) {
    await kill(child, gone)
    throw readyAfterMs
  }
  const tell = (message: ToChild): void => { if (child.connected) child.send(message, () => undefined) }
  return {
    pid: child.pid ?? 0, points, log, readyAfterMs, gone, tell,
    get ended() {
      return ended
    },
    async look() {
      lastLook += 1
      const id = lastLook
      const waiting = new AbortController()
      const answer = new Promise<Look>(resolve => { looks.set(id, resolve) })
      tell({ type: 'look', id })
      const found = await Promise.race([answer, gone.then(() => undefined), env.sleep(LOOK_WITHIN_MS, waiting.signal).then(() => undefined)])
      waiting.abort()
      looks.delete(id)
      return found
    },
    kill: () => kill(child, gone),
  }
}

async function kill(child: ChildProcess, gone: Promise<string>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  await gone
}
