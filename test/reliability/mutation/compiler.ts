/**
 * Which changes the compiler refuses: they are noticed before any test runs.
 *
 * Asked for survivors only, each alone in its file: the errors of that file, beside those that it has unchanged (none).
 */
import { resolve } from 'node:path'
import ts from 'typescript'

export interface Change {
  readonly start: { readonly line: number; readonly column: number }
  readonly end: { readonly line: number; readonly column: number }
  readonly replacement: string
}

/** That a change leaves something unused says nothing about what it does. */
const TIDINESS = { noUnusedLocals: false, noUnusedParameters: false, allowUnreachableCode: true } as const

/** Lines and columns count from 1. */
export function compiler(root: string): (file: string, source: string, change: Change) => boolean {
  const { config } = ts.readConfigFile(resolve(root, 'tsconfig.json'), path => ts.sys.readFile(path)) as { config: unknown }
  const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const changed = new Map<string, { readonly version: number; readonly text: string }>()
  const service = ts.createLanguageService({
    getCompilationSettings: () => ({ ...options, ...TIDINESS }),
    getScriptFileNames: () => fileNames.filter(name => /\/src\//.test(name) && !/\.test\.ts$/.test(name)),
    getScriptVersion: name => String(changed.get(name)?.version ?? 0),
    getScriptSnapshot: name => {
      const text = changed.get(name)?.text ?? ts.sys.readFile(name)
      return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text)
    },
    getCurrentDirectory: () => root,
    getDefaultLibFileName: given => ts.getDefaultLibFilePath(given),
    fileExists: path => ts.sys.fileExists(path),
    readFile: path => ts.sys.readFile(path),
    directoryExists: path => ts.sys.directoryExists(path),
    getDirectories: path => ts.sys.getDirectories(path),
  })
  return (file, source, { start, end, replacement }) => {
    const path = resolve(root, file)
    const offset = ({ line, column }: Change['start']): number => source.split('\n').slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0) + column - 1
    const set = (text: string): void => { changed.set(path, { version: (changed.get(path)?.version ?? 0) + 1, text }) }
    set(source.slice(0, offset(start)) + replacement + source.slice(offset(end)))
    const refused = service.getSemanticDiagnostics(path).length > 0 || service.getSyntacticDiagnostics(path).length > 0
    set(source)
    return refused
  }
}
