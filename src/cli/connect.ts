/**
 * Which service is meant, and how to speak to it: --url, HOLDFAST_URL, or the `holdfast.json` of a data directory.
 */
import { isAbsolute, join } from 'node:path'
import { HoldfastError } from '../core/index.ts'
import { operatorClient, readRuntimeFile, RUNTIME_FILE, type OperatorClient } from '../operate/index.ts'
import type { Io } from './io.ts'

/** Options that every command takes. */
export interface GlobalOptions {
  readonly url?: string
  readonly token?: string
  readonly data?: string
  readonly json?: boolean
}

/** The service that is meant, and where we learnt of it: the two make the sentence when it does not answer. */
export interface Connection {
  readonly client: OperatorClient
  readonly found: string
}

/** @throws HF_SERVICE_UNREACHABLE when nothing says where a service is, HF_OPTION_INVALID for a URL that is none */
export function connect(io: Io, options: GlobalOptions): Connection {
  const given = options.url ?? io.environment['HOLDFAST_URL']
  const token = options.token ?? io.environment['HOLDFAST_TOKEN']
  const make = (url: string, secret: string | undefined): OperatorClient =>
    operatorClient({ url: consoleUrl(url), env: io.env, actor: `cli:${io.user.replace(/[^\w.@-]/g, '_').slice(0, 60)}`, ...(secret === undefined || secret === '' ? {} : { token: secret }) })
  if (given !== undefined && given !== '') return { client: make(given, token), found: options.url === undefined ? 'HOLDFAST_URL' : '--url' }

  const named = options.data ?? io.environment['HOLDFAST_DATA'] ?? 'data'
  const dir = isAbsolute(named) ? named : join(io.cwd, named)
  const runtime = readRuntimeFile(dir)
  if (runtime === undefined) {
    throw new HoldfastError('HF_SERVICE_UNREACHABLE', {
      message: `no service runs here: there is no ${RUNTIME_FILE} in ${dir}. Start it, or say where it is with --url, HOLDFAST_URL or --data <dir>`,
      context: { dir },
    })
  }
  return { client: make(runtime.url, token ?? runtime.token), found: `${join(dir, RUNTIME_FILE)}, pid ${String(runtime.pid)}` }
}

/** People give the address of the service; the API lies below the console. */
function consoleUrl(given: string): string {
  if (!URL.canParse(given) || !/^https?:/.test(given)) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `expected a URL such as http://127.0.0.1:8700, got ${JSON.stringify(given)}`, context: { option: 'url' } })
  }
  const url = new URL(given)
  return `${url.origin}${url.pathname === '/' ? '/console' : url.pathname}`
}
