package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Cost is what some work took.
type Cost struct {
	Wall     time.Duration
	CPU      time.Duration // user and system, of the process itself
	Memory   int64         // peak resident set, in bytes
	Requests int64         // to Prefect
}

// meter is a proxy before Prefect that counts requests.
type meter struct {
	*httptest.Server
	requests atomic.Int64
}

func newMeter(target string) (*meter, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	m := &meter{}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 100}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	return m, nil
}

// run measures a program from start to exit.
func (m *meter) run(cmd *exec.Cmd) (Cost, error) {
	before, started := m.requests.Load(), time.Now()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return Cost{}, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.String())
	}
	c := Cost{Wall: time.Since(started), Requests: m.requests.Load() - before}
	c.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.Memory = usage.Maxrss * maxrssUnit
	}
	return c, nil
}
