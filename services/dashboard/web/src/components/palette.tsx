/** Where to go, by typing a few letters of it: pages, keys, models, templates, or the id of a request. */
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import {
  Autocomplete,
  Collection,
  Dialog,
  Header,
  Input,
  Menu,
  MenuItem,
  MenuSection,
  Modal,
  ModalOverlay,
  SearchField,
  useFilter,
} from "react-aria-components";

import { keysQuery, modelsQuery } from "../api/queries";
import { templatesQuery } from "../api/templates";

type Place = { to: string; label: string };
type Entry = { id: string; text: string; go: () => void };

/** What a request, or what is written down of it, is named by. */
const REQUEST = /^(req|use)_[0-9A-Za-z]{26}$/;
/** Of each kind, so that a thousand models do not bury the rest. */
const EACH_MAX = 50;

export default function Palette({ places, onClose }: { places: readonly Place[]; onClose: () => void }) {
  const navigate = useNavigate();
  const { contains } = useFilter({ sensitivity: "base" });
  const keys = useQuery(keysQuery).data ?? [];
  const models = useQuery(modelsQuery).data ?? [];
  const templates = useQuery(templatesQuery).data ?? [];
  const [text, setText] = useState("");
  const fits = (name: string) => contains(name, text.trim());
  const typed = text.trim();
  const sections: [string, Entry[]][] = [
    [
      "Requests",
      REQUEST.test(typed)
        ? [{ id: typed, text: typed, go: () => void navigate({ to: "/logs/$requestId", params: { requestId: typed } }) }]
        : [],
    ],
    ["Pages", places.filter((one) => fits(one.label)).map((one) => ({ id: one.to, text: one.label, go: () => void navigate({ to: one.to }) }))],
    [
      "Requests of a key",
      keys
        .filter((one) => fits(one.label))
        .map((one) => ({ id: one.key_id, text: one.label, go: () => void navigate({ to: "/logs", search: { key_id: one.key_id } }) })),
    ],
    [
      "Templates",
      templates
        .filter((one) => fits(one.content.name))
        .map((one) => ({
          id: one.template_id,
          text: one.content.name,
          go: () => void navigate({ to: "/templates/$templateId", params: { templateId: one.template_id } }),
        })),
    ],
    [
      "Models, in the playground",
      models
        .filter((one) => fits(one.model_id))
        .map((one) => ({ id: `model ${one.model_id}`, text: one.model_id, go: () => void navigate({ to: "/playground", search: { model: one.model_id } }) })),
    ],
  ];
  const shown = sections.map(([id, entries]) => ({ id, entries: entries.slice(0, EACH_MAX) })).filter((one) => one.entries.length);
  const chosen = (id: string) => {
    onClose();
    shown.flatMap((one) => one.entries).find((one) => one.id === id)?.go();
  };
  return (
    <ModalOverlay
      isOpen
      onOpenChange={(open) => !open && onClose()}
      isDismissable
      className="fixed inset-0 z-10 flex items-start justify-center bg-black/40 p-4 pt-[12dvh]"
    >
      <Modal className="w-full max-w-lg overflow-hidden rounded-2xl border border-line bg-raised shadow-xl">
        <Dialog aria-label="Go to" className="outline-none">
          <Autocomplete inputValue={text} onInputChange={setText}>
            <SearchField aria-label="Go to" autoFocus className="border-b border-line">
              <Input
                placeholder="A page, key, template, model, or the id of a request"
                className="w-full bg-transparent px-4 py-3 outline-none placeholder:text-muted"
              />
            </SearchField>
            <div tabIndex={0} role="region" aria-label="What fits" className="max-h-[50dvh] overflow-auto p-2">
              <Menu
                items={shown}
                aria-label="Places"
                onAction={(id) => chosen(String(id))}
                renderEmptyState={() => <p className="px-4 py-8 text-center text-muted">Nothing of that name</p>}
                className="outline-none"
              >
                {(section) => (
                  <MenuSection id={section.id} className="not-first:mt-2">
                    <Header className="px-2 py-1 text-xs text-muted">{section.id}</Header>
                    <Collection items={section.entries}>
                      {(entry) => (
                        <MenuItem id={entry.id} textValue={entry.text} className="cursor-pointer truncate rounded-md px-2 py-1.5 outline-none focus:bg-accent-soft focus:text-accent data-focused:bg-accent-soft data-focused:text-accent">
                          {entry.text}
                        </MenuItem>
                      )}
                    </Collection>
                  </MenuSection>
                )}
              </Menu>
            </div>
          </Autocomplete>
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}
