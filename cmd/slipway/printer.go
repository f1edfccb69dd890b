package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"

	"slipway/internal/redact"
	"slipway/render"
)

// printer prints what `slipway render` tells, without secrets.
type printer struct {
	out      *bytes.Buffer
	redactor *redact.Redactor
}

func (p printer) line(format string, args ...any) {
	fmt.Fprintln(p.out, p.redactor.Text(fmt.Sprintf(format, args...)))
}

// job prints a manifest as yaml or json. Secrets are hidden value by value, so that
// the document stays one whatever they are.
func (p printer) job(manifest []byte, format string) error {
	manifest = p.redactor.JSON(manifest)
	if format == "json" {
		if err := json.Indent(p.out, manifest, "", "  "); err != nil {
			return err
		}
		p.out.WriteByte('\n')
		return nil
	}
	document, err := yaml.JSONToYAML(manifest)
	if err != nil {
		return err
	}
	p.out.Write(document)
	return nil
}

// origins prints where each value of a Job comes from.
func (p printer) origins(origins []render.Origin) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PATH\tFROM\tVARIABLE\tVALUE")
	for _, o := range origins {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.redactor.Text(o.Path), strings.Join(o.Sources, ", "), strings.Join(o.Variables, ", "), p.redactor.JSON([]byte(o.Value)))
	}
	return w.Flush()
}
