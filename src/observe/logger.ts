/**
 * Where log lines go: pino, or any logger of its shape.
 *
 * The wrapper redacts before it hands on, so that whichever logger is given never sees a secret.
 * pino is loaded when it is used: who brings a logger neither waits for it nor needs it installed.
 */
import { createRequire } from 'node:module'
import type { pino as Pino } from 'pino'
import type { Redactor } from './redact.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** The four methods of pino that are used. */
export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** JSON lines on standard output, one per event, with time in ISO 8601 and the level as a word. */
export function pinoLogger(options: { readonly service: string; readonly instance: string; readonly level?: LogLevel }): Logger {
  const { pino } = createRequire(import.meta.url)('pino') as { readonly pino: typeof Pino }
  return pino({
    level: options.level ?? 'info',
    base: { service: options.service, instance: options.instance },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: label => ({ level: label }) },
    messageKey: 'message',
  })
}

/** A logger that writes nothing. */
export const SILENT: Logger = Object.freeze({ debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined })

/** The same logger, which never gets to see a secret, and never throws into the program. */
export function redacting(logger: Logger, redact: Redactor): Logger {
  const through = (level: LogLevel) => (fields: object, message: string): void => {
    try {
      logger[level](redact.value(fields) as object, redact.text(message))
    } catch {
      // A log that cannot be written must not stop what it was about.
    }
  }
  return { debug: through('debug'), info: through('info'), warn: through('warn'), error: through('error') }
}
