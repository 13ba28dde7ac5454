/**
 * Security headers, profile `api`: for answers that are data, not pages.
 *
 * Only what is missing is added, so that a handler which serves pages (the console) brings its own policy. HSTS is sent only
 * over https: on plain http it would lock a local console out for a year.
 */

const API_HEADERS: readonly (readonly [name: string, value: string])[] = [
  ['x-content-type-options', 'nosniff'],
  ['x-frame-options', 'DENY'],
  ['content-security-policy', "default-src 'none'; frame-ancestors 'none'"],
  ['referrer-policy', 'no-referrer'],
  ['cross-origin-resource-policy', 'same-origin'],
  // Not "1": the old filter of browsers could be used to break pages.
  ['x-xss-protection', '0'],
  ['cache-control', 'no-store'],
]

/** One year, as the preload lists ask. */
const HSTS = 'max-age=31536000; includeSubDomains'

export interface SecurityHeadersOptions {
  /** Did the request come by https, as far as a trusted party says? Default false. */
  readonly secure?: boolean
}

/** The response with the headers of profile `api` that it does not set itself. */
export function withSecurityHeaders(response: Response, options: SecurityHeadersOptions = {}): Response {
  const wanted = options.secure === true ? [...API_HEADERS, ['strict-transport-security', HSTS] as const] : API_HEADERS
  const missing = wanted.filter(([name]) => !response.headers.has(name))
  if (missing.length === 0) return response
  try {
    for (const [name, value] of missing) response.headers.set(name, value)
    return response
  } catch {
    // The headers of redirects and of fetched responses cannot be changed: the same response, with headers of its own.
    const headers = new Headers(response.headers)
    for (const [name, value] of missing) headers.set(name, value)
    return new Response(response.body, { status: response.status, statusText: response.statusText, headers })
  }
}
