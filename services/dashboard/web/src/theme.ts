/** Light, dark, or as the system has it; remembered in this browser. */
import { useEffect, useState } from "react";

export type Theme = "system" | "light" | "dark";
const PLACE = "mesh-theme";

function stored(): Theme {
  const found = localStorage.getItem(PLACE);
  return found === "light" || found === "dark" ? found : "system";
}

export function applyTheme(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState(stored);
  useEffect(() => applyTheme(theme), [theme]);
  return [
    theme,
    (next) => {
      localStorage.setItem(PLACE, next);
      setTheme(next);
    },
  ];
}

export const rememberedTheme = stored;
