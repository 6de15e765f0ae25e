package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/exp/svid/witsvid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"

	"landfast.test/interop/report"
)

func (w *world) wit() error {
	source, err := workloadapi.NewWITSource(w.ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	svids, err := workloadapi.FetchWITSVIDs(w.ctx, "")
	if err != nil {
		return err
	}
	hints := map[string]string{}
	for _, svid := range svids {
		hints[svid.ID.String()] = svid.Hint
		valid, err := witsvid.ParseAndValidate(svid.Marshal(), source)
		if err != nil {
			return fmt.Errorf("%s: %w", svid.ID, err)
		}
		if valid.ID != svid.ID || time.Until(valid.Expiry) > 31*time.Second {
			return fmt.Errorf("it is of %s until %s", valid.ID, valid.Expiry)
		}
		if err := proves(svid, valid); err != nil {
			return err
		}
	}
	if len(svids) != 2 || hints[w.first.String()] != "first" || hints[w.second.String()] != "second" {
		return fmt.Errorf("got %v", hints)
	}
	if _, err := source.GetWITBundleForTrustDomain(w.foreign); err != nil {
		return fmt.Errorf("federated WIT bundle: %w", err)
	}
	named, err := workloadapi.FetchWITSVID(w.ctx, w.second.String())
	if err != nil || named.ID != w.second {
		return fmt.Errorf("the second by name: %v, %w", named, err)
	}
	return nil
}

// proves signs with the key that was handed out and verifies with the one in the token, as the two ends of a proof of possession do.
func proves(held, shown *witsvid.SVID) error {
	private, ours := held.PrivateKey.(*ecdsa.PrivateKey)
	public, theirs := shown.PublicKey.(*ecdsa.PublicKey)
	if !ours || !theirs {
		return fmt.Errorf("keys are %T and %T", held.PrivateKey, shown.PublicKey)
	}
	digest := sha256.Sum256([]byte("a request"))
	signature, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(public, digest[:], signature) {
		return errors.New("the private key is not that of the token")
	}
	return nil
}

// A WIT-SVID is no bearer token: nobody takes it for a JWT-SVID, nor the other way round.
func (w *world) witIsNoJWT() error {
	svid, err := workloadapi.FetchWITSVID(w.ctx, w.first.String())
	if err != nil {
		return err
	}
	bundles, err := workloadapi.FetchJWTBundles(w.ctx)
	if err != nil {
		return err
	}
	if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{w.audience}); err == nil {
		return errors.New("go-spiffe took a WIT-SVID for a JWT-SVID")
	}
	_, told := workloadapi.ValidateJWTSVID(w.ctx, svid.Marshal(), w.audience)
	if err := report.WantCode(told, codes.InvalidArgument); err != nil {
		return err
	}
	jwt, err := workloadapi.FetchJWTSVID(w.ctx, jwtsvid.Params{Audience: w.audience})
	if err != nil {
		return err
	}
	witBundles, err := workloadapi.FetchWITBundles(w.ctx)
	if err != nil {
		return err
	}
	if _, err := witsvid.ParseAndValidate(jwt.Marshal(), witBundles); err == nil {
		return errors.New("go-spiffe took a JWT-SVID for a WIT-SVID")
	}
	return nil
}

func (w *world) witRefusals() error {
	foreign := w.first.String() + "/of-somebody-else"
	_, foreignErr := workloadapi.FetchWITSVID(w.ctx, foreign)
	_, textErr := workloadapi.FetchWITSVID(w.ctx, "no SPIFFE ID")
	_, emptyErr := workloadapi.FetchWITSVID(w.ctx, "", w.empty)
	_, bundleErr := workloadapi.FetchWITBundles(w.ctx, w.empty)
	return report.All(
		report.WantCode(foreignErr, codes.PermissionDenied),
		report.WantCode(textErr, codes.InvalidArgument),
		report.WantCode(emptyErr, codes.PermissionDenied),
		report.WantCode(bundleErr, codes.PermissionDenied),
	)
}

// witRotation sees a token replaced by another with another key before it ends.
func (w *world) witRotation() error {
	ctx, cancel := context.WithTimeout(w.ctx, 60*time.Second)
	defer cancel()
	watcher := &witWatcher{updates: make(chan *witsvid.SVID, 16)}
	client, err := workloadapi.New(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	go func() { _ = client.WatchWITSVIDs(ctx, watcher, w.first.String()) }()
	var before *witsvid.SVID
	for {
		select {
		case <-ctx.Done():
			return errors.New("none in 60 seconds")
		case svid := <-watcher.updates:
			if before == nil {
				before = svid
				continue
			}
			if !svid.Expiry.After(before.Expiry) || time.Now().After(before.Expiry) {
				return fmt.Errorf("until %s, after one until %s", svid.Expiry, before.Expiry)
			}
			if before.PublicKey.(*ecdsa.PublicKey).Equal(svid.PublicKey) {
				return errors.New("the key is the one before")
			}
			return nil
		}
	}
}

type witWatcher struct{ updates chan *witsvid.SVID }

func (w *witWatcher) OnWITSVIDsUpdate(svids []*witsvid.SVID) { w.updates <- svids[0] }

func (w *witWatcher) OnWITSVIDsWatchError(error) {}
