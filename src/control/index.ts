/**
 * @module holdfast/control
 * What a human may change while the service runs: switches, irreversible actions by ticket, operators' commands, the audit
 * that keeps them, and degradation marks.
 */
export { AUDIT_WAITING_MAX, auditLog, type Audit, type AuditEntry, type AuditRow } from './audit/audit.ts'
export { commands, type CommandArgs, type CommandBus, type CommandCall, type CommandOptions, type CommandPorts, type CommandPreview, type CommandRequest, type CommandResult, type UndoCommand } from './commands.ts'
export { degradation, type Degradation, type DegradationMark } from './degradation.ts'
export { FLAG_DEFAULTS, flagBoard, flags, type FlagBoard, type FlagBoardOptions, type FlagChange, type FlagChangeOptions } from './flags/board.ts'
export { environmentName, type Flag, type FlagOptions, type Flags, type FlagStatus } from './flags/flag.ts'
export type { OverrideChange, OverridePort, StoredOverride } from './flags/override.ts'
export { storedOverrides } from './flags/stored-overrides.ts'
export { irreversible, type Irreversible, type IrreversibleOptions } from './irreversible/irreversible.ts'
export { TICKET_DEFAULTS, ticketDesk, type Redeemed, type Ticket, type TicketDesk, type TicketRequest } from './irreversible/tickets.ts'
export type { StoreKit } from './kit.ts'
export { controlMigrations } from './migrations.ts'
