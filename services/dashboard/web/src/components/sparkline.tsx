/** A row of small bars: how something went over time, at a glance. */
export function Sparkline({ values, label }: { values: number[]; label: string }) {
  const top = Math.max(...values, 1);
  const width = 100 / Math.max(values.length, 1);
  return (
    <svg role="img" aria-label={label} viewBox="0 0 100 24" preserveAspectRatio="none" className="h-6 w-24">
      {values.map((value, place) => {
        const height = value === 0 ? 1 : Math.max(2, (22 * value) / top);
        return (
          <rect
            key={place}
            x={place * width + width * 0.1}
            y={24 - height}
            width={width * 0.8}
            height={height}
            className={value === 0 ? "fill-line" : "fill-accent"}
          />
        );
      })}
    </svg>
  );
}
