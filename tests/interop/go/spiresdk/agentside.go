package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	agentdebugv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/debug/v1"
	delegatedv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/delegatedidentity/v1"
	agentloggerv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/logger/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"landfast.test/interop/report"
)

func dialSocket(name string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+report.Env(name), grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func (s *site) agentDebug() error {
	conn, err := dialSocket("PLANTS_AGENT_ADMIN")
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := s.a.short()
	defer cancel()
	info, err := agentdebugv1.NewDebugClient(conn).GetInfo(ctx, &agentdebugv1.GetInfoRequest{})
	if err != nil {
		return err
	}
	if len(info.SvidChain) == 0 || info.SvidChain[0].Id.GetTrustDomain() != s.a.domain.Name() || info.SvidChain[0].ExpiresAt <= time.Now().Unix() {
		return fmt.Errorf("info %v", info)
	}
	return nil
}

func (s *site) agentLogger() error {
	conn, err := dialSocket("PLANTS_AGENT_ADMIN")
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := s.a.short()
	defer cancel()
	client := agentloggerv1.NewLoggerClient(conn)
	set, err := client.SetLogLevel(ctx, &agentloggerv1.SetLogLevelRequest{NewLevel: types.LogLevel_DEBUG})
	if err != nil {
		return err
	}
	shown, err := client.GetLogger(ctx, &agentloggerv1.GetLoggerRequest{})
	if err != nil {
		return err
	}
	reset, err := client.ResetLogLevel(ctx, &agentloggerv1.ResetLogLevelRequest{})
	if err != nil {
		return err
	}
	if set.CurrentLevel != types.LogLevel_DEBUG || shown.CurrentLevel != types.LogLevel_DEBUG || reset.CurrentLevel != reset.LaunchLevel {
		return fmt.Errorf("set %v, shown %v, reset %v", set, shown, reset)
	}
	return nil
}

// delegated asks as the delegate that plants/run has named, for a workload with selectors that no process here has. What it may have is below
// /line; /office is an entry with the same selectors that it may not have.
func (s *site) delegated() error {
	conn, err := dialSocket("PLANTS_DELEGATE")
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := s.a.short()
	defer cancel()
	client := delegatedv1.NewDelegatedIdentityClient(conn)
	selectors := []*types.Selector{{Type: "unix", Value: "uid:4711"}}
	if err := s.delegatedX509(ctx, client, selectors); err != nil {
		return err
	}
	tokens, err := client.FetchJWTSVIDs(ctx, &delegatedv1.FetchJWTSVIDsRequest{Audience: []string{"historian"}, Selectors: selectors})
	if err != nil {
		return err
	}
	if len(tokens.Svids) != 1 {
		return fmt.Errorf("%d tokens of one", len(tokens.Svids))
	}
	token, err := jwtsvid.ParseAndValidate(tokens.Svids[0].Token, s.a.bundle, []string{"historian"})
	if err != nil || token.ID != s.a.id("line", "robot") {
		return fmt.Errorf("token %v: %v", token, err)
	}
	bundles, err := client.SubscribeToX509Bundles(ctx, &delegatedv1.SubscribeToX509BundlesRequest{})
	if err != nil {
		return err
	}
	x509Bundles, err := bundles.Recv()
	if err != nil {
		return err
	}
	keys, err := client.SubscribeToJWTBundles(ctx, &delegatedv1.SubscribeToJWTBundlesRequest{})
	if err != nil {
		return err
	}
	jwtBundles, err := keys.Recv()
	if err != nil {
		return err
	}
	own := s.a.domain.IDString()
	// Another may have been prepared meanwhile, by who tries every method.
	roots, err := x509.ParseCertificates(x509Bundles.CaCertificates[own])
	missing := slices.ContainsFunc(s.a.bundle.X509Authorities(), func(root *x509.Certificate) bool {
		return !slices.ContainsFunc(roots, root.Equal)
	})
	if err != nil || missing {
		return fmt.Errorf("%d roots of %s, and not all of them (%v)", len(roots), own, err)
	}
	if len(jwtBundles.Bundles[own]) == 0 {
		return fmt.Errorf("no JWT keys of %s", own)
	}
	neither, err := client.SubscribeToX509SVIDs(ctx, &delegatedv1.SubscribeToX509SVIDsRequest{})
	if err == nil {
		_, err = neither.Recv()
	}
	_, noAudienceErr := client.FetchJWTSVIDs(ctx, &delegatedv1.FetchJWTSVIDsRequest{Selectors: selectors})
	return report.All(report.WantCode(err, codes.InvalidArgument), report.WantCode(noAudienceErr, codes.InvalidArgument))
}

func (s *site) delegatedX509(ctx context.Context, client delegatedv1.DelegatedIdentityClient, selectors []*types.Selector) error {
	stream, err := client.SubscribeToX509SVIDs(ctx, &delegatedv1.SubscribeToX509SVIDsRequest{Selectors: selectors})
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		var given []string
		for _, svid := range answer.X509Svids {
			given = append(given, svid.X509Svid.Id.GetPath())
		}
		if slices.Contains(given, "/office") {
			return fmt.Errorf("an identity that is not on the list: %v", given)
		}
		if !slices.Contains(given, "/line/robot") {
			continue // the agent has not synchronised it yet
		}
		key, err := x509.ParsePKCS8PrivateKey(answer.X509Svids[0].X509SvidKey)
		if err != nil {
			return err
		}
		ours, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return fmt.Errorf("a key of type %T", key)
		}
		_, err = s.a.parseSVID(answer.X509Svids[0].X509Svid, ours, s.a.id("line", "robot"))
		return err
	}
}
