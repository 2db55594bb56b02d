// The dashboard's page: its JSON, drawn with the components that Grafana draws its panels with
// (@grafana/ui, @grafana/data), from the Prometheus named in the page's query.
// Grafana's own program is not here: what belongs to it and not to these packages (a panel type's
// defaults, the grid, the variables of a query) is written below, and what the dashboard might ask
// for beyond that is an error, never left out.
import 'uplot/dist/uPlot.min.css'
import { merge } from 'lodash'
import { createRoot } from 'react-dom/client'
import {
  applyFieldOverrides, createDataFrame, createFieldConfigRegistry, createTheme, dateTime, FieldType, getFieldDisplayValues,
  identityOverrideProcessor, rangeUtil, renderLegendFormat, standardFieldConfigEditorRegistry, ThemeContext,
} from '@grafana/data'
import { BigValue, GlobalStyles, PanelChrome, TimeSeries, VizRepeater } from '@grafana/ui'

const CELL = 30, GAP = 8, COLUMNS = 24 // of Grafana's grid
const MAX_STAT_POINTS = 100 // what a stat's sparkline is asked for

const theme = createTheme({ colors: { mode: 'dark' } })
const query = new URLSearchParams(location.search)
const range = { from: dateTime(Number(query.get('from'))), to: dateTime(Number(query.get('to'))) }
range.raw = range

// ---- what can be drawn -----------------------------------------------------------------------

const PANEL = ['id', 'type', 'title', 'description', 'datasource', 'gridPos', 'fieldConfig', 'targets', 'options']
const FIELD = ['unit', 'min', 'max', 'decimals', 'noValue', 'color', 'thresholds', 'mappings']

// A type of panel: Grafana's defaults for what a dashboard leaves out, its own field settings, and how it is drawn.
const TYPES = {
  stat: {
    color: { mode: 'thresholds' },
    options: { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'value', graphMode: 'area', textMode: 'auto', justifyMode: 'auto' },
    custom: [],
    View: Stat,
  },
  timeseries: {
    color: { mode: 'palette-classic' },
    options: { legend: { showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [] }, tooltip: {} },
    custom: ['lineWidth', 'lineInterpolation', 'fillOpacity', 'showPoints', 'stacking', 'thresholdsStyle', 'scaleDistribution'],
    View: Lines,
  },
}

const property = (id) => ({
  id, path: id, name: id, override: null, editor: null, settings: {}, shouldApply: () => true, process: identityOverrideProcessor,
})
standardFieldConfigEditorRegistry.setInit(() => FIELD.map(property))

function refuseOthers(what, names, known) {
  const others = names.filter((name) => !known.includes(name))
  if (others.length) throw new Error(`${what} that this cannot draw: ${others}`)
}

function refuseWhatCannotBeDrawn(panel) {
  refuseOthers('type', [panel.type], Object.keys(TYPES))
  const { options, custom } = TYPES[panel.type]
  const { defaults, overrides } = panel.fieldConfig
  refuseOthers('settings', Object.keys(panel), PANEL)
  refuseOthers('options', Object.keys(panel.options), Object.keys(options))
  refuseOthers('field settings', Object.keys(defaults), [...FIELD, 'custom'])
  refuseOthers('field settings', Object.keys(defaults.custom ?? {}), custom)
  refuseOthers('overrides', overrides.flatMap(({ properties }) => properties.map(({ id }) => id)), [...FIELD, ...custom.map((id) => `custom.${id}`)])
}

// ---- how it is drawn -------------------------------------------------------------------------

function Lines({ frames, options, width, height }) {
  return <TimeSeries frames={frames} timeRange={range} timeZone="utc" width={width} height={height} legend={options.legend} />
}

function Stat({ frames, options, fieldConfig, width, height }) {
  const values = getFieldDisplayValues({
    data: frames, fieldConfig, reduceOptions: options.reduceOptions, sparkline: options.graphMode !== 'none',
    replaceVariables: String, theme, timeZone: 'utc',
  })
  return (
    <VizRepeater width={width} height={height} source={values} orientation="auto" getValues={() => values}
      renderValue={({ value, width, height, count }) => (
        <BigValue value={value.display} sparkline={value.sparkline} width={width} height={height} count={count} theme={theme}
          colorMode={options.colorMode} graphMode={options.graphMode} textMode={options.textMode} justifyMode={options.justifyMode} />
      )} />
  )
}

// ---- data ------------------------------------------------------------------------------------

function step({ type, gridPos }) {
  const points = type === 'stat' ? MAX_STAT_POINTS : place(gridPos).width
  return rangeUtil.calculateInterval(range, points, query.get('scrape')).intervalMs
}

async function ask(target, stepMs) {
  const scrapeMs = rangeUtil.intervalToMs(query.get('scrape'))
  const values = { __interval: stepMs, __rate_interval: Math.max(stepMs + scrapeMs, 4 * scrapeMs) }
  const expr = target.expr.replace(/\$\{?([a-z_]\w*)\}?/gi, (text, name) => {
    if (!(name in values)) throw new Error(`variable ${text} in ${target.expr}`)
    return `${values[name]}ms`
  })
  const aligned = (time) => Math.floor(time / stepMs) * stepMs / 1000
  const asked = new URLSearchParams({ query: expr, start: aligned(range.from), end: aligned(range.to), step: stepMs / 1000 })
  const answer = await (await fetch(`${query.get('prometheus')}/api/v1/query_range?${asked}`)).json()
  if (answer.status !== 'success') throw new Error(`${expr}: ${answer.error}`)
  return answer.data.result.map(({ metric, values }) => createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map(([t]) => t * 1000), config: { interval: stepMs } },
      {
        name: 'Value', type: FieldType.number, labels: metric,
        values: values.map(([, v]) => (v === 'NaN' ? null : Number(v))),
        config: { displayNameFromDS: target.legendFormat ? renderLegendFormat(target.legendFormat, metric) : undefined },
      },
    ],
  }))
}

async function load(panel) {
  refuseWhatCannotBeDrawn(panel)
  const { color, options, custom, View } = TYPES[panel.type]
  const useCustomConfig = (builder) => custom.forEach((id) => builder.addCustomEditor(property(id)))
  const fieldConfig = { ...panel.fieldConfig, defaults: { color, ...panel.fieldConfig.defaults } }
  const answers = await Promise.all(panel.targets.map((target) => ask(target, step(panel))))
  const frames = applyFieldOverrides({
    data: answers.flat(), fieldConfig, fieldConfigRegistry: createFieldConfigRegistry({ useCustomConfig }, panel.type),
    replaceVariables: String, theme, timeZone: 'utc',
  })
  return { panel, frames, fieldConfig, options: merge({}, options, panel.options), View }
}

// ---- layout ----------------------------------------------------------------------------------

function place({ x, y, w, h }) {
  const column = (document.documentElement.clientWidth - GAP) / COLUMNS
  return { left: GAP + x * column, top: y * (CELL + GAP), width: w * column - GAP, height: h * (CELL + GAP) - GAP }
}

function Panel({ panel, frames, fieldConfig, options, View }) {
  const { left, top, width, height } = place(panel.gridPos)
  const empty = !frames.some((frame) => frame.fields[1].values.some((value) => value !== null))
  return (
    <div style={{ position: 'absolute', left, top }} data-panel={panel.title} data-empty={empty || undefined}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
        {(width, height) => empty ? <p>No data</p> : <View {...{ frames, fieldConfig, options, width, height }} />}
      </PanelChrome>
    </div>
  )
}

function Row({ panel }) {
  const { left, top, height } = place(panel.gridPos)
  return <h5 style={{ position: 'absolute', left, top, lineHeight: `${height}px`, margin: 0 }}>{panel.title}</h5>
}

function Dashboard({ dashboard, panels, versions }) {
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * (CELL + GAP)
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <header style={{ display: 'flex', justifyContent: 'space-between', padding: GAP }}>
        <h4 style={{ margin: 0 }}>{dashboard.title}</h4>
        <span>{range.from.utc().format('YYYY-MM-DD HH:mm:ss')} to {range.to.utc().format('HH:mm:ss')} UTC, drawn with {versions}</span>
      </header>
      <main style={{ position: 'relative', height: bottom }}>
        {panels.map((loaded) => <Panel key={loaded.panel.id} {...loaded} />)}
        {dashboard.panels.filter(({ type }) => type === 'row').map((panel) => <Row key={panel.id} panel={panel} />)}
      </main>
    </ThemeContext.Provider>
  )
}

const dashboard = await (await fetch('/dashboard.json')).json()
if (dashboard.templating.list.length) throw new Error('the variables of a dashboard are not drawn here')
// canvases are drawn once, with the font that is there
for (const [weight, name] of [[400, 'Regular'], [500, 'Medium']]) {
  document.fonts.add(await new FontFace('Inter', `url(/public/fonts/inter/Inter-${name}.woff2)`, { weight }).load())
}
const panels = await Promise.all(dashboard.panels.filter(({ type }) => type !== 'row').map(
  (panel) => load(panel).catch((error) => { throw new Error(`${panel.title}: ${error.message}`) })))
createRoot(document.body).render(<Dashboard dashboard={dashboard} panels={panels} versions={query.get('versions')} />)
