package prefect

import (
	"context"
	"encoding/json"
	"net/http"
)

// BlockDocument reads a block document by its id, with its secrets.
func (c *Client) BlockDocument(ctx context.Context, id string) (json.RawMessage, error) {
	return do[json.RawMessage](ctx, c, call{
		op: "read block document " + id, method: http.MethodGet,
		path: "/block_documents/" + seg(id) + "?include_secrets=true",
	})
}

// BlockDocumentByName reads a block document by the slug of its type and its
// name, with its secrets.
func (c *Client) BlockDocumentByName(ctx context.Context, typeSlug, name string) (json.RawMessage, error) {
	return do[json.RawMessage](ctx, c, call{
		op: "read block document " + typeSlug + "/" + name, method: http.MethodGet,
		path: "/block_types/slug/" + seg(typeSlug) + "/block_documents/name/" + seg(name) + "?include_secrets=true",
	})
}

// Variable is the JSON value of a variable; an Error of kind NotFound if there
// is none.
func (c *Client) Variable(ctx context.Context, name string) (json.RawMessage, error) {
	variable, err := do[struct {
		Value json.RawMessage `json:"value"`
	}](ctx, c, call{op: "read variable " + name, method: http.MethodGet, path: "/variables/name/" + seg(name)})
	return variable.Value, err
}
