package dispatch

import (
	"context"
	"errors"

	"slipway/kube"
	"slipway/render"
)

// putSecrets writes the Secrets that the Job refers to, before the Job. No
// attempt at it makes a Job, so a failure always lets the claim be given back.
func (f *flight) putSecrets(ctx context.Context) bool {
	for _, secret := range f.job.Secrets {
		if err := f.putSecret(ctx, secret); err != nil {
			f.secretFailed(ctx, err)
			return false
		}
	}
	return true
}

func (f *flight) putSecret(ctx context.Context, secret render.Secret) error {
	for attempt := 0; ; attempt++ {
		err := f.Kube.PutSecret(ctx, secret.Namespace, secret.Name, secret.Body)
		if err == nil || kube.KindOf(err) == kube.Refused || attempt+1 == patience {
			return err
		}
		if f.Sleep(ctx, pause(attempt, err)) != nil {
			return err
		}
	}
}

func (f *flight) secretFailed(ctx context.Context, err error) {
	f.dropSecrets(ctx)
	var e *kube.Error
	errors.As(err, &e)
	if kube.KindOf(err) == kube.Refused {
		f.crash(ctx, "Slipway cannot create the Secret of this flow run's Job: "+f.plain(err)+hint(e))
		return
	}
	f.unclaim(ctx, f.plain(err), 0)
}

// dropSecrets removes the Secrets made for a Job that will not be made. Those
// shared by Jobs stay.
func (f *flight) dropSecrets(ctx context.Context) {
	for _, secret := range f.job.Secrets {
		if !secret.OwnedByJob {
			continue
		}
		if err := f.Kube.DeleteSecret(ctx, secret.Namespace, secret.Name); err != nil {
			f.line.Warnings = append(f.line.Warnings, f.plain(err))
		}
	}
}
