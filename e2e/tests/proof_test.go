package tests

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// full asks for the whole proof (`make proof`); CI runs small versions.
var full = os.Getenv("PROOF") == "full"

// seed is of all that is drawn; PROOF_SEED repeats a run.
var seed = func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("PROOF_SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
}()

// proven is a row of the proof's table.
type proven struct {
	what                                             string
	faults, runs, jobs, lost, doubled, stuck, harmed int
	note                                             string
}

var proof struct {
	mu   sync.Mutex
	rows []proven
}

// prove waits until runs are COMPLETED, holds each to one Job and one execution,
// and adds a row to the table.
func prove(t *testing.T, what, prefix string, faults int, ids []string, limit time.Duration, note string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	row := proven{what: what, faults: faults, runs: len(ids), note: note}
	for _, id := range ids {
		if run, err := w.Prefect.WaitForState(ctx, id, "COMPLETED"); err != nil {
			row.stuck++
			t.Errorf("%v\n%s", err, w.Story(t.Context(), id))
			if row.stuck == 1 {
				t.Logf("%+v", run)
			}
		}
	}
	count := once(t, prefix, ids)
	row.jobs, row.lost, row.doubled = count.jobs, count.lost, count.doubled
	record(row)
}

func record(row proven) {
	proof.mu.Lock()
	defer proof.mu.Unlock()
	proof.rows = append(proof.rows, row)
}

// printProof prints the table of what was proven in this run.
func printProof(out io.Writer) {
	if len(proof.rows) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "PROOF (PROOF_SEED=%d)\tFAULTS\tRUNS\tJOBS\tLOST\tDOUBLED\tSTUCK\tHARMED\t\n", seed)
	for _, r := range proof.rows {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", r.what, r.faults, r.runs, r.jobs, r.lost, r.doubled, r.stuck, r.harmed, r.note)
	}
	_ = w.Flush()
}
