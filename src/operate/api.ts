/**
 * What goes over the wire between the operators' API and its clients (CLI, console): names, paths, shapes.
 *
 * Plain JSON; the read model itself is app's (`Status`, `TimelineEntry`), re-exported so that clients need one import.
 */
import type { AuditRow, ConfirmationTicket, Explanation, Holdfast, NamedRunbook, Status } from '../app/index.ts'
import type { Json } from '../core/index.ts'

export type { AlertStatus, AuditRow, CommandImpact, CommandResult, ComponentStatus, DependencyStatus, DoctorCheck, DoctorReport, Explanation, FaultsStatus, FlagStatus, HistoryEntry, NamedRunbook, SagaHistory, Status, Verdict, WorkerStatus, WorkItemStatus } from '../app/index.ts'

/** One line of the timeline. A line that repeats comes again under its id with a raised count. */
export type TimelineEntry = ReturnType<Holdfast['timeline']>[number]

/** Must be on every write: a form or an image of another site cannot set it. */
export const GUARD_HEADER = 'x-holdfast'
/** The CLI says who sits at it: `cli:alice`. Written to the audit as said; the token or the loopback socket is what authorises. */
export const ACTOR_HEADER = 'x-holdfast-actor'
/** The token of `Authorization: Bearer` must be at least this long. */
export const TOKEN_LENGTH_MIN = 32

/** Body of `POST api/commands/:name`. */
export interface CommandBody {
  readonly target: string
  readonly args?: Readonly<Record<string, Json>>
  readonly reason: string
  /** For commands that need one. */
  readonly ticket?: string
}

/** Body of `POST api/previews/:name`; the answer is a `CommandImpact`. */
export type PreviewBody = Omit<CommandBody, 'reason' | 'ticket'>

/** Answer of `POST api/saga-tickets/:saga/:id`; 404 when the run waits for no confirmation. */
export type TicketAnswer = Pick<ConfirmationTicket, 'token' | 'summary'> & { /** Milliseconds since 1970. */ readonly expiresAt: number }

/** A fault that the demo can inject into its simulators. */
export interface DemoFault {
  readonly id: string
  readonly label: string
  /** What will be seen when it is on. */
  readonly hint: string
  readonly active: boolean
}

/** Given by a program that runs with simulators; its presence makes the console show the demo panel. */
export interface DemoControls {
  list(): readonly DemoFault[]
  set(id: string, active: boolean): Promise<void>
}

/** Answer of `GET api/demo/faults`. `demo: false`: there are no simulators here. */
export interface DemoAnswer {
  readonly demo: boolean
  readonly faults: readonly DemoFault[]
}

export interface TimelineAnswer {
  readonly entries: readonly TimelineEntry[]
}

export interface ExplainAnswer {
  readonly id: string
  readonly entries: readonly TimelineEntry[]
}

export interface CommandsAnswer {
  readonly commands: readonly { readonly name: string; readonly summary: string }[]
}

/** Answer of `GET api/dependencies/:name`: what a call costs at worst, as data and in words; 404 with the names there are when there is none. */
export interface DependencyAnswer {
  readonly name: string
  readonly explanation: Explanation
}

/** Answer of `GET api/runbooks`. */
export interface RunbooksAnswer {
  readonly runbooks: readonly NamedRunbook[]
}

/** Answer of `GET api/runbooks/:id`; 404 with the names there are when there is none. */
export interface RunbookAnswer {
  readonly runbook: NamedRunbook
}

/** Answer of `GET api/audit?limit=&before=`: newest first. `before` is the id of the last row that is known. */
export interface AuditAnswer {
  readonly rows: readonly AuditRow[]
}

/** What the event stream carries, by its `event:` field. */
export interface StreamEvents {
  /** Everything, whenever something changed (at most twice a second). */
  readonly status: Status
  /** Nothing changed: the facts shown are of this moment. */
  readonly tick: { readonly at: number }
  /** The newest entries: at the beginning, and when the id to resume from is not known. Replaces what is shown. */
  readonly timeline: TimelineAnswer
  /** One more, or one that is known with a raised count. */
  readonly entry: TimelineEntry
  /** The server goes away; connect again in a moment. */
  readonly bye: { readonly reason: string }
}

