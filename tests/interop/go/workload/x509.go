package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"landfast.test/interop/report"
)

func (w *world) x509Source() error {
	source, err := workloadapi.NewX509Source(w.ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	if _, err := source.GetX509SVID(); err != nil {
		return err
	}
	svids, err := workloadapi.FetchX509SVIDs(w.ctx)
	if err != nil {
		return err
	}
	return report.All(w.wantBoth(svids), verify(svids, source))
}

func (w *world) x509Bundles() error {
	set, err := workloadapi.FetchX509Bundles(w.ctx)
	if err != nil {
		return err
	}
	own, err := set.GetX509BundleForTrustDomain(w.domain)
	if err != nil {
		return err
	}
	foreign, err := set.GetX509BundleForTrustDomain(w.foreign)
	if err != nil {
		return err
	}
	if len(own.X509Authorities()) == 0 || len(foreign.X509Authorities()) == 0 {
		return fmt.Errorf("%d own and %d federated authorities", len(own.X509Authorities()), len(foreign.X509Authorities()))
	}
	svids, err := workloadapi.FetchX509SVIDs(w.ctx)
	if err != nil {
		return err
	}
	if _, _, err := x509svid.Verify(svids[0].Certificates, x509bundle.NewSet(foreign)); err == nil {
		return errors.New("an SVID verified against the bundle of another trust domain")
	}
	return nil
}

func (w *world) bundleSource() error {
	source, err := workloadapi.NewBundleSource(w.ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	bundle, err := source.GetBundleForTrustDomain(w.domain)
	if err != nil {
		return err
	}
	if len(bundle.X509Authorities()) == 0 || len(bundle.JWTAuthorities()) == 0 {
		return fmt.Errorf("%d X.509 and %d JWT authorities", len(bundle.X509Authorities()), len(bundle.JWTAuthorities()))
	}
	_, err = source.GetBundleForTrustDomain(w.foreign)
	return err
}

// Every answer must be whole: both identities, hints that tell them apart.
func (w *world) wantBoth(svids []*x509svid.SVID) error {
	hints := map[string]string{}
	for _, svid := range svids {
		hints[svid.ID.String()] = svid.Hint
	}
	if len(svids) != 2 || hints[w.first.String()] != "first" || hints[w.second.String()] != "second" {
		return fmt.Errorf("got %v", hints)
	}
	return nil
}

func verify(svids []*x509svid.SVID, bundles x509bundle.Source) error {
	for _, svid := range svids {
		id, _, err := x509svid.Verify(svid.Certificates, bundles)
		if err != nil {
			return fmt.Errorf("%s: %w", svid.ID, err)
		}
		if id != svid.ID {
			return fmt.Errorf("%s verified as %s", svid.ID, id)
		}
	}
	return nil
}

// watchRotation begins to watch at once, so that the other checks run meanwhile; the check it returns waits.
func watchRotation(w *world) func() error {
	ctx, cancel := context.WithTimeout(w.ctx, 80*time.Second)
	watcher := &rotationWatcher{world: w, done: make(chan error, 1), serials: map[string]string{}, rotated: map[string]bool{}}
	go func() {
		if err := workloadapi.WatchX509Context(ctx, watcher); err != nil {
			watcher.finish(err)
		}
	}()
	return func() error {
		defer cancel()
		if err := <-watcher.done; err != nil {
			return err
		}
		return w.mutualTLS() // with what was issued just now
	}
}

type rotationWatcher struct {
	world   *world
	once    sync.Once
	done    chan error
	serials map[string]string
	rotated map[string]bool
	updates int
}

func (r *rotationWatcher) finish(err error) { r.once.Do(func() { r.done <- err }) }

func (r *rotationWatcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	r.updates++
	if err := report.All(r.world.wantBoth(update.SVIDs), verify(update.SVIDs, update.Bundles)); err != nil {
		r.finish(fmt.Errorf("update %d: %w", r.updates, err))
		return
	}
	changed := false
	for _, svid := range update.SVIDs {
		id, serial := svid.ID.String(), svid.Certificates[0].SerialNumber.String()
		if before, known := r.serials[id]; known && before != serial {
			r.rotated[id] = true
			changed = true
		}
		r.serials[id] = serial
	}
	if r.updates > 1 && !changed {
		r.finish(fmt.Errorf("update %d brought no new certificate", r.updates))
	} else if len(r.rotated) == 2 {
		r.finish(nil)
	}
}

func (r *rotationWatcher) OnX509ContextWatchError(err error) {
	if r.world.ctx.Err() == nil {
		r.finish(fmt.Errorf("the watch broke after %d updates: %w", r.updates, err))
	}
}
