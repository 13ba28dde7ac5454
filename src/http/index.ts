/**
 * @module holdfast/http
 * Inbound requests: probes, webhooks, bounded bodies, signatures, problem documents, security headers.
 *
 * Everything is `(request: Request, info?) => Promise<Response>`; `holdfast/http/node` puts it on a socket.
 */
export { BODY_LIMIT_DEFAULT, parseJson, readBody, secretMatches } from '../core/index.ts'
export * from './handler.ts'
export { IDEMPOTENCY_DEFAULTS, idempotent, type CallOperation, type IdempotencySource, type IdempotentContext, type WriteOperation } from './idempotency.ts'
export { IDEMPOTENCY_KEY_HEADER, IDEMPOTENCY_KEY_LENGTH_MAX, idempotencyKeyOf } from './idempotency-key.ts'
export * from './headers.ts'
export * from './loopback.ts'
export * from './probes.ts'
export * from './problem.ts'
export * from './signature.ts'
export * from './webhook.ts'
