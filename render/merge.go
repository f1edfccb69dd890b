package render

import (
	"fmt"
	"strings"
)

// jobVariables lays the flow run's job variables over the deployment's: env
// entry by entry where the deployment's is a mapping, all others whole.
func jobVariables(deployment, flowRun *object) (*object, error) {
	merged := deployment.clone()
	over := flowRun.clone()
	if base, ok := merged.vals["env"].(*object); ok {
		env := base.clone()
		if extra, ok := over.get("env"); ok {
			if err := pythonUpdate(env, extra); err != nil {
				return nil, &Fault{At: "merge", Kind: "ValueError", Path: "job_variables.env",
					Message: "the flow run's job variable env cannot be laid over the deployment's: " + err.Error()}
			}
			over.remove("env")
		}
		merged.set("env", env)
	}
	merged.update(over)
	return merged, nil
}

// mixedEnv tells whether a list is to be laid over a mapping.
func mixedEnv(deployment, flowRun *object) bool {
	base, _ := deployment.get("env")
	extra, _ := flowRun.get("env")
	list, isList := extra.([]any)
	return isObject(base) && isList && len(list) > 0
}

// pythonUpdate is dict.update with whatever it is given: a mapping, or a
// sequence of pairs, and a mapping of two keys is such a pair.
func pythonUpdate(into *object, from any) error {
	switch v := from.(type) {
	case *object:
		into.update(v)
		return nil
	case string:
		if v == "" {
			return nil
		}
	case []any:
		for i, item := range v {
			key, value, ok := pair(item)
			if !ok {
				return fmt.Errorf("expected an object of names and values, and item %d is %s", i, typeName(item))
			}
			into.set(key, value)
		}
		return nil
	}
	return fmt.Errorf("expected an object of names and values, not %s", typeName(from))
}

func pair(item any) (key string, value any, ok bool) {
	switch v := item.(type) {
	case []any:
		if len(v) == 2 {
			key, ok = v[0].(string)
			return key, v[1], ok
		}
	case *object:
		if len(v.keys) == 2 {
			return v.keys[0], v.keys[1], true
		}
	case string:
		if r := []rune(v); len(r) == 2 {
			return string(r[0]), string(r[1]), true
		}
	}
	return "", nil, false
}

// merge makes the job configuration to be filled and the values to fill it with:
// the pool's defaults, and the job variables over them by top-level key.
func (t *Template) merge(overrides *object) (config, values *object, err error) {
	config = t.config.clone()
	values = t.defaults.clone()
	if env := values.vals["env"]; truthy(env) {
		base, isMapping := config.vals["env"].(*object)
		if !t.rules.mergeEnv || !isMapping {
			config.set("env", env)
		} else if config, err = withEnv(config, base, env, "the work pool's default"); err != nil {
			return nil, nil, err
		}
	}
	if t.rules.dottedKeys {
		if overrides, err = expandDots(overrides); err != nil {
			return nil, nil, err
		}
	}
	values.update(overrides)
	if base, ok := config.vals["env"].(*object); ok && truthy(values.vals["env"]) {
		config, err = withEnv(config, base, values.vals["env"], "the job variable")
	}
	return config, values, err
}

func withEnv(config, base *object, over any, whose string) (*object, error) {
	extra, ok := over.(*object)
	if !ok {
		return nil, &Fault{At: "template", Kind: "TypeError", Path: "job_configuration.env",
			Message: fmt.Sprintf("%s env is %s and cannot be laid over a mapping: write it as an object of names and values", whose, typeName(over))}
	}
	env := base.clone()
	env.update(extra)
	config.set("env", env)
	return config, nil
}

// expandDots turns "a.b": v into "a": {"b": v}. What is written without dots is
// laid over that.
func expandDots(overrides *object) (*object, error) {
	out := newObject()
	for _, key := range overrides.keys {
		if strings.Contains(key, ".") {
			if err := setPath(out, key, overrides.vals[key]); err != nil {
				return nil, err
			}
		}
	}
	for _, key := range overrides.keys {
		if strings.Contains(key, ".") {
			continue
		}
		value := overrides.vals[key]
		dotted, both := out.vals[key].(*object)
		if plain, ok := value.(*object); ok && both {
			value = deepMerge(dotted, plain)
		}
		out.set(key, value)
	}
	return out, nil
}

func setPath(into *object, path string, value any) error {
	parts := strings.Split(strings.ReplaceAll(strings.ReplaceAll(path, "[", "."), "]", ""), ".")
	for _, part := range parts[:len(parts)-1] {
		next, there := into.get(part)
		if !there {
			next = newObject()
			into.set(part, next)
		}
		o, ok := next.(*object)
		if !ok {
			return &Fault{At: "template", Kind: "TypeError", Path: "job_variables." + path,
				Message: fmt.Sprintf("the job variable %q leads through %q, which holds %s and not an object", path, part, typeName(next))}
		}
		// Values given by the user are shared and must not be written to.
		o = o.clone()
		into.set(part, o)
		into = o
	}
	into.set(parts[len(parts)-1], value)
	return nil
}

func deepMerge(base, over *object) *object {
	out := base.clone()
	for _, k := range over.keys {
		value := over.vals[k]
		a, ok1 := out.vals[k].(*object)
		b, ok2 := value.(*object)
		if ok1 && ok2 {
			value = deepMerge(a, b)
		}
		out.set(k, value)
	}
	return out
}
