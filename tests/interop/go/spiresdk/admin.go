package main

import (
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	"landfast.test/interop/report"
)

func (w *world) health() error {
	conn, err := w.dialLocal()
	if err != nil {
		return err
	}
	w.local = conn
	ctx, cancel := w.short()
	defer cancel()
	answer, err := grpc_health_v1.NewHealthClient(w.local).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("status %s", answer.Status)
	}
	return nil
}

func (w *world) ownBundle() error {
	ctx, cancel := w.short()
	defer cancel()
	client := bundlev1.NewBundleClient(w.local)
	answer, err := client.GetBundle(ctx, &bundlev1.GetBundleRequest{})
	if err != nil {
		return err
	}
	if w.bundle, err = parseBundle(answer); err != nil {
		return err
	}
	if len(w.bundle.X509Authorities()) == 0 || len(w.bundle.JWTAuthorities()) == 0 || answer.SequenceNumber == 0 {
		return fmt.Errorf("%d X.509 and %d JWT authorities, sequence %d",
			len(w.bundle.X509Authorities()), len(w.bundle.JWTAuthorities()), answer.SequenceNumber)
	}
	masked, err := client.GetBundle(ctx, &bundlev1.GetBundleRequest{OutputMask: &types.BundleMask{JwtAuthorities: true}})
	if err != nil {
		return err
	}
	if masked.TrustDomain != w.domain.Name() || len(masked.JwtAuthorities) == 0 ||
		len(masked.X509Authorities) > 0 || masked.SequenceNumber != 0 || masked.RefreshHint != 0 {
		return fmt.Errorf("mask for JWT keys alone brought %v", masked)
	}
	return nil
}

func (w *world) joinTokens() error {
	ctx, cancel := w.short()
	defer cancel()
	client := agentv1.NewAgentClient(w.local)
	token, err := client.CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 600})
	if err != nil {
		return err
	}
	if left := time.Until(time.Unix(token.ExpiresAt, 0)); token.Value == "" || left < 595*time.Second || left > 601*time.Second {
		return fmt.Errorf("token of %d characters with %s left", len(token.Value), left)
	}
	_, ttlErr := client.CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 0})
	_, idErr := client.CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{
		Ttl: 60, AgentId: protoID(spiffeid.RequireFromSegments(w.foreign, "sdk-node")),
	})
	return report.All(
		report.WantCode(ttlErr, codes.InvalidArgument),
		report.WantCode(idErr, codes.InvalidArgument),
	)
}

func (w *world) mintX509() error {
	ctx, cancel := w.short()
	defer cancel()
	client := svidv1.NewSVIDClient(w.local)
	key := newKey()
	answer, err := client.MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{
		Csr: request(key, w.id("sdk-minted").String(), "pump.plant.test"), Ttl: 120,
	})
	if err != nil {
		return err
	}
	svid, err := w.parseSVID(answer.Svid, key, w.id("sdk-minted"))
	if err != nil {
		return err
	}
	leaf := svid.Certificates[0]
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != "pump.plant.test" {
		return fmt.Errorf("DNS names %v", leaf.DNSNames)
	}
	if left := time.Until(leaf.NotAfter); left > 121*time.Second || left < 110*time.Second {
		return fmt.Errorf("%s left of 120 s", left)
	}
	mint := func(csr []byte) error {
		_, err := client.MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: csr})
		return err
	}
	changed := request(newKey(), w.id("sdk-minted").String())
	changed[len(changed)-1] ^= 1
	for name, csr := range map[string][]byte{
		"no CSR":               nil,
		"no URI":               request(newKey(), ""),
		"foreign trust domain": request(newKey(), "spiffe://elsewhere.test/sdk-minted"),
		"reserved path":        request(newKey(), w.serverID().String()),
		"changed signature":    changed,
	} {
		if err := report.WantCode(mint(csr), codes.InvalidArgument); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (w *world) mintJWT() error {
	ctx, cancel := w.short()
	defer cancel()
	client := svidv1.NewSVIDClient(w.local)
	answer, err := client.MintJWTSVID(ctx, &svidv1.MintJWTSVIDRequest{
		Id: protoID(w.id("sdk-minted")), Audience: []string{"historian"}, Ttl: 60,
	})
	if err != nil {
		return err
	}
	if err := w.wantToken(answer.Svid, w.id("sdk-minted"), "historian"); err != nil {
		return err
	}
	_, err = client.MintJWTSVID(ctx, &svidv1.MintJWTSVIDRequest{Id: protoID(w.id("sdk-minted"))})
	return report.WantCode(err, codes.InvalidArgument)
}

// wantToken checks a token the way its receiver would, and the fields beside it the way an agent does.
func (w *world) wantToken(answer *types.JWTSVID, id spiffeid.ID, audience string) error {
	if answer == nil {
		return fmt.Errorf("no token in the answer")
	}
	valid, err := jwtsvid.ParseAndValidate(answer.Token, w.bundle, []string{audience})
	if err != nil {
		return err
	}
	if valid.ID != id || answer.Id.GetPath() != id.Path() {
		return fmt.Errorf("token of %s, id %v", valid.ID, answer.Id)
	}
	if answer.ExpiresAt != valid.Expiry.Unix() || answer.IssuedAt == 0 || answer.IssuedAt >= answer.ExpiresAt {
		return fmt.Errorf("issued at %d, expires at %d, exp %d", answer.IssuedAt, answer.ExpiresAt, valid.Expiry.Unix())
	}
	if _, has := valid.Claims["nbf"]; has {
		return fmt.Errorf("token has nbf")
	}
	return nil
}
