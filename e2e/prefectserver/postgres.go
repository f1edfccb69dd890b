package prefectserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"slipway/e2e/process"
)

// Postgres is a running PostgreSQL with an empty database for Prefect. Stop it.
type Postgres struct {
	URL     string // as SQLAlchemy wants it
	bin     string // folder of PostgreSQL's programs
	port    int
	process *process.Process
}

// StartPostgres makes a database in dir and serves it on loopback. It needs
// Debian's package postgresql or another with initdb.
func StartPostgres(ctx context.Context, dir string) (*Postgres, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	credential, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	init := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", data, "--username", "prefect", "--auth", "trust", "--encoding", "UTF8", "--no-sync")
	init.SysProcAttr, init.Dir = &syscall.SysProcAttr{Credential: credential}, dir
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	p, err := process.Start(process.Spec{
		Name: "postgres", Dir: dir, Credential: credential,
		Args: []string{filepath.Join(bin, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-k", dir,
			"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "max_connections=200"},
	})
	if err != nil {
		return nil, err
	}
	pg := &Postgres{URL: databaseURL(port, "postgres"), bin: bin, port: port, process: p}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = p.WaitFor(ctx, "readiness", func(ctx context.Context) error {
		return exec.CommandContext(ctx, filepath.Join(bin, "pg_isready"), "-h", "127.0.0.1", "-p", strconv.Itoa(port)).Run()
	})
	if err != nil {
		pg.Stop()
		return nil, err
	}
	return pg, nil
}

func databaseURL(port int, name string) string {
	return fmt.Sprintf("postgresql+asyncpg://prefect@127.0.0.1:%d/%s", port, name)
}

// CreateDatabase makes one more empty database and returns its URL.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(p.bin, "createdb"), "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "prefect", name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("createdb %s: %w\n%s", name, err, out)
	}
	return databaseURL(p.port, name), nil
}

// Stop ends PostgreSQL.
func (p *Postgres) Stop() { p.process.Stop(10 * time.Second) }

// PreflightPostgres reports whether PostgreSQL is missing.
func PreflightPostgres() error {
	_, err := postgresBin()
	return err
}

// postgresBin finds the folder of initdb and postgres: Debian keeps both out of
// PATH, and a link to one there does not bring the other.
func postgresBin() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	slices.Sort(found)
	slices.Reverse(found)
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			found = append(found, real)
		}
	}
	for _, path := range found {
		dir := filepath.Dir(path)
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("PostgreSQL is not installed: initdb and postgres are needed (Debian: apt-get install postgresql)")
}

// unprivileged gives dir to another user when this one is root, whom PostgreSQL
// refuses. The folders above dir must let that user pass.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses root, and there is neither a user postgres nor nobody")
}
