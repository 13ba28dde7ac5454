/**
 * The retry storm from the shell: `npm run sim:storm`.
 */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { messageOf } from 'holdfast/core'
import { storm } from './command.ts'

const picture = resolve('docs/retry-storm.svg')

try {
  process.exitCode = await storm(process.argv.slice(2), {
    out: text => { process.stdout.write(text) },
    say: text => { process.stderr.write(text) },
    picture: existsSync(picture) ? picture : undefined,
  })
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`)
  process.exitCode = 1
}
