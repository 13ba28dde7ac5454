/**
 * Simulators from the shell: `npm run sim -- telegram --port 8081`. Loopback only.
 */
import { parseArgs } from 'node:util'
import { isHoldfastError, messageOf, realEnv } from 'holdfast/core'
import { cryptoPaySimulator } from './crypto-pay/index.ts'
import { listen, type Simulator } from './kit/index.ts'
import { telegramSimulator } from './telegram/index.ts'
import { vpnPanelSimulator } from './vpn-panel/index.ts'

interface Settings {
  readonly seed: number
  readonly webhook: string | undefined
  readonly token: string | undefined
}

interface Made {
  readonly simulator: Simulator
  /** How a client is pointed at it. */
  readonly use: (url: string) => readonly string[]
}

const env = realEnv()

const SIMULATORS: Readonly<Record<string, { readonly port: number; readonly about: string; readonly make: (settings: Settings) => Made }>> = {
  'telegram': {
    port: 8081, about: 'the Bot API, with customers that press buttons and pay',
    make: ({ seed, webhook, token }) => {
      const simulator = telegramSimulator({ env, seed, ...(token === undefined ? {} : { token }) })
      if (webhook !== undefined) simulator.setWebhook(webhook)
      return { simulator, use: url => [`apiRoot    ${url}`, `bot token  ${simulator.token}`, ...(webhook === undefined ? [] : [`webhook    ${webhook} (no secret; the bot may call setWebhook itself)`])] }
    },
  },
  'crypto-pay': {
    port: 8082, about: 'invoices in crypto, with signed webhooks',
    make: ({ seed, webhook, token }) => {
      const simulator = cryptoPaySimulator({ env, seed, ...(token === undefined ? {} : { token }), ...(webhook === undefined ? {} : { webhookUrl: webhook }) })
      return { simulator, use: url => [`API        ${url}/api/<method>`, `token      ${simulator.token}   (header Crypto-Pay-API-Token)`] }
    },
  },
  'vpn-panel': {
    port: 8083, about: 'users and keys, Marzban style (a name that exists is 409)',
    make: ({ seed, token }) => {
      const simulator = vpnPanelSimulator({ env, seed, ...(token === undefined ? {} : { token }) })
      return { simulator, use: url => [`API        ${url}/api/user`, `token      ${simulator.token}   (Authorization: Bearer ...)`] }
    },
  },
}

const HELP = `Usage: npm run sim -- <name> [options]

${Object.entries(SIMULATORS).map(([name, { about, port }]) => `  ${name.padEnd(12)}${about} (port ${String(port)})`).join('\n')}

Options:
  --port <n>       0 takes any free one
  --seed <n>       the same seed answers the same (default 1)
  --webhook <url>  where it reports to
  --token <text>   what it accepts instead of its own
  --help
`

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { port: { type: 'string' }, seed: { type: 'string' }, webhook: { type: 'string' }, token: { type: 'string' }, help: { type: 'boolean' } },
  })
  const [name] = positionals
  if (values.help === true || name === undefined) {
    console.log(HELP)
    return values.help === true ? 0 : 2
  }
  const choice = SIMULATORS[name]
  if (choice === undefined) return complain(`there is no simulator "${name}"; there are: ${Object.keys(SIMULATORS).join(', ')}`)
  const port = numberOf(values.port, choice.port, 65_535)
  const seed = numberOf(values.seed, 1, 0xffffffff)
  if (port === undefined) return complain(`--port: expected 0 to 65535, got ${JSON.stringify(values.port)}`)
  if (seed === undefined) return complain(`--seed: expected a whole number from 0, got ${JSON.stringify(values.seed)}`)
  if (values.webhook !== undefined && !/^https?:\/\/./.test(values.webhook)) return complain(`--webhook: expected http://... or https://..., got ${JSON.stringify(values.webhook)}`)
  const { simulator, use } = choice.make({ seed, webhook: values.webhook, token: values.token })
  const server = await listen(simulator, { port })
  console.log([
    `${name} simulator on ${server.url}`, ...use(server.url).map(line => `  ${line}`), '',
    'Break it, look, mend it:',
    `  curl -fsS -X POST ${server.url}/__sim/faults -d '{"match":{"probability":0.3},"fault":{"kind":"apply-then-drop"}}'`,
    `  curl -fsS ${server.url}/__sim/ledger`,
    `  curl -fsS -X DELETE ${server.url}/__sim/faults`,
    `Everything else: curl -fsS ${server.url}/__sim/help`,
  ].join('\n'))
  await new Promise<void>(resolve => {
    process.once('SIGINT', resolve)
    process.once('SIGTERM', resolve)
  })
  simulator.stop()
  await server.close()
  return 0
}

function numberOf(text: string | undefined, otherwise: number, max: number): number | undefined {
  if (text === undefined) return otherwise
  const value = Number(text)
  return Number.isInteger(value) && value >= 0 && value <= max && text.trim() !== '' ? value : undefined
}

function complain(sentence: string): number {
  console.error(sentence)
  return 2
}

try {
  process.exitCode = await main()
} catch (error) {
  // A port in use, an unknown option, a bad token: one sentence. Anything else is our own defect, with its stack.
  const expected = isHoldfastError(error) || (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'))
  console.error(expected ? messageOf(error) : error)
  process.exitCode = isHoldfastError(error) && error.code === 'HF_PORT_IN_USE' ? 1 : 2
}
