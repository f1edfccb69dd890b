package submit

import (
	"context"
	"errors"

	"slipway/dispatch/report"
	"slipway/kube"
	"slipway/render"
)

// putSecrets writes the Secrets that the Job refers to, before the Job; nil if all
// are there. No attempt at it makes a Job, so the owner of a claim may give it back.
func (s *submission) putSecrets(ctx context.Context) *Result {
	for _, secret := range s.Job.Secrets {
		if err := s.putSecret(ctx, secret); err != nil {
			return s.secretFailed(ctx, err)
		}
	}
	return nil
}

func (s *submission) putSecret(ctx context.Context, secret render.Secret) error {
	for attempt := 0; ; attempt++ {
		err := s.Session.Kube.PutSecret(ctx, secret.Namespace, secret.Name, secret.Body)
		if err == nil || kube.IsRefused(err) || attempt+1 == maxAttempts {
			return err
		}
		s.delayed = true
		if s.Session.Options.Sleep(ctx, Pause(attempt, err)) != nil {
			return err
		}
	}
}

// secretFailed ends the submission. A repair leaves all as it is: another sweep, or
// the owner, may have made the Job, whose pod reads the Secret.
func (s *submission) secretFailed(ctx context.Context, err error) *Result {
	var e *kube.Error
	errors.As(err, &e)
	switch {
	case kube.IsRefused(err):
		r := s.crash(ctx, "Slipway cannot create the Secret of this flow run's Job: "+s.Session.Text(err)+hint(e))
		s.dropSecrets(ctx, r)
		return r
	case s.Repair:
		return s.notYet(ctx, s.Session.Text(err))
	}
	return s.unclaim(ctx, s.Session.Text(err), 0)
}

// dropSecrets removes the Secrets made for a Job that will not be made: the run has
// left the claim, and nobody else can have made the Job. Those shared by Jobs stay.
func (s *submission) dropSecrets(ctx context.Context, r *Result) {
	unmade := r.Outcome == report.Refused || r.Outcome == report.Unclaimed || r.Outcome == report.Skipped
	if !s.alone() || s.unsure || !unmade {
		return
	}
	for _, secret := range s.Job.Secrets {
		if !secret.OwnedByJob {
			continue
		}
		if err := s.Session.Kube.DeleteSecret(ctx, secret.Namespace, secret.Name); err != nil {
			r.Warnings = append(r.Warnings, s.Session.Text(err))
		}
	}
}
