// Draws the charts, with Plotly.

function layout(chart) {
  const style = getComputedStyle(document.body);
  const axis = {
    gridcolor: "rgba(128, 128, 128, 0.25)",
    zerolinecolor: "rgba(128, 128, 128, 0.4)",
  };
  return {
    ...chart.layout,
    template: null,
    xaxis: { ...chart.layout.xaxis, ...axis },
    yaxis: { ...chart.layout.yaxis, ...axis },
    font: { color: style.color, family: "system-ui, sans-serif" },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    colorway: [
      "#3b82f6",
      "#f59e0b",
      "#10b981",
      "#ef4444",
      "#8b5cf6",
      "#14b8a6",
      "#ec4899",
      "#84cc16",
      "#a16207",
      "#64748b",
    ],
    margin: { l: 10, r: 10, t: 10, b: 10 },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    hovermode: "x unified",
    hoverlabel: { bgcolor: style.backgroundColor },
  };
}

function draw(chart, node) {
  return Plotly.react(node, chart.data, layout(chart), { responsive: true, displayModeBar: false });
}

async function drawCharts() {
  // Plotly takes longer to load than the rest of the page, so it is loaded last.
  const library = byId("plotly");
  document.head.append(el("script", { nonce: library.nonce, textContent: library.textContent }));
  for (const chart of charts) {
    const node = el("div");
    byId("charts").append(el("figure", {}, el("figcaption", {}, chart.title), node));
    await draw(chart, node);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(chart, node));
    if (chart.layout.xaxis.title.text === "step") {
      node.on("plotly_click", ({ points }) => {
        filters.step.value = points[0].x;
        showList();
        location.hash = "browser";
      });
    }
    await new Promise((done) => setTimeout(done));
  }
}
