/**
 * docs/reliability.md out of docs/reliability.json: what was run, and nothing that was not.
 */
import type { Mutation, MutationScore, Reliability, Section } from './figures.ts'
import { PLANS, type SectionPlan } from './plan.ts'

const HEAD = `# What was tried to break it
This page is made by \`npm run prove\` from [reliability.json](reliability.json); a test checks that both say the same. It holds what was run, with its seeds and
the commit it ran on, and leaves out what was not. How each kind of run works is in [GUARANTEES.md](GUARANTEES.md) and in \`test/reliability\`, \`test/instances\`.

An *anomaly* is a broken promise: something done twice, lost, out of order, undone in part, written by an overtaken holder, or never over.
*Taken away* is the control: the same run without a protection must find harm, or the run proves nothing.
`

export function rendered(reliability: Reliability): string {
  const run = PLANS.flatMap(plan => {
    const section = reliability.sections[plan.name]
    return section === undefined ? [] : [{ plan, section }]
  })
  const table = [
    '| run | what | how many | operations | faults | anomalies | process time | commit, date |',
    '|---|---|---|---|---|---|---|---|',
    ...run.map(({ plan, section }) => `| [${plan.name}](#${plan.name}) | ${plan.what} | ${number(section.count)} ${plan.unit} | ${number(section.operations)} | ${number(total(section.faults))} | **${number(section.anomalies)}** | ${duration(section.seconds)} | \`${section.commit}\`, ${section.date} |`),
  ]
  return [HEAD, ...table, '', ...run.flatMap(({ plan, section }) => detailed(plan, section)), ...(reliability.mutation === undefined ? [] : mutated(reliability.mutation))].join('\n')
}

function detailed(plan: SectionPlan, section: Section): readonly string[] {
  const { seeds, recovery } = section
  return [
    `## ${plan.name}`,
    `${upper(plan.what)}: ${number(section.count)} ${plan.unit} on Node ${section.node}, ${String(section.cpus)} cores; seeds from ${String(seeds.first)}, ${String(seeds.parts)} parts ${number(seeds.step)} apart.${section.count < plan.count ? ` Fewer than the ${number(plan.count)} that the full run has.` : ''}`,
    '',
    ...record('Faults', section.faults), ...record('States reached', section.reached), ...record('Also counted', section.sums),
    ...(recovery === undefined ? [] : [`- Recovery, from the kill until everything was over, in real time with leases not waited for: median ${number(recovery.medianMs)} ms, 99 % within ${number(recovery.p99Ms)} ms, longest ${number(recovery.maxMs)} ms (${number(recovery.n)} recoveries, on a machine that did other work too).`]),
    ...Object.entries(section.control).map(([name, found]) => `- Taken away: ${name}: ${found}.`),
    ...section.found.map((line, index) => `- ANOMALY: \`${line}\`: ${section.explained?.[index] ?? 'not explained'}`),
    '',
  ]
}

function mutated({ files, commit, date, seconds }: Mutation): readonly string[] {
  const noticed = (file: MutationScore): number => file.killed + file.refused
  const of = (file: MutationScore): number => noticed(file) + file.survived + file.noCoverage
  const sum = (each: (file: MutationScore) => number): number => files.reduce((total, file) => total + each(file), 0)
  return [
    '## mutation',
    `Small changes to the code, one at a time, each of which a test or the compiler should notice: ${number(sum(noticed))} of ${number(sum(of))} were (${percent(sum(noticed), sum(of))}), in ${duration(seconds)} of runs, the last of them on \`${commit}\`, ${date}. Survivors by reason: [mutation.md](mutation.md).`,
    '',
    '| file | noticed by a test | else by the compiler | survived | no test reaches it | score |',
    '|---|---|---|---|---|---|',
    ...files.map(file => `| \`${file.file}\` | ${number(file.killed)} | ${number(file.refused)} | ${number(file.survived)} | ${number(file.noCoverage)} | ${percent(noticed(file), of(file))} |`),
    '',
  ]
}

function record(title: string, values: Readonly<Record<string, number>>): readonly string[] {
  const entries = Object.entries(values)
  return entries.length === 0 ? [] : [`- ${title}: ${entries.map(([name, times]) => `${name} ${number(times)}`).join(', ')}.`]
}

function total(values: Readonly<Record<string, number>>): number {
  return Object.values(values).reduce((sum, times) => sum + times, 0)
}

function number(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ',')
}

function percent(part: number, all: number): string {
  return all === 0 ? '-' : `${(part / all * 100).toFixed(1)} %`
}

function duration(seconds: number): string {
  return seconds < 120 ? `${String(Math.round(seconds))} s` : `${String(Math.round(seconds / 60))} min`
}

function upper(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`
}
