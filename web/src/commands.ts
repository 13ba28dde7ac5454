/**
 * What the page asks the service to do. Every command goes through one dialog that asks why.
 */
import { signal } from '@preact/signals'
import type { CommandResult, DemoFault, DependencyAnswer, NamedRunbook, RunbookAnswer, TimelineEntry } from '../../src/operate/api.ts'
import { faults, notice } from './store.ts'

/** A command that waits for its reason. */
export interface Question {
  readonly title: string
  /** What will be true afterwards. */
  readonly text: string
  readonly confirm: string
  readonly tone: 'kill' | 'calm'
  readonly command: string
  readonly target: string
  readonly args?: Readonly<Record<string, string | boolean>>
  /** May it end by itself? `must`: it has to; `hour`: within an hour. */
  readonly expiry?: 'may' | 'must' | 'hour'
}

export const question = signal<Question | undefined>(undefined)
/** The story of one correlation id, while it is looked at. */
export const story = signal<{ readonly id: string; readonly entries: readonly TimelineEntry[] } | undefined>(undefined)
/** The runbook that is looked at; without `found` none is given under that name. */
export const runbook = signal<{ readonly id: string; readonly found?: NamedRunbook } | undefined>(undefined)
/** The dependency that is looked at; `words` say what a call of it costs at worst, and are missing until they are known. */
export const dependency = signal<{ readonly name: string; readonly words?: readonly string[] } | undefined>(undefined)

const HEADERS = { 'content-type': 'application/json', 'x-holdfast': '1' }
const NOTICE_MS = 6_000
let noticeTimer: ReturnType<typeof setTimeout> | undefined

async function post(path: string, body: unknown): Promise<unknown> {
  const response = await fetch(`./api/${path}`, { method: 'POST', headers: HEADERS, body: JSON.stringify(body) })
  if (response.ok) return response.json()
  const problem = (await response.json().catch(() => ({}))) as { readonly detail?: string; readonly title?: string }
  throw new Error(problem.detail ?? problem.title ?? `the service answered ${String(response.status)}`)
}

/** @throws Error with a sentence for the person who asked */
export async function carryOut(asked: Question, reason: string, duration: string): Promise<void> {
  const args = { ...asked.args, ...(duration === '' ? {} : { for: duration }) }
  const result = (await post(`commands/${asked.command}`, { target: asked.target, args, reason })) as CommandResult
  tell(result.message, 'good')
}

export async function setFault(fault: DemoFault): Promise<void> {
  try {
    faults.value = ((await post('demo/faults', { id: fault.id, active: !fault.active })) as { readonly faults: readonly DemoFault[] }).faults
    tell(`${fault.label}: ${fault.active ? 'repaired' : 'broken'}`, 'good')
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error), 'bad')
  }
}

export async function explain(id: string): Promise<void> {
  try {
    const response = await fetch(`./api/explain/${encodeURIComponent(id)}`)
    if (response.ok) story.value = (await response.json()) as { readonly id: string; readonly entries: readonly TimelineEntry[] }
  } catch {
    tell('the service does not answer', 'bad')
  }
}

export async function openRunbook(id: string): Promise<void> {
  try {
    const response = await fetch(`./api/runbooks/${encodeURIComponent(id)}`)
    if (response.ok) runbook.value = { id, found: ((await response.json()) as RunbookAnswer).runbook }
    else if (response.status === 404) runbook.value = { id }
    else tell(`the service answered ${String(response.status)}`, 'bad')
  } catch {
    tell('the service does not answer', 'bad')
  }
}

/** What is live of it is shown at once; what it costs at worst follows. */
export async function openDependency(name: string): Promise<void> {
  dependency.value = { name }
  try {
    const response = await fetch(`./api/dependencies/${encodeURIComponent(name)}`)
    if (!response.ok) return
    const { explanation: { words } } = (await response.json()) as DependencyAnswer
    // It may have been closed meanwhile, or another one opened.
    if (dependency.value?.name === name) dependency.value = { name, words }
  } catch {
    tell('the service does not answer', 'bad')
  }
}

function tell(text: string, tone: 'good' | 'bad'): void {
  notice.value = { text, tone }
  clearTimeout(noticeTimer)
  noticeTimer = setTimeout(() => { notice.value = undefined }, NOTICE_MS)
}
