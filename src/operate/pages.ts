/**
 * The console's pages: the built UI from the package's `dist/web`, and the login form.
 *
 * Files are read once into memory and found by their exact name, so no request path is ever made into a file path. The
 * content security policy allows our own scripts and styles and nothing inline.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
  'x-frame-options': 'DENY',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
}

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
  json: 'application/json; charset=utf-8',
}
/** The built UI has five files; more than this is not ours. */
const FILES_MAX = 100

interface StaticFile {
  readonly type: string
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly zipped: Uint8Array<ArrayBuffer>
  readonly hashed: boolean
}

/** The built UI. Read when first asked for, because it may be built after the process started; kept when found. */
export class Pages {
  readonly #dirs: readonly string[]
  #files: ReadonlyMap<string, StaticFile> | undefined

  /** `dir` replaces the package's own build. */
  constructor(dir?: string) {
    // Compiled, this module lies in dist/operate; from source, in src/operate.
    this.#dirs = dir === undefined ? ['../web/', '../../dist/web/'].map(path => fileURLToPath(new URL(path, import.meta.url))) : [dir]
  }

  /** The answer to a path below the base path (`''` is the page itself); undefined when there is no such file. */
  answer(path: string, request: Request): Response | undefined {
    this.#files ??= this.#read()
    const file = this.#files?.get(path === '' ? 'index.html' : path)
    if (file === undefined) return path === '' ? notBuilt() : undefined
    const zip = /\bgzip\b/.test(request.headers.get('accept-encoding') ?? '')
    return new Response(zip ? file.zipped : file.bytes, {
      headers: {
        ...PAGE_HEADERS,
        'content-type': file.type,
        'cache-control': file.hashed ? 'public, max-age=31536000, immutable' : 'no-cache',
        vary: 'accept-encoding',
        ...(zip ? { 'content-encoding': 'gzip' } : {}),
      },
    })
  }

  #read(): ReadonlyMap<string, StaticFile> | undefined {
    const dir = this.#dirs.find(candidate => existsSync(join(candidate, 'index.html')))
    if (dir === undefined) return undefined
    const files = new Map<string, StaticFile>()
    for (const entry of readdirSync(dir, { withFileTypes: true, recursive: true }).slice(0, FILES_MAX)) {
      const type = TYPES[entry.name.split('.').at(-1) ?? '']
      if (!entry.isFile() || type === undefined) continue
      const path = join(entry.parentPath, entry.name)
      const name = path.slice(dir.length).replaceAll('\\', '/').replace(/^\//, '')
      const bytes = new Uint8Array(readFileSync(path))
      files.set(name, { type, bytes, zipped: new Uint8Array(gzipSync(bytes)), hashed: name.startsWith('assets/') })
    }
    return files
  }
}

/** Plain HTML: it must work before anything is built and with scripts off. */
export function loginPage(message: string | undefined, status: 200 | 401 | 429): Response {
  const note = message === undefined ? '' : `<p role="alert" class="login-error">${message}</p>`
  const html = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Holdfast: log in</title><link rel="icon" href="./favicon.svg"><link rel="stylesheet" href="./login.css"></head>
<body><main><h1>Holdfast</h1><p>This console asks for the operator token.</p>${note}
<form method="post" action="./login"><label for="token">Operator token</label><input id="token" name="token" type="password" autocomplete="current-password" required autofocus><button>Log in</button></form>
</main></body>
</html>`
  return new Response(html, { status, headers: { ...PAGE_HEADERS, 'content-type': TYPES['html'] ?? '', 'cache-control': 'no-store' } })
}

function notBuilt(): Response {
  const text = 'The console is not built yet. In the checkout run: npx vite build --config web/vite.config.ts (npm ci does it by itself). The API below api/ works without it.\n'
  return new Response(text, { status: 503, headers: { ...PAGE_HEADERS, 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' } })
}
