/**
 * A run's handle on its PostgreSQL (./server.ts): where it is, and how it is crashed.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { ServerReply } from './server.ts'

export interface RunServer {
  readonly url: string
  /** `pg_ctl stop -m immediate`, then a start with crash recovery. Resolves when it takes connections again. */
  crash(): Promise<void>
  close(): Promise<void>
}

export async function startServer(): Promise<RunServer> {
  const child = fork(fileURLToPath(new URL('server.ts', import.meta.url)), [], { execArgv: ['--import', 'tsx', '--conditions=holdfast-source'], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const gone = new Promise<void>(resolve => { child.once('exit', () => { resolve() }) })
  const reply = (): Promise<ServerReply> => new Promise((resolve, reject) => {
    child.once('message', (message: ServerReply) => { resolve(message) })
    void gone.then(() => { reject(new Error('the process that holds the PostgreSQL has ended')) })
  })
  const { url } = await reply()
  if (url === undefined) throw new Error('the PostgreSQL of the run did not start')
  return {
    url,
    crash: async () => {
      const answered = reply()
      child.send('restart')
      const { failed } = await answered
      if (failed !== undefined) throw new Error(failed)
    },
    close: async () => {
      if (child.connected) child.send('stop')
      await gone
    },
  }
}
