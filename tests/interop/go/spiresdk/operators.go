package main

import (
	"fmt"
	"time"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	loggerv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/logger/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	trustdomainv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"

	"landfast.test/interop/report"
)

func (w *world) logLevels() error {
	ctx, cancel := w.short()
	defer cancel()
	client := loggerv1.NewLoggerClient(w.local)
	before, err := client.GetLogger(ctx, &loggerv1.GetLoggerRequest{})
	if err != nil {
		return err
	}
	set, err := client.SetLogLevel(ctx, &loggerv1.SetLogLevelRequest{NewLevel: types.LogLevel_DEBUG})
	if err != nil {
		return err
	}
	_, unspecifiedErr := client.SetLogLevel(ctx, &loggerv1.SetLogLevelRequest{})
	reset, err := client.ResetLogLevel(ctx, &loggerv1.ResetLogLevelRequest{})
	if err != nil {
		return err
	}
	if set.CurrentLevel != types.LogLevel_DEBUG || set.LaunchLevel != before.LaunchLevel || reset.CurrentLevel != before.LaunchLevel {
		return fmt.Errorf("before %v, set %v, reset %v", before, set, reset)
	}
	return report.WantCode(unspecifiedErr, codes.InvalidArgument)
}

// relationships with a domain whose endpoint nobody asks: the address is of this machine's link.
func (w *world) relationships() error {
	ctx, cancel := w.short()
	defer cancel()
	client := trustdomainv1.NewTrustDomainClient(w.local)
	wanted := &types.FederationRelationship{
		TrustDomain:       "sdk-peer.test",
		BundleEndpointUrl: "https://169.254.1.1/bundle",
		BundleEndpointProfile: &types.FederationRelationship_HttpsSpiffe{
			HttpsSpiffe: &types.HTTPSSPIFFEProfile{EndpointSpiffeId: "spiffe://sdk-peer.test/endpoint"},
		},
	}
	create := func() (*trustdomainv1.BatchCreateFederationRelationshipResponse_Result, error) {
		answer, err := client.BatchCreateFederationRelationship(ctx, &trustdomainv1.BatchCreateFederationRelationshipRequest{
			FederationRelationships: []*types.FederationRelationship{wanted},
		})
		if err != nil {
			return nil, err
		}
		return answer.Results[0], nil
	}
	made, err := create()
	if err != nil {
		return err
	}
	again, err := create()
	if err != nil {
		return err
	}
	got, err := client.GetFederationRelationship(ctx, &trustdomainv1.GetFederationRelationshipRequest{TrustDomain: "sdk-peer.test"})
	if err != nil {
		return err
	}
	if got.GetHttpsSpiffe().GetEndpointSpiffeId() != "spiffe://sdk-peer.test/endpoint" || got.BundleEndpointUrl != wanted.BundleEndpointUrl {
		return fmt.Errorf("got %v", got)
	}
	_, refreshErr := client.RefreshBundle(ctx, &trustdomainv1.RefreshBundleRequest{TrustDomain: "sdk-peer.test"})
	updated, err := client.BatchUpdateFederationRelationship(ctx, &trustdomainv1.BatchUpdateFederationRelationshipRequest{
		FederationRelationships: []*types.FederationRelationship{{TrustDomain: "sdk-peer.test", BundleEndpointUrl: "https://169.254.1.2/bundle"}},
		InputMask:               &types.FederationRelationshipMask{BundleEndpointUrl: true},
	})
	if err != nil {
		return err
	}
	if url := updated.Results[0].GetFederationRelationship().GetBundleEndpointUrl(); url != "https://169.254.1.2/bundle" {
		return fmt.Errorf("after the update: %v", updated)
	}
	remove := func() (*trustdomainv1.BatchDeleteFederationRelationshipResponse_Result, error) {
		answer, err := client.BatchDeleteFederationRelationship(ctx, &trustdomainv1.BatchDeleteFederationRelationshipRequest{TrustDomains: []string{"sdk-peer.test"}})
		if err != nil {
			return nil, err
		}
		return answer.Results[0], nil
	}
	removed, err := remove()
	if err != nil {
		return err
	}
	gone, err := remove()
	if err != nil {
		return err
	}
	if refreshErr == nil {
		return fmt.Errorf("the link of the server's machine was asked")
	}
	return report.All(
		report.WantStatus(made.Status.Code, made.Status.Message, codes.OK),
		report.WantStatus(again.Status.Code, again.Status.Message, codes.AlreadyExists),
		report.WantStatus(removed.Status.Code, removed.Status.Message, codes.OK),
		report.WantStatus(gone.Status.Code, gone.Status.Message, codes.NotFound),
	)
}

// authority is one kind of authorities through LocalAuthority.
type authority struct {
	active, prepare         func() (*localauthorityv1.AuthorityState, error)
	activate, taint, revoke func(id string) error
	inBundle                func() (int, error)
	issues                  func() error
}

// rotate goes the whole way, and tries each step too early.
func (w *world) rotate(of authority) error {
	first, err := of.active()
	if err != nil {
		return err
	}
	before, err := of.inBundle()
	if err != nil {
		return err
	}
	if err := report.WantCode(of.taint(first.AuthorityId), codes.InvalidArgument, "unable to taint"); err != nil {
		return err
	}
	next, err := of.prepare()
	if err != nil {
		return err
	}
	if next.AuthorityId == first.AuthorityId || time.Until(time.Unix(next.ExpiresAt, 0)) <= 0 {
		return fmt.Errorf("prepared %v, active %v", next, first)
	}
	if prepared, err := of.inBundle(); err != nil || prepared != before+1 {
		return fmt.Errorf("%d keys in the bundle, %d before (%v)", prepared, before, err)
	}
	if err := report.WantCode(of.activate("nobody"), codes.InvalidArgument, "unexpected authority ID"); err != nil {
		return err
	}
	if err := of.activate(next.AuthorityId); err != nil {
		return err
	}
	if err := of.issues(); err != nil {
		return fmt.Errorf("signed by the new authority: %w", err)
	}
	if of.revoke(first.AuthorityId) == nil {
		return fmt.Errorf("an authority was revoked that is not tainted")
	}
	if err := report.All(of.taint(first.AuthorityId), of.revoke(first.AuthorityId), of.issues()); err != nil {
		return err
	}
	after, err := of.inBundle()
	if err == nil && after != before {
		err = fmt.Errorf("%d keys in the bundle at the end, %d before", after, before)
	}
	return err
}

func (w *world) rotateX509() error {
	client := localauthorityv1.NewLocalAuthorityClient(w.local)
	return w.rotate(authority{
		active: func() (*localauthorityv1.AuthorityState, error) {
			answer, err := client.GetX509AuthorityState(w.ctx, &localauthorityv1.GetX509AuthorityStateRequest{})
			return answer.GetActive(), err
		},
		prepare: func() (*localauthorityv1.AuthorityState, error) {
			answer, err := client.PrepareX509Authority(w.ctx, &localauthorityv1.PrepareX509AuthorityRequest{})
			return answer.GetPreparedAuthority(), err
		},
		activate: func(id string) error {
			_, err := client.ActivateX509Authority(w.ctx, &localauthorityv1.ActivateX509AuthorityRequest{AuthorityId: id})
			return err
		},
		taint: func(id string) error {
			_, err := client.TaintX509Authority(w.ctx, &localauthorityv1.TaintX509AuthorityRequest{AuthorityId: id})
			return err
		},
		revoke: func(id string) error {
			_, err := client.RevokeX509Authority(w.ctx, &localauthorityv1.RevokeX509AuthorityRequest{AuthorityId: id})
			return err
		},
		inBundle: func() (int, error) {
			err := w.ownBundle()
			return len(w.bundle.X509Authorities()), err
		},
		issues: func() error {
			_, err := w.mint("rotated")
			return err
		},
	})
}

func (w *world) rotateJWT() error {
	client := localauthorityv1.NewLocalAuthorityClient(w.local)
	return w.rotate(authority{
		active: func() (*localauthorityv1.AuthorityState, error) {
			answer, err := client.GetJWTAuthorityState(w.ctx, &localauthorityv1.GetJWTAuthorityStateRequest{})
			return answer.GetActive(), err
		},
		prepare: func() (*localauthorityv1.AuthorityState, error) {
			answer, err := client.PrepareJWTAuthority(w.ctx, &localauthorityv1.PrepareJWTAuthorityRequest{})
			return answer.GetPreparedAuthority(), err
		},
		activate: func(id string) error {
			_, err := client.ActivateJWTAuthority(w.ctx, &localauthorityv1.ActivateJWTAuthorityRequest{AuthorityId: id})
			return err
		},
		taint: func(id string) error {
			_, err := client.TaintJWTAuthority(w.ctx, &localauthorityv1.TaintJWTAuthorityRequest{AuthorityId: id})
			return err
		},
		revoke: func(id string) error {
			_, err := client.RevokeJWTAuthority(w.ctx, &localauthorityv1.RevokeJWTAuthorityRequest{AuthorityId: id})
			return err
		},
		inBundle: func() (int, error) {
			err := w.ownBundle()
			return len(w.bundle.JWTAuthorities()), err
		},
		issues: func() error {
			_, err := w.token("rotated", "anybody")
			return err
		},
	})
}

// token is minted on the admin socket, and verified.
func (w *world) token(name, audience string) (string, error) {
	ctx, cancel := w.short()
	defer cancel()
	answer, err := svidv1.NewSVIDClient(w.local).MintJWTSVID(ctx, &svidv1.MintJWTSVIDRequest{
		Id: protoID(w.id(name)), Audience: []string{audience}, Ttl: 60,
	})
	if err != nil {
		return "", err
	}
	return answer.Svid.Token, w.wantToken(answer.Svid, w.id(name), audience)
}
