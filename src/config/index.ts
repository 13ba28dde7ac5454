/**
 * @module holdfast/config
 * Typed settings from the environment: every problem at once, each with its remedy; secrets that do not print.
 *
 * ```ts
 * const settings = config({
 *   BOT_TOKEN: secret({ required: true, minLength: 20, remedy: 'Ask @BotFather for a token' }),
 *   PORT: integer({ default: 8700, min: 1, max: 65_535 }),
 * }, process.env)
 * ```
 */
export { config, type Config, type ConfigOptions, type Described, type Spec, type Values } from './config.ts'
export { Secret } from './secret.ts'
export { choice, duration, flag, integer, list, secret, text, url, type Setting, type SettingOptions } from './settings.ts'
