// The dashboard's JSON against the types of @grafana/schema, by the TypeScript compiler: each name and
// each value, those in a panel's options and field settings too, which the schema of dashboards leaves
// open. JSON stands there as a literal, so that a property which the type does not have is an error.

import ts from 'typescript'
import { defaultDashboard } from '@grafana/schema'

const PANELS = { stat: 'StatPanelCfg', timeseries: 'TimeSeriesPanelCfg' }
const isRow = (panel) => panel.type === 'row'

function source(dashboard) {
  const checks = [['dashboard', { ...dashboard, panels: [] }, 'Dashboard'], ['rows', dashboard.panels.filter(isRow), 'RowPanel[]']]
  for (const { id, options, targets, fieldConfig, ...panel } of dashboard.panels.filter((panel) => !isRow(panel))) {
    const { custom = {}, ...defaults } = fieldConfig.defaults
    checks.push([`panel_${id}`, { id, ...panel, fieldConfig: { ...fieldConfig, defaults: {} } }, 'Panel'],
      [`field_defaults_${id}`, defaults, 'FieldConfig'], [`field_custom_${id}`, custom, 'GraphFieldConfig'],
      [`options_${id}`, options, PANELS[panel.type]], [`targets_${id}`, targets, 'Query[]'])
  }
  const imports = Object.entries(PANELS).map(([type, name]) =>
    `import type { Options as ${name} } from '@grafana/schema/dist/esm/raw/composable/${type}/panelcfg/x/${name}_types.gen'`)
  return `
import type { Dashboard, DataSourceRef, FieldConfig, GraphFieldConfig, Panel, RowPanel } from '@grafana/schema'
${imports.join('\n')}
// as JSON has it: an enum's values are their strings, and what has a default may be left out
type Plain<T> = T extends string ? \`\${T}\` : T extends number | boolean | null | undefined ? T
  : T extends (infer E)[] ? Plain<E>[] : { [K in keyof T]?: Plain<T[K]> }
// of Prometheus' queries the schema has no type
interface Query { refId: string; datasource: DataSourceRef; expr: string; legendFormat: string }
${checks.map(([name, value, type]) => `export const ${name} = ${JSON.stringify(value)} satisfies Plain<${type}>`).join('\n')}`
}

/** What the schema does not take, in words; nothing when all is right. */
export function breaches(text) {
  const dashboard = JSON.parse(text)
  const name = new URL('dashboard.ts', import.meta.url).pathname // in memory only
  const options = {
    strict: true, noEmit: true, skipLibCheck: true, types: [], target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler,
  }
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists } = host
  const written = ts.createSourceFile(name, source(dashboard), options.target)
  host.getSourceFile = (file, ...more) => (file === name ? written : getSourceFile(file, ...more))
  host.fileExists = (file) => file === name || fileExists(file)
  const found = ts.getPreEmitDiagnostics(ts.createProgram([name], options, host)).map(({ messageText, start }) => {
    const [, part] = [...written.text.slice(0, start).matchAll(/export const (\w+)/g)].at(-1) ?? []
    return `schema: ${part}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
  })
  if (dashboard.schemaVersion !== defaultDashboard.schemaVersion) {
    found.push(`schema: version ${dashboard.schemaVersion}, where Grafana's is ${defaultDashboard.schemaVersion}`)
  }
  return found
}
