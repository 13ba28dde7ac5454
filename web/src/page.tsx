/** The whole page, in the order an operator needs it at 3 a.m. */
import { Alerts } from './parts/alerts.tsx'
import { Ask } from './parts/ask.tsx'
import { Demo } from './parts/demo.tsx'
import { Dependencies } from './parts/dependencies.tsx'
import { DependencyDialog } from './parts/dependency.tsx'
import { Events } from './parts/events.tsx'
import { Faults } from './parts/faults.tsx'
import { RunbookDialog } from './parts/runbook.tsx'
import { Story } from './parts/story.tsx'
import { Switches } from './parts/switches.tsx'
import { Top } from './parts/top.tsx'
import { VerdictPanel } from './parts/verdict.tsx'
import { Work } from './parts/work.tsx'
import { Workers } from './parts/workers.tsx'
import { notice, stale, status } from './store.ts'

export function Page() {
  const shown = status.value
  return (
    <>
      <Top />
      <main class={stale.value && shown !== undefined ? 'page is-stale' : 'page'}>
        {shown === undefined ? (
          <p class="waiting">Waiting for the service...</p>
        ) : (
          <>
            <VerdictPanel status={shown} />
            <div class="columns">
              <div class="column">
                <Dependencies dependencies={shown.dependencies} />
                <Work work={shown.work} />
                <Workers workers={shown.workers} />
              </div>
              <div class="column">
                <Demo />
                <Switches flags={shown.flags} />
                <Faults plans={shown.faults} />
                <Alerts alerts={shown.alerts} />
                <Events />
              </div>
            </div>
          </>
        )}
      </main>
      <Ask />
      <Story />
      <RunbookDialog />
      <DependencyDialog />
      <div class="notice-area" role="status" aria-live="polite">
        {notice.value === undefined ? null : <p class={`notice notice-${notice.value.tone}`}>{notice.value.text}</p>}
      </div>
    </>
  )
}
