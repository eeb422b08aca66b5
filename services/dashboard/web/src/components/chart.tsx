/** A chart over time, with the same figures as a table for those who do not see it. */
import { lazy, Suspense } from "react";

import { compact } from "../format";
import type { ChartProps } from "./chart-drawing";

const Drawing = lazy(() => import("./chart-drawing"));

export function Chart(props: ChartProps) {
  const write = props.write ?? compact;
  return (
    <figure className="min-w-0 p-4">
      <Suspense fallback={<div className="h-56 animate-pulse rounded bg-line/40" />}>
        <Drawing {...props} />
      </Suspense>
      <figcaption className="mt-2 flex flex-wrap gap-4 text-xs text-muted">
        {props.series.map((one) => (
          <span key={one.key} className="flex items-center gap-1.5">
            <svg aria-hidden viewBox="0 0 8 8" className="size-2">
              <rect width="8" height="8" rx="2" fill={`var(--chart-${one.color})`} />
            </svg>
            {one.name}
          </span>
        ))}
      </figcaption>
      <div className="sr-only">
        <table>
        <caption>{props.label}</caption>
        <thead>
          <tr>
            <th scope="col">Time</th>
            {props.series.map((one) => (
              <th key={one.key} scope="col">
                {one.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.points.map((point) => (
            <tr key={point.at}>
              <th scope="row">{new Date(point.at).toISOString()}</th>
              {props.series.map((one) => (
                <td key={one.key}>{write(point[one.key] ?? 0)}</td>
              ))}
            </tr>
          ))}
        </tbody>
        </table>
      </div>
    </figure>
  );
}
