/** Buttons, fields, dialogs and copying, on React Aria's accessible behaviour. */
import { Check, Copy } from "lucide-react";
import { type ReactNode, useState } from "react";
import {
  Button as AriaButton,
  type ButtonProps,
  Dialog,
  FieldError,
  Heading,
  Input,
  Label,
  Modal,
  ModalOverlay,
  Text,
  TextField,
  type TextFieldProps,
} from "react-aria-components";

const LOOKS = {
  primary: "bg-accent text-accent-ink hover:brightness-95",
  quiet: "border border-line bg-surface hover:bg-canvas",
  danger: "border border-line bg-surface text-bad hover:bg-bad-soft",
};

export function Button({ look = "quiet", ...props }: ButtonProps & { look?: keyof typeof LOOKS }) {
  return (
    <AriaButton
      {...props}
      className={`inline-flex items-center gap-2 rounded-lg px-3 py-1.5 font-medium disabled:opacity-50 ${LOOKS[look]}`}
    />
  );
}

export function Field({
  label,
  hint,
  placeholder,
  ...props
}: TextFieldProps & { label: string; hint?: string; placeholder?: string }) {
  return (
    <TextField {...props} className="flex flex-col gap-1">
      <Label className="font-medium">{label}</Label>
      <Input
        placeholder={placeholder ?? ""}
        className="rounded-lg border border-line bg-surface px-3 py-2 placeholder:text-muted/70"
      />
      {hint && (
        <Text slot="description" className="text-xs text-muted">
          {hint}
        </Text>
      )}
      <FieldError className="text-xs text-bad" />
    </TextField>
  );
}

export function Sheet({
  title,
  isOpen,
  onClose,
  wide = false,
  children,
}: {
  title: string;
  wide?: boolean;
  isOpen: boolean;
  onClose: () => void;
  children: ReactNode;
}) {
  return (
    <ModalOverlay
      isOpen={isOpen}
      onOpenChange={(open) => !open && onClose()}
      isDismissable
      className="fixed inset-0 z-10 flex items-center justify-center bg-black/40 p-4"
    >
      <Modal
        className={`max-h-full w-full overflow-auto rounded-2xl border border-line bg-raised p-6 shadow-xl ${wide ? "max-w-3xl" : "max-w-lg"}`}
      >
        <Dialog className="space-y-4 outline-none">
          <Heading slot="title" className="text-lg font-semibold">
            {title}
          </Heading>
          {children}
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}

/** A secret or a snippet with a button that copies it. */
export function Copyable({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  return (
    <div className="flex items-start gap-2 rounded-lg border border-line bg-canvas p-3">
      <pre tabIndex={0} aria-label={label} role="region" className="min-w-0 flex-1 overflow-x-auto font-mono text-xs leading-relaxed">{text}</pre>
      <AriaButton
        aria-label={copied ? "Copied" : `Copy ${label}`}
        onPress={() => void copy()}
        className="rounded p-1 text-muted hover:text-ink"
      >
        {copied ? <Check className="size-4 text-good" /> : <Copy className="size-4" />}
      </AriaButton>
    </div>
  );
}

/** One of a few, side by side. */
export function Segments({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: string;
  options: (readonly [string, string])[];
  onChange: (value: string) => void;
}) {
  return (
    <div role="radiogroup" aria-label={label} className="inline-flex rounded-lg border border-line p-0.5">
      {options.map(([name, text]) => (
        <label
          key={name}
          className="cursor-pointer rounded-md px-2.5 py-1 text-muted has-checked:bg-accent-soft has-checked:text-accent has-focus-visible:outline-2 has-focus-visible:outline-accent"
        >
          <input
            type="radio"
            name={label}
            value={name}
            checked={value === name}
            onChange={() => onChange(name)}
            className="sr-only"
          />
          {text}
        </label>
      ))}
    </div>
  );
}

/** One of many, by the browser's own list. */
export function Choice({
  label,
  value,
  options,
  onChange,
  name,
  all = "All",
  hideLabel = false,
  narrow = false,
}: {
  label: string;
  /** For screen readers alone: what it chooses is plain from where it stands. */
  hideLabel?: boolean;
  /** Small on a phone, where it stands in a table. */
  narrow?: boolean;
  value?: string;
  options: (readonly [string, string])[];
  onChange?: (value: string) => void;
  name?: string;
  /** What choosing nothing is called; no such entry where it is null. */
  all?: string | null;
}) {
  return (
    <label className={`flex flex-col gap-1 ${name ? "" : "text-xs text-muted"}`}>
      <span className={hideLabel ? "sr-only" : name ? "font-medium" : ""}>{label}</span>
      <select
        {...(onChange ? { value: value ?? "" } : { defaultValue: value ?? "" })}
        {...(name ? { name } : {})}
        onChange={(event) => onChange?.(event.target.value)}
        className={`${narrow ? "max-w-24 sm:max-w-64" : "min-w-28 max-w-64"} rounded-lg border border-line bg-surface px-2 py-2 text-sm text-ink`}
      >
        {all !== null && <option value="">{all}</option>}
        {options.map(([id, text]) => (
          <option key={id} value={id}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}
