package prefect

import (
	"context"
	"encoding/json"
	"net/http"
)

// Automation is one as the server stores it.
type Automation struct {
	ID   string
	Name string
	Doc  map[string]any // the whole document
}

// UnmarshalJSON keeps the document beside the fields.
func (a *Automation) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &a.Doc); err != nil {
		return err
	}
	a.ID, _ = a.Doc["id"].(string)
	a.Name, _ = a.Doc["name"].(string)
	return nil
}

// Automations reads those of some names, or all for nil. A server whose events are
// off, as 2.20's are unless it is told otherwise, answers with an Error of kind
// NotFound.
func (c *Client) Automations(ctx context.Context, names []string) ([]Automation, error) {
	body := map[string]any{"sort": "NAME_ASC"}
	if names != nil {
		body["automations"] = map[string]any{"name": anyOf(names...)}
	}
	return readAll[Automation](ctx, c, call{op: "read automations", method: http.MethodPost, path: "/automations/filter"}, body, 0)
}

// CreateAutomation makes one.
func (c *Client) CreateAutomation(ctx context.Context, automation any) error {
	_, err := do[any](ctx, c, call{op: "create an automation", method: http.MethodPost, path: "/automations/", body: automation})
	return err
}

// UpdateAutomation puts a whole one in the place of another.
func (c *Client) UpdateAutomation(ctx context.Context, id string, automation any) error {
	_, err := do[any](ctx, c, call{op: "change automation " + id, method: http.MethodPut, path: "/automations/" + seg(id), body: automation})
	return err
}

// DeleteAutomation removes one.
func (c *Client) DeleteAutomation(ctx context.Context, id string) error {
	_, err := do[any](ctx, c, call{op: "delete automation " + id, method: http.MethodDelete, path: "/automations/" + seg(id)})
	return err
}

// BlockKind is a block type with the newest of its schemas.
type BlockKind struct{ TypeID, SchemaID string }

// BlockKind reads the type of a slug.
func (c *Client) BlockKind(ctx context.Context, slug string) (BlockKind, error) {
	type object struct {
		ID string `json:"id"`
	}
	kind, err := do[object](ctx, c, call{op: "read block type " + slug, method: http.MethodGet, path: "/block_types/slug/" + seg(slug)})
	if err != nil {
		return BlockKind{}, err
	}
	schemas, err := do[[]object](ctx, c, call{op: "read the schemas of block type " + slug, method: http.MethodPost, path: "/block_schemas/filter", body: map[string]any{
		"block_schemas": map[string]any{"block_type_id": anyOf(kind.ID)}, "limit": 1,
	}})
	if err == nil && len(schemas) == 0 {
		err = &Error{Op: "read the schemas of block type " + slug, Kind: NotFound, Detail: "it has none"}
	}
	if err != nil {
		return BlockKind{}, err
	}
	return BlockKind{TypeID: kind.ID, SchemaID: schemas[0].ID}, nil
}

// CreateBlockDocument makes a block document and returns its id.
func (c *Client) CreateBlockDocument(ctx context.Context, kind BlockKind, name string, data any) (string, error) {
	made, err := do[struct {
		ID string `json:"id"`
	}](ctx, c, call{op: "create block document " + name, method: http.MethodPost, path: "/block_documents/", body: map[string]any{
		"name": name, "block_type_id": kind.TypeID, "block_schema_id": kind.SchemaID, "data": data,
	}})
	return made.ID, err
}

// UpdateBlockDocument puts other data into a block document.
func (c *Client) UpdateBlockDocument(ctx context.Context, id string, kind BlockKind, data any) error {
	_, err := do[any](ctx, c, call{op: "change block document " + id, method: http.MethodPatch, path: "/block_documents/" + seg(id), body: map[string]any{
		"block_schema_id": kind.SchemaID, "data": data, "merge_existing_data": false,
	}})
	return err
}

// DeleteBlockDocument removes one.
func (c *Client) DeleteBlockDocument(ctx context.Context, id string) error {
	_, err := do[any](ctx, c, call{op: "delete block document " + id, method: http.MethodDelete, path: "/block_documents/" + seg(id)})
	return err
}
