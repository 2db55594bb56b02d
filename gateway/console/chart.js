// chart - a bar chart as inline SVG, with each bar's value as its title and the same figures as text for screen readers.

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// bars: {name, value}; text(value) names a value.
export function chart(bars, text, title) {
  const width = 720, height = 180, base = height - 18, step = width / Math.max(bars.length, 7);
  const most = Math.max(...bars.map((bar) => bar.value), 1);
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img",
    "aria-label": `${title}: ${bars.map((bar) => `${bar.name} ${text(bar.value)}`).join(", ") || "none"}` },
  ...bars.flatMap((bar, i) => {
    const tall = Math.max((base - 8) * bar.value / most, 1);
    return [svg("rect", { x: i * step + 2, y: base - tall, width: Math.min(step - 4, 60), height: tall, rx: 2 },
      svg("title", {}, `${bar.name}: ${text(bar.value)}`)),
    svg("text", { x: i * step + 2, y: height - 4 }, bar.name.slice(5))];
  }));
}
