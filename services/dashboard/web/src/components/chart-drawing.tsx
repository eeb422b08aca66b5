/** The charts themselves, apart so that pages without one do not load the library. */
import "uplot/dist/uPlot.min.css";

import { useEffect, useRef } from "react";
import uPlot from "uplot";

import { compact } from "../format";

export type Series = { key: string; name: string; color: 1 | 2 | 3 | 4 };
export type Point = { at: number } & Record<string, number>;

export type ChartProps = {
  label: string;
  points: Point[];
  series: Series[];
  kind?: "bars" | "curves";
  /** How a value is written; as a short count where it is absent. */
  write?: (value: number) => string;
  hours: boolean;
};

const HEIGHT_PX = 220;
const HOUR = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});

/** Values by series; of bars each stands on those before it, and the tallest is drawn first. */
function columnsOf({ points, series, kind = "bars" }: ChartProps): number[][] {
  const plain = series.map((one) => points.map((point) => point[one.key] ?? 0));
  if (kind === "curves") return plain;
  const sums = plain.map((_, place) =>
    points.map((_, at) => plain.slice(0, place + 1).reduce((sum, column) => sum + (column[at] ?? 0), 0)),
  );
  return sums.reverse();
}

function optionsOf(props: ChartProps, width: number): uPlot.Options {
  const { series, kind = "bars", write = compact, hours } = props;
  const style = getComputedStyle(document.documentElement);
  const color = (name: string) => style.getPropertyValue(name).trim();
  const drawn = kind === "bars" ? [...series].reverse() : series;
  const axis = { stroke: color("--muted"), ticks: { show: false }, font: "11px system-ui" };
  return {
    width,
    height: HEIGHT_PX,
    cursor: { y: false, points: { show: kind === "curves" } },
    legend: { show: false },
    scales: { y: { range: (_, __, top) => [0, top > 0 ? top * 1.05 : 1] } },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 28,
        values: (_, ticks) => ticks.map((at) => (hours ? HOUR : DAY).format(at * 1000)),
        space: 64,
      },
      {
        ...axis,
        grid: { stroke: color("--line"), width: 1 },
        size: 64,
        values: (_, ticks) => ticks.map((value) => write(value)),
      },
    ],
    series: [
      {},
      ...drawn.map((one): uPlot.Series => {
        const stroke = color(`--chart-${one.color}`);
        const bars = uPlot.paths.bars?.({ size: [0.7, 28] });
        return kind === "bars"
          ? { stroke, fill: stroke, width: 0, points: { show: false }, ...(bars ? { paths: bars } : {}) }
          : { stroke, fill: `${stroke}22`, width: 1.5, points: { show: false } };
      }),
    ],
  };
}

/** What stands beside the pointer: the time and every value at it. */
function tooltipOf(props: ChartProps, place: number): string {
  const { points, series, write = compact, hours } = props;
  const point = points[place];
  if (!point) return "";
  const values = series.map((one) => `${one.name} ${write(point[one.key] ?? 0)}`);
  return [(hours ? FULL : DAY).format(point.at), ...values].join("  ·  ");
}

export default function ChartDrawing(props: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const says = useRef<HTMLParagraphElement>(null);
  useEffect(() => {
    const host = box.current;
    if (!host) return;
    const times = props.points.map((point) => point.at / 1000);
    const data = [times, ...columnsOf(props)] as uPlot.AlignedData;
    let plot: uPlot | null = null;
    const draw = () => {
      plot?.destroy();
      plot = new uPlot({ ...optionsOf(props, host.clientWidth), hooks: { setCursor: [said] } }, data, host);
    };
    const said = (drawn: uPlot) => {
      if (says.current) says.current.textContent = tooltipOf(props, drawn.cursor.idx ?? -1);
    };
    draw();
    const resized = new ResizeObserver(() => plot?.setSize({ width: host.clientWidth, height: HEIGHT_PX }));
    resized.observe(host);
    // Colours are read when it is drawn.
    const recoloured = new MutationObserver(draw);
    recoloured.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", draw);
    return () => {
      resized.disconnect();
      recoloured.disconnect();
      system.removeEventListener("change", draw);
      plot?.destroy();
    };
  }, [props]);
  return (
    <>
      <p ref={says} aria-hidden className="h-4 truncate text-right text-xs text-muted tabular-nums" />
      <div ref={box} role="img" aria-label={props.label} className="w-full overflow-hidden" />
    </>
  );
}
