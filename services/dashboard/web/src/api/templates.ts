/** Templates as TanStack Query hooks. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";

import { api, bodyOf, type Schemas } from "./client";

export const templatesQuery = queryOptions({
  queryKey: ["templates"],
  queryFn: async () => bodyOf(await api.GET("/api/templates")),
});

export const templateQuery = (id: string) =>
  queryOptions({
    queryKey: ["templates", id],
    queryFn: async () =>
      bodyOf(
        await api.GET("/api/templates/{template_id}", { params: { path: { template_id: id } } }),
      ),
  });

export const versionsQuery = (id: string) =>
  queryOptions({
    queryKey: ["templates", id, "versions"],
    queryFn: async () =>
      bodyOf(
        await api.GET("/api/templates/{template_id}/versions", {
          params: { path: { template_id: id } },
        }),
      ),
  });

/** A change after which every list and version is asked for again. */
function useTemplateChange<Input, Output>(change: (input: Input) => Promise<Output>) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: change,
    onSuccess: () => client.invalidateQueries({ queryKey: ["templates"] }),
  });
}

export const useSaveTemplate = () =>
  useTemplateChange(async ({ id, body }: { id: string | null; body: Schemas["TemplateIn"] }) =>
    bodyOf(
      id === null
        ? await api.POST("/api/templates", { body })
        : await api.PUT("/api/templates/{template_id}", {
            params: { path: { template_id: id } },
            body,
          }),
    ),
  );

export const useDeleteTemplate = () =>
  useTemplateChange(async (id: string) => {
    await api.DELETE("/api/templates/{template_id}", { params: { path: { template_id: id } } });
  });

export const useRestoreVersion = () =>
  useTemplateChange(async ({ id, version }: { id: string; version: number }) =>
    bodyOf(
      await api.POST("/api/templates/{template_id}/versions/{version}/restore", {
        params: { path: { template_id: id, version } },
      }),
    ),
  );
