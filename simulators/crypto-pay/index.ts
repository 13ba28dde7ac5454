/**
 * @module holdfast-simulators/crypto-pay
 * Crypto Pay (CryptoBot): invoices without an idempotency key, signed webhooks with numbers that repeat.
 */
export * from './crypto-pay-simulator.ts'
export { signatureOf } from './invoice.ts'
