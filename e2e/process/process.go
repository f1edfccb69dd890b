// Package process runs the servers of the test world as children that go when
// the test goes.
package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Spec of a child.
type Spec struct {
	Name       string // names its log file
	Args       []string
	Dir        string              // working directory, and where the log goes
	Env        []string            // nil: the parent's
	Credential *syscall.Credential // nil: the parent's
}

// Process is a running child, in a process group of its own.
type Process struct {
	Name string
	Log  string // path
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start begins a child. It is killed with its group on Stop, and by the kernel
// when the parent dies (Linux).
func Start(s Spec) (*Process, error) {
	log, err := os.OpenFile(filepath.Join(s.Dir, s.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", s.Name, err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(s.Args[0], s.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.Dir, s.Env, log, log
	cmd.SysProcAttr = attributes(s.Credential)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	p := &Process{Name: s.Name, Log: log.Name(), cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Stop ends the child's group: politely, and after grace for good.
func (p *Process) Stop(grace time.Duration) {
	if p == nil {
		return
	}
	group := -p.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
	}
	// Members of the group may outlive its leader.
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-p.done
}

// Exited is closed when the child has ended.
func (p *Process) Exited() <-chan struct{} { return p.done }

// WaitFor repeats a check until it passes. It fails when the child ends or the
// context does, with the end of the child's log.
func (p *Process) WaitFor(ctx context.Context, what string, check func(context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended (%w) before %s; its log ends with:\n%s", p.Name, errors.Join(p.err, err), what, p.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("%s: %s did not come about: %w; its log ends with:\n%s", p.Name, what, errors.Join(context.Cause(ctx), err), p.Tail(20))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Tail is the end of the child's log.
func (p *Process) Tail(lines int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// FreePort finds a port of the loopback interface that nobody uses now.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
