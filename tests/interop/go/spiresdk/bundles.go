package main

import (
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"

	"landfast.test/interop/report"
)

// federatedBundles borrows the authorities of our own bundle for a trust domain that does not exist.
func (w *world) federatedBundles() error {
	ctx, cancel := w.short()
	defer cancel()
	client := bundlev1.NewBundleClient(w.local)
	own, err := client.GetBundle(ctx, &bundlev1.GetBundleRequest{})
	if err != nil {
		return err
	}
	before, err := client.CountBundles(ctx, &bundlev1.CountBundlesRequest{})
	if err != nil {
		return err
	}
	other := &types.Bundle{
		TrustDomain: "sdk-partner.test", X509Authorities: own.X509Authorities, JwtAuthorities: own.JwtAuthorities,
		RefreshHint: 600, SequenceNumber: 42,
	}
	set, err := client.BatchSetFederatedBundle(ctx, &bundlev1.BatchSetFederatedBundleRequest{
		Bundle: []*types.Bundle{other, {TrustDomain: w.domain.Name(), X509Authorities: own.X509Authorities}},
	})
	if err != nil {
		return err
	}
	if len(set.Results) != 2 {
		return fmt.Errorf("%d results of two", len(set.Results))
	}
	if err := report.All(
		report.WantStatus(set.Results[0].Status.Code, set.Results[0].Status.Message, codes.OK),
		report.WantStatus(set.Results[1].Status.Code, set.Results[1].Status.Message, codes.InvalidArgument),
	); err != nil {
		return err
	}
	return report.All(w.readFederated(client, before.Count+1), w.deleteFederated(client))
}

func (w *world) readFederated(client bundlev1.BundleClient, count int32) error {
	ctx, cancel := w.short()
	defer cancel()
	got, err := client.GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: "sdk-partner.test"})
	if err != nil {
		return err
	}
	if parsed, err := parseBundle(got); err != nil || len(parsed.X509Authorities()) == 0 || len(parsed.JWTAuthorities()) == 0 {
		return fmt.Errorf("got %v (%v)", got, err)
	}
	if got.RefreshHint != 600 || got.SequenceNumber != 42 {
		return fmt.Errorf("refresh hint %d, sequence %d", got.RefreshHint, got.SequenceNumber)
	}
	after, err := client.CountBundles(ctx, &bundlev1.CountBundlesRequest{})
	if err != nil {
		return err
	}
	if after.Count != count {
		return fmt.Errorf("counted %d, want %d", after.Count, count)
	}
	listed := map[string]bool{}
	request := &bundlev1.ListFederatedBundlesRequest{PageSize: 1}
	for {
		page, err := client.ListFederatedBundles(ctx, request)
		if err != nil {
			return err
		}
		for _, bundle := range page.Bundles {
			listed[bundle.TrustDomain] = true
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			break
		}
	}
	if !listed["sdk-partner.test"] || !listed[w.foreign.Name()] || listed[w.domain.Name()] {
		return fmt.Errorf("listed %v", listed)
	}
	_, ownErr := client.GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: w.domain.Name()})
	_, unknownErr := client.GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: "never-heard-of.test"})
	return report.All(report.WantCode(ownErr, codes.InvalidArgument), report.WantCode(unknownErr, codes.NotFound))
}

func (w *world) deleteFederated(client bundlev1.BundleClient) error {
	entry := w.sample("federates")
	entry.FederatesWith = []string{"sdk-partner.test"}
	if err := w.mustCreate(entry); err != nil {
		return err
	}
	defer w.remove(entry.Id)
	remove := func(mode bundlev1.BatchDeleteFederatedBundleRequest_Mode, want codes.Code) error {
		ctx, cancel := w.short()
		defer cancel()
		answer, err := client.BatchDeleteFederatedBundle(ctx, &bundlev1.BatchDeleteFederatedBundleRequest{
			TrustDomains: []string{"sdk-partner.test"}, Mode: mode,
		})
		if err != nil {
			return err
		}
		return report.WantStatus(answer.Results[0].Status.Code, answer.Results[0].Status.Message, want)
	}
	return report.All(
		remove(bundlev1.BatchDeleteFederatedBundleRequest_RESTRICT, codes.FailedPrecondition),
		remove(bundlev1.BatchDeleteFederatedBundleRequest_DISSOCIATE, codes.OK),
		remove(bundlev1.BatchDeleteFederatedBundleRequest_DISSOCIATE, codes.NotFound),
	)
}

func (w *world) bundleWithoutCertificate() error {
	conn, err := w.dialBootstrap()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := w.short()
	defer cancel()
	answer, err := bundlev1.NewBundleClient(conn).GetBundle(ctx, &bundlev1.GetBundleRequest{})
	if err != nil {
		return err
	}
	bundle, err := parseBundle(answer)
	if err != nil {
		return err
	}
	if !bundle.X509Bundle().Equal(w.bundle.X509Bundle()) || !bundle.JWTBundle().Equal(w.bundle.JWTBundle()) {
		return fmt.Errorf("another bundle than on the admin socket")
	}
	return nil
}

func (w *world) agentFederatedBundle() error {
	ctx, cancel := w.short()
	defer cancel()
	client := bundlev1.NewBundleClient(w.node.conn)
	answer, err := client.GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: w.foreign.Name()})
	if err != nil {
		return err
	}
	if bundle, err := parseBundle(answer); err != nil || bundle.TrustDomain() != w.foreign {
		return fmt.Errorf("got %v (%v)", answer, err)
	}
	_, err = client.GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: "never-heard-of.test"})
	return report.WantCode(err, codes.NotFound)
}

// idOf is the typed form of what the API sends.
func idOf(id *types.SPIFFEID) (spiffeid.ID, error) {
	domain, err := spiffeid.TrustDomainFromString(id.GetTrustDomain())
	if err != nil {
		return spiffeid.ID{}, err
	}
	return spiffeid.FromPath(domain, id.GetPath())
}
