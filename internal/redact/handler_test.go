package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

type lazy struct{ text string }

func (l lazy) LogValue() slog.Value {
	return slog.GroupValue(slog.String("text", l.text), slog.Any("deep", lazier(l)))
}

type lazier struct{ text string }

func (l lazier) LogValue() slog.Value { return slog.StringValue(l.text) }

type texted struct{ text string }

func (x texted) MarshalText() ([]byte, error) { return []byte(x.text), nil }

type panics struct{}

func (panics) MarshalJSON() ([]byte, error) { panic("hush-hush") }

type broken struct{ Text string }

func (b broken) MarshalJSON() ([]byte, error) { return nil, errors.New("no JSON") }

func TestHandler(t *testing.T) {
	r := New("hush-hush", "4711", "pa\"ss\\word")
	log := func(log *slog.Logger) {
		log = log.With("bound", "hush-hush").WithGroup("g-hush-hush").With("in group", []string{"a", "hush-hush"})
		log.Info("message of hush-hush",
			"error", errors.New("refused: hush-hush"), "key hush-hush", 1, "number", 4711, "text", `pa"ss\word`, "bytes", []byte("hush-hush"),
			"raw", json.RawMessage(`{"z":"hush-hush","a":4711}`), "valuer", lazy{"hush-hush"}, slog.Group("inner", "x", "hush-hush"),
			"map", map[string]any{"hush-hush": []any{"hush-hush", 4711}}, "struct", struct{ A string }{`pa"ss\word`}, "texted", texted{"hush-hush"},
			"panics", panics{}, "broken", broken{"hush-hush"}, "nil", nil, "took", 3*time.Second, "true", true,
		)
	}
	var asJSON, asText bytes.Buffer
	log(slog.New(r.Handler(slog.NewJSONHandler(&asJSON, nil))))
	log(slog.New(r.Handler(slog.NewTextHandler(&asText, nil))))
	for _, shown := range []string{asJSON.String(), asText.String()} {
		for _, secret := range []string{"hush", "4711", "pa\\", "word"} {
			if strings.Contains(shown, secret) {
				t.Errorf("%s is in %s", secret, shown)
			}
		}
	}
	var line struct {
		Msg   string
		Bound string
		Group struct {
			InGroup []string `json:"in group"`
			Number  string
			Raw     json.RawMessage
			Valuer  struct{ Text, Deep string }
			Inner   struct{ X string }
			Struct  struct{ A string }
			Texted  string
			Took    int64
			True    bool
		} `json:"g-********"`
	}
	if err := json.Unmarshal(asJSON.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	g := line.Group
	if line.Msg != "message of "+Mask || line.Bound != Mask || g.InGroup[1] != Mask || g.Number != Mask || string(g.Raw) != `{"z":"********","a":"********"}` ||
		g.Valuer.Text != Mask || g.Valuer.Deep != Mask || g.Inner.X != Mask || g.Struct.A != Mask || g.Texted != Mask || g.Took != 3e9 || !g.True {
		t.Errorf("%+v", line)
	}
}

// TestHandlerKnowsLaterSecrets: a logger made before a secret was known hides it.
func TestHandlerKnowsLaterSecrets(t *testing.T) {
	r := New()
	var out bytes.Buffer
	log := slog.New(r.Handler(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	r.Keep("hush-hush")
	log.Info("too low")
	log.Warn("hush-hush")
	if strings.Contains(out.String(), "hush") || strings.Contains(out.String(), "too low") || !strings.Contains(out.String(), Mask) {
		t.Error(out.String())
	}
}
