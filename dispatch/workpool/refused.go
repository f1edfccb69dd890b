package workpool

import (
	"context"

	"slipway/kube"
)

// ConfirmRefused repeats a read that the API server refuses, once that server is ready:
// one that is starting refuses everybody (seen on kube-apiserver 1.36.3). What it returns
// is refused (kube.IsRefused) only if these rights are really missing, or the namespace is.
func (s *Session) ConfirmRefused(ctx context.Context, read func() error) error {
	err := read()
	if !kube.IsRefused(err) {
		return err
	}
	if notReady := s.Kube.Ready(ctx); notReady != nil && !kube.IsRefused(notReady) {
		return notReady
	}
	return read()
}
