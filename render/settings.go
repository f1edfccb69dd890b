package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// setting is one of Prefect's settings.
type setting struct {
	kind  byte
	names []string // the first is the one passed on; any is taken, the earlier ones first
}

type settingsTable func() []setting

func parseSettings(text string) settingsTable {
	return sync.OnceValue(func() []setting {
		var table []setting
		for line := range strings.Lines(strings.TrimSpace(text)) {
			words := strings.Fields(line)
			table = append(table, setting{kind: words[0][0], names: words[1:]})
		}
		return table
	})
}

var (
	settings3 = parseSettings(settings3Text)
	settings2 = parseSettings(settings2Text)
)

// settingsEnv is what a worker with this environment passes on: its settings, in
// the order of the model and spelled as they are after parsing.
func (r rules) settingsEnv(environ map[string]string) (*object, error) {
	given := map[string]string{}
	for name, value := range environ {
		given[strings.ToUpper(name)] = value
	}
	// Exact spelling wins over another case.
	for name, value := range environ {
		if strings.ToUpper(name) == name {
			given[name] = value
		}
	}
	if r.attribution {
		r.impliedSettings(given, testMode(environ))
	}
	env := newObject()
	for _, s := range r.settings() {
		for _, name := range s.names {
			value, ok := given[name]
			if !ok {
				continue
			}
			text, err := s.spell(value, r.laxStrings)
			if err != nil {
				return nil, &Fault{At: "settings", Kind: "ValidationError", Path: name, Message: err.Error()}
			}
			env.set(s.names[0], text)
			break
		}
	}
	if r.attribution {
		overruledLevels(env)
	}
	return env, nil
}

// impliedSettings are those that a 3.x worker passes on though nobody set them:
// without a profiles file its built-in profile counts, unless it is in a test mode
// and reads no profile; and Prefect Cloud bounds the size of log lines.
func (r rules) impliedSettings(given map[string]string, testMode bool) {
	const ephemeral = "PREFECT_SERVER_EPHEMERAL_ENABLED"
	if _, ok := given["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"]; !ok && !testMode {
		if _, ok := given[ephemeral]; !ok {
			given[ephemeral] = "True"
		}
	}
	cloud := orText(given["PREFECT_CLOUD_API_URL"], "https://api.prefect.cloud/api")
	if strings.HasPrefix(given["PREFECT_API_URL"], cloud) {
		given["PREFECT_LOGGING_TO_API_MAX_LOG_SIZE"] = "25000"
	}
}

// testMode is true where Prefect 3 reads no profile (prefect/settings/sources.py):
// a variable that is not empty counts, "false" too, and only in this spelling.
func testMode(environ map[string]string) bool {
	for _, name := range []string{"PREFECT_TEST_MODE", "PREFECT_UNIT_TEST_MODE", "PREFECT_TESTING_UNIT_TEST_MODE", "PREFECT_TESTING_TEST_MODE"} {
		if environ[name] != "" {
			return true
		}
	}
	return false
}

// overruledLevels removes the logging levels that debug mode and test mode overrule.
func overruledLevels(env *object) {
	if textOf(env, "PREFECT_DEBUG_MODE") == "True" || textOf(env, "PREFECT_TESTING_TEST_MODE") == "True" {
		env.remove("PREFECT_LOGGING_LEVEL")
		env.remove("PREFECT_INTERNAL_LOGGING_LEVEL")
	}
}

func (s setting) spell(value string, pydantic1 bool) (string, error) {
	f := fields{rules: rules{laxStrings: pydantic1}}
	switch s.kind {
	case 'b':
		b, ok := booleans[strings.ToLower(value)]
		if !ok {
			return "", fmt.Errorf("must be a boolean")
		}
		return str(b), nil
	case 'i':
		n, ok := f.asInteger(value)
		if !ok {
			return "", fmt.Errorf("must be an integer")
		}
		return n.String(), nil
	case 'f':
		n, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(value), "_", ""), 64)
		if err != nil {
			return "", fmt.Errorf("must be a number")
		}
		return string(pythonFloat(n)), nil
	case 'u':
		level := strings.ToUpper(value)
		if !slices.Contains([]string{"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}, level) {
			return "", fmt.Errorf("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
		}
		return level, nil
	case 'r':
		return retryDelays(value)
	case 'l', 'c':
		return sortedSet(value), nil
	case 'd':
		return jsonObject(value)
	default:
		return value, nil
	}
}

// retryDelays are one delay, kept as it is, or several, read as floats and
// sorted by their text.
func retryDelays(value string) (string, error) {
	if !strings.Contains(value, ",") {
		return strings.TrimSpace(value), nil
	}
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		n, err := strconv.ParseFloat(item, 64)
		if err != nil {
			return "", fmt.Errorf("must be numbers of seconds, separated by commas")
		}
		items = append(items, string(pythonFloat(n)))
	}
	slices.Sort(items)
	return strings.Join(items, ","), nil
}

func sortedSet(value string) string {
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" && !slices.Contains(items, item) {
			items = append(items, item)
		}
	}
	slices.Sort(items)
	return strings.Join(items, ",")
}

// jsonObject spells an object as Python's json.dumps does.
func jsonObject(value string) (string, error) {
	parsed, err := parse([]byte(value))
	o, ok := parsed.(*object)
	if err != nil || !ok {
		return "", fmt.Errorf("must be a JSON object")
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, k := range o.keys {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s: %s", asciiJSON(k), asciiJSON(o.vals[k]))
	}
	b.WriteByte('}')
	return b.String(), nil
}

// asciiJSON writes a value as JSON with everything beyond ASCII escaped.
func asciiJSON(value any) string {
	var b strings.Builder
	for _, r := range string(marshal(value)) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		}
	}
	return b.String()
}

func settingOn(environ map[string]string, name string, otherwise bool) bool {
	value, ok := environ[name]
	if !ok {
		return otherwise
	}
	return booleans[strings.ToLower(strings.TrimSpace(value))]
}

// integration reads a setting of prefect-kubernetes, whose names are matched in
// any case.
func integration(environ map[string]string, names ...string) (string, bool) {
	for _, name := range names {
		if value, ok := environ[name]; ok {
			return value, true
		}
		for given, value := range environ {
			if strings.EqualFold(given, name) {
				return value, true
			}
		}
	}
	return "", false
}
