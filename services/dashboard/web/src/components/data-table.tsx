/** The panel's table, on TanStack Table: sorting by its heads, columns that can be put away, in its own scrolling box. */
import {
  columnVisibilityFeature,
  type ColumnDef,
  type ColumnVisibilityState,
  createSortedRowModel,
  type RowData,
  rowSortingFeature,
  type SortingState,
  tableFeatures,
  useTable,
} from "@tanstack/react-table";
import { ArrowDown, ArrowUp, Columns3 } from "lucide-react";
import { type ReactNode, useMemo, useState } from "react";
import { Button as AriaButton, Menu, MenuItem, MenuTrigger, Popover } from "react-aria-components";

export type Column<Row> = {
  title: string;
  /** Tells columns apart where the title changes; the title where it is left out. */
  id?: string;
  cell: (row: Row) => ReactNode;
  align?: "right";
  /** Left out on a phone. */
  wide?: boolean;
  /** On a phone alone. */
  narrow?: boolean;
  /** What rows are put in order by, when somebody presses the head; none where it is left out. */
  sort?: (row: Row) => string | number | bigint;
};

const features = tableFeatures({
  rowSortingFeature,
  columnVisibilityFeature,
  sortedRowModel: createSortedRowModel(),
});

const idOf = <Row,>(column: Column<Row>) => column.id ?? column.title;

function compared(first: unknown, second: unknown): number {
  if (typeof first === "string" && typeof second === "string") return first.localeCompare(second);
  const [a, b] = [first as number | bigint, second as number | bigint];
  return a < b ? -1 : a > b ? 1 : 0;
}

function defined<Row extends RowData>(columns: Column<Row>[]): ColumnDef<typeof features, Row>[] {
  return columns.map((column) => ({
    id: idOf(column),
    accessorFn: (row: Row) => column.sort?.(row) ?? "",
    enableSorting: column.sort !== undefined,
    sortFn: (a: { original: Row }, b: { original: Row }) =>
      compared(column.sort?.(a.original), column.sort?.(b.original)),
  }));
}

function remembered(name: string): ColumnVisibilityState {
  try {
    return JSON.parse(localStorage.getItem(`mesh-columns-${name}`) ?? "{}") as ColumnVisibilityState;
  } catch {
    return {};
  }
}

function Chooser<Row>({
  columns,
  visible,
  onChange,
}: {
  columns: Column<Row>[];
  visible: ColumnVisibilityState;
  onChange: (visible: ColumnVisibilityState) => void;
}) {
  // The first column says what a row is, so it stays.
  const choice = columns.slice(1);
  const shown = choice.map(idOf).filter((id) => visible[id] !== false);
  return (
    <div className="hidden justify-end border-b border-line px-2 py-1 md:flex">
      <MenuTrigger>
        <AriaButton className="inline-flex items-center gap-1.5 rounded px-2 py-1 text-xs text-muted hover:text-ink">
          <Columns3 aria-hidden className="size-3.5" /> Columns
        </AriaButton>
        <Popover placement="bottom end" className="min-w-40 rounded-lg border border-line bg-raised p-1 shadow-lg">
          <Menu
            aria-label="Columns"
            className="outline-none"
            selectionMode="multiple"
            selectedKeys={shown}
            onSelectionChange={(keys) =>
              onChange(Object.fromEntries(choice.map((one) => [idOf(one), keys === "all" || keys.has(idOf(one))])))
            }
          >
            {choice.map((column) => (
              <MenuItem
                key={idOf(column)}
                id={idOf(column)}
                className="flex cursor-pointer items-center gap-2 rounded px-2 py-1.5 outline-none focus:bg-canvas"
              >
                {({ isSelected }) => (
                  <>
                    <span aria-hidden className="w-4 text-accent">{isSelected ? "✓" : ""}</span>
                    {column.title}
                  </>
                )}
              </MenuItem>
            ))}
          </Menu>
        </Popover>
      </MenuTrigger>
    </div>
  );
}

export function DataTable<Row extends RowData>({
  label,
  columns,
  rows,
  keyOf,
  chooser,
}: {
  label: string;
  columns: Column<Row>[];
  rows: Row[];
  keyOf: (row: Row) => string;
  /** Lets people put columns away, and remembers it under this name. */
  chooser?: string;
}) {
  const [sorting, setSorting] = useState<SortingState>([]);
  const [visible, setVisible] = useState<ColumnVisibilityState>(() => (chooser ? remembered(chooser) : {}));
  const definitions = useMemo(() => defined(columns), [columns]);
  const byId = useMemo(() => new Map(columns.map((column) => [idOf(column), column])), [columns]);
  const table = useTable({
    features,
    columns: definitions,
    data: rows,
    getRowId: keyOf,
    state: { sorting, columnVisibility: visible },
    onSortingChange: setSorting,
    onColumnVisibilityChange: setVisible,
  });
  const choose = (next: ColumnVisibilityState) => {
    setVisible(next);
    if (chooser) localStorage.setItem(`mesh-columns-${chooser}`, JSON.stringify(next));
  };
  const place = (id: string) => {
    const column = byId.get(id);
    return `px-4 py-2.5 ${column?.align === "right" ? "text-right whitespace-nowrap tabular-nums" : "text-left"} ${
      column?.wide ? "hidden md:table-cell" : column?.narrow ? "md:hidden" : ""
    }`;
  };
  return (
    <>
      {chooser && <Chooser columns={columns} visible={visible} onChange={choose} />}
      <div className="overflow-x-auto" tabIndex={0} role="region" aria-label={`${label}, scrolls sideways`}>
        <table className="w-full" aria-label={label}>
          <thead className="border-b border-line text-xs text-muted">
            {table.getHeaderGroups().map((group) => (
              <tr key={group.id}>
                {group.headers.map(({ column }) => {
                  const sorted = column.getIsSorted();
                  const title = byId.get(column.id)?.title;
                  const Icon = sorted === "desc" ? ArrowDown : ArrowUp;
                  return (
                    <th
                      key={column.id}
                      scope="col"
                      className={`${place(column.id)} font-medium`}
                      {...(sorted ? { "aria-sort": sorted === "asc" ? "ascending" : "descending" } : {})}
                    >
                      {column.getCanSort() ? (
                        <button
                          type="button"
                          onClick={column.getToggleSortingHandler()}
                          className="inline-flex items-center gap-1 whitespace-nowrap hover:text-ink"
                        >
                          {title}
                          {sorted && <Icon aria-hidden className="size-3" />}
                        </button>
                      ) : (
                        title
                      )}
                    </th>
                  );
                })}
              </tr>
            ))}
          </thead>
          <tbody className="divide-y divide-line">
            {table.getRowModel().rows.map((row) => (
              <tr key={row.id} className="hover:bg-canvas">
                {row.getVisibleCells().map(({ column }) => (
                  <td key={column.id} className={place(column.id)}>
                    {byId.get(column.id)?.cell(row.original)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
