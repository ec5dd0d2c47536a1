// Decides when a chart is drawn: those in view, one a frame, each not too often.

const PAINT_MS = 300; // a chart is drawn at most this often

export class Painter {
  constructor() {
    this.charts = [];
    this.timer = null;
    this.watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const chart = this.charts.find((c) => c.plot === entry.target);
        if (chart) chart.visible = entry.isIntersecting;
      }
      this.wake();
    }, { rootMargin: "200px" });
    document.addEventListener("visibilitychange", () => this.wake());
    document.addEventListener("themechange", () => this.touchAll());
  }

  add(chart) {
    this.charts.push(chart);
    chart.dirty = true;
    chart.visible = false;
    chart.drawnAt = -Infinity;
    this.watcher.observe(chart.plot);
    return chart;
  }

  touch(keys) {
    for (const chart of this.charts) {
      if (!chart.dirty && chart.draws(keys)) chart.dirty = true;
    }
    this.wake();
  }

  touchAll() {
    for (const chart of this.charts) chart.dirty = true;
    this.wake();
  }

  wake() {
    if (this.timer === null) this.timer = requestAnimationFrame(() => this.paint());
  }

  // One chart a frame, the longest waiting first, so that scrolling and typing stay smooth.
  paint() {
    this.timer = null;
    if (document.hidden) return;
    const waiting = this.charts.filter((c) => c.dirty && c.visible).sort((a, b) => a.drawnAt - b.drawnAt);
    if (!waiting.length) return;
    const now = performance.now();
    const [next] = waiting;
    if (now - next.drawnAt >= PAINT_MS) {
      next.dirty = false;
      next.drawnAt = now;
      next.paint();
      this.wake();
    } else {
      this.timer = 1;
      setTimeout(() => {
        this.timer = null;
        this.wake();
      }, PAINT_MS - (now - next.drawnAt));
    }
  }
}
