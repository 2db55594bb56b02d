// node shot.mjs PROMETHEUS FROM_MS TO_MS OUT.png
//
// Checks the dashboard's JSON against Grafana's schema, draws it (render.jsx) from that Prometheus in
// a real browser, and takes its picture. An error in the page, or a panel without data, is an exit status.

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { once } from 'node:events'
import esbuild from 'esbuild'
import { chromium } from 'playwright-core'
import { breaches } from './schema.mjs'

const [prometheus, from, to, out] = process.argv.slice(2)
const here = (path) => new URL(path, import.meta.url)
const GRAFANA = here('../../deploy/metrics/grafana/')
const dashboard = readFileSync(new URL('dashboards/sandbox-server.json', GRAFANA), 'utf8')
const [, scrape] = /timeInterval: *(\w+)/.exec(readFileSync(new URL('provisioning/datasources/prometheus.yml', GRAFANA), 'utf8'))
const { version } = JSON.parse(readFileSync(here('node_modules/@grafana/ui/package.json')))

async function serve() {
  const built = await esbuild.build({
    entryPoints: [here('render.jsx').pathname], bundle: true, splitting: true, format: 'esm', jsx: 'automatic', minify: true,
    write: false, outdir: '/', logLevel: 'error', define: { 'process.env.NODE_ENV': '"production"' },
    loader: { '.ttf': 'empty' }, // of the code editor's icons
  })
  const made = new Map(built.outputFiles.map((file) => [file.path, Buffer.from(file.contents)]))
  made.set('/', '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><link rel="stylesheet" href="/render.css"><body style="margin:0"><script type="module" src="/render.js"></script>')
  made.set('/dashboard.json', dashboard)
  const file = (path) => made.get(path) ?? readFileSync(here('node_modules' + path
    .replace(/^\/public\/img/, '/@grafana/ui/dist/public/img')
    .replace('/public/fonts/inter/Inter-Regular', '/@fontsource/inter/files/inter-latin-400-normal')
    .replace('/public/fonts/inter/Inter-Medium', '/@fontsource/inter/files/inter-latin-500-normal')))
  const types = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', json: 'application/json', woff2: 'font/woff2' }
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://here')
    try {
      const content = file(pathname)
      response.writeHead(200, { 'Content-Type': types[pathname.split('.').pop()] ?? 'text/html' }).end(content)
    } catch (error) {
      response.writeHead(404).end(error.message)
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

async function shoot(url) {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium' })
  const wrong = []
  try {
    const page = await browser.newPage({ viewport: { width: 1600, height: 1200 } })
    page.on('pageerror', (error) => wrong.push(error.message))
    page.on('console', (message) => message.type() === 'error' && wrong.push(`${message.text()} ${message.location().url}`))
    await page.goto(url)
    const panels = JSON.parse(dashboard).panels.filter(({ type }) => type !== 'row').length
    await page.waitForFunction((n) => document.querySelectorAll('[data-panel]').length === n, panels, { timeout: 30000 })
    await page.waitForLoadState('networkidle')
    await page.screenshot({ path: out, fullPage: true })
    for (const panel of await page.locator('[data-empty]').all()) wrong.push(`no data in ${await panel.getAttribute('data-panel')}`)
  } catch (error) {
    wrong.push(error.message)
  } finally {
    await browser.close()
  }
  return wrong
}

const wrong = breaches(dashboard)
const server = await serve()
const query = new URLSearchParams({ prometheus, from, to, scrape, versions: `@grafana/ui ${version}` })
wrong.push(...await shoot(`http://127.0.0.1:${server.address().port}/?${query}`))
server.close()
for (const line of wrong) console.error(line)
process.exitCode = wrong.length ? 1 : 0
