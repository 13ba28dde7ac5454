/**
 * @module holdfast/operate
 * For those who operate a service: the HTTP API with the console, its typed client, and the file that says where it runs.
 */
export * from './api.ts'
export * from './client.ts'
export { operate, OPERATE_DEFAULTS, type Console, type OperateOptions, type Operated } from './operate.ts'
export * from './runtime-file.ts'
