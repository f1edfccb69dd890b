package dispatch

import (
	"encoding/json"
	"strconv"
	"strings"
)

// The shortest text of a block that is taken for a secret: redacting "x" would
// make messages unreadable and hide nothing.
const shortestSecret = 4

// redact hides, in text that others will read, the settings' secrets and those
// of the blocks that this pass has read. Servers quote what they refuse.
func (p *pass) redact(text string) string {
	p.mu.Lock()
	hidden := p.hidden
	p.mu.Unlock()
	for _, list := range [][]string{p.Secrets, hidden} {
		for _, secret := range list {
			if secret != "" {
				text = strings.ReplaceAll(text, secret, "********")
			}
		}
	}
	return text
}

func (p *pass) redactAll(texts []string) []string {
	for i := range texts {
		texts[i] = p.redact(texts[i])
	}
	return texts
}

// plain is an error's text for others to read.
func (p *pass) plain(err error) string { return p.redact(err.Error()) }

// hide keeps a block's texts out of messages, if the block has secrets: it is of
// the type secret, or its schema names secret fields.
func (p *pass) hide(block json.RawMessage) {
	var document struct {
		Type struct {
			Slug string `json:"slug"`
		} `json:"block_type"`
		Schema struct {
			Fields struct {
				Secret []string `json:"secret_fields"`
			} `json:"fields"`
		} `json:"block_schema"`
		Data any `json:"data"`
	}
	if json.Unmarshal(block, &document) != nil || document.Type.Slug != "secret" && len(document.Schema.Fields.Secret) == 0 {
		return
	}
	texts := textsIn(document.Data, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hidden = append(p.hidden, texts...)
}

// textsIn gathers the texts of a JSON value, as they are and as a server quotes them.
func textsIn(value any, texts []string) []string {
	switch v := value.(type) {
	case string:
		if len(v) < shortestSecret {
			return texts
		}
		texts = append(texts, v)
		if quoted := strconv.Quote(v); quoted != `"`+v+`"` {
			texts = append(texts, quoted[1:len(quoted)-1])
		}
	case []any:
		for _, item := range v {
			texts = textsIn(item, texts)
		}
	case map[string]any:
		for _, item := range v {
			texts = textsIn(item, texts)
		}
	}
	return texts
}
