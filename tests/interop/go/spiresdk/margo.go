package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"

	"landfast.test/interop/report"
)

// get is a client of Margo's: an address, and the tag of what it has.
func (s *site) get(client *http.Client, url, tag string) (status int, newTag string, body []byte, err error) {
	ask, err := http.NewRequestWithContext(s.a.ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", nil, err
	}
	if tag != "" {
		ask.Header.Set("If-None-Match", tag)
	}
	answer, err := client.Do(ask)
	if err != nil {
		return 0, "", nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, answer.Header.Get("ETag"), body, err
}

// margo goes the way of a principal: discovery, bundle, then a peer below /margo/ of the same trust domain.
func (s *site) margo() error {
	discovery := s.a.web + "/.well-known/margo"
	status, tag, body, err := s.get(s.web, discovery, "")
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("discovery: %d (%v)", status, err)
	}
	var found struct{ TrustDomain, TrustBundleUri string }
	if err := json.Unmarshal(body, &found); err != nil {
		return err
	}
	if found.TrustDomain != s.a.domain.Name() || !strings.HasPrefix(found.TrustBundleUri, "https://") {
		return fmt.Errorf("discovery says %s", body)
	}
	if status, _, _, err := s.get(s.web, discovery, tag); err != nil || status != http.StatusNotModified {
		return fmt.Errorf("asked again: %d (%v)", status, err)
	}
	status, tag, body, err = s.get(s.web, found.TrustBundleUri, "")
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("bundle: %d (%v)", status, err)
	}
	if status, _, _, err := s.get(s.web, found.TrustBundleUri, tag); err != nil || status != http.StatusNotModified {
		return fmt.Errorf("bundle asked again: %d (%v)", status, err)
	}
	bundle, err := spiffebundle.Parse(s.a.domain, body)
	if err != nil {
		return err
	}
	if _, has := bundle.SequenceNumber(); !has || len(bundle.X509Authorities()) == 0 {
		return fmt.Errorf("bundle %s", body)
	}
	if status, _, _, err := s.get(s.web, s.b.web+"/.well-known/margo", ""); err != nil || status != http.StatusNotFound {
		return fmt.Errorf("discovery where it is off: %d (%v)", status, err)
	}
	if _, _, _, err := s.get(s.client(tls.VersionTLS12), discovery, ""); err == nil {
		return fmt.Errorf("TLS 1.2 by default")
	}
	pump, err := s.a.mint("margo", "pump-7")
	if err != nil {
		return err
	}
	manager, err := s.a.mint("margo", "manager")
	if err != nil {
		return err
	}
	outside, err := s.a.mint("historian")
	if err != nil {
		return err
	}
	foreign, err := s.b.mint("margo", "manager")
	if err != nil {
		return err
	}
	if err := margoTalk(pump, manager, bundle); err != nil {
		return err
	}
	for name, svid := range map[string]*x509svid.SVID{"no principal": outside, "another trust domain": foreign} {
		if margoTalk(pump, svid, bundle) == nil {
			return fmt.Errorf("%s was believed", name)
		}
	}
	return nil
}

// margoTalk is TLS 1.3 between a device and who comes to it, both believing this bundle and principals alone.
func margoTalk(device, visitor *x509svid.SVID, bundle *spiffebundle.Bundle) error {
	principals := tlsconfig.AdaptMatcher(func(id spiffeid.ID) error {
		if id.TrustDomain() != bundle.TrustDomain() || !strings.HasPrefix(id.Path(), "/margo/") {
			return fmt.Errorf("%s is no principal", id)
		}
		return nil
	})
	accept := tlsconfig.MTLSServerConfig(device, bundle, principals)
	come := tlsconfig.MTLSClientConfig(visitor, bundle, principals)
	accept.MinVersion, come.MinVersion = tls.VersionTLS13, tls.VersionTLS13
	return shake(context.Background(), accept, come)
}

func (s *site) margoRefused() error {
	ctx, cancel := s.a.short()
	defer cancel()
	entries := entryv1.NewEntryClient(s.a.local)
	entry := func(change func(*types.Entry)) *types.Entry {
		made := s.a.workload(s.a.node.id, "margo")
		made.SpiffeId = protoID(s.a.id("margo", "evil"))
		change(made)
		return made
	}
	bad := []*types.Entry{
		entry(func(e *types.Entry) { e.Admin = true }),
		entry(func(e *types.Entry) { e.Downstream = true }),
		entry(func(e *types.Entry) { e.ParentId = protoID(s.a.serverID()) }),
		entry(func(e *types.Entry) { e.FederatesWith = []string{s.b.domain.Name()} }),
	}
	answer, err := entries.BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{Entries: bad})
	if err != nil {
		return err
	}
	for i, result := range answer.Results {
		if err := report.WantStatus(result.Status.Code, result.Status.Message, codes.InvalidArgument, "Margo principal"); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	weak, err := weakRequest(s.a.id("margo", "pump-7").String())
	if err != nil {
		return err
	}
	_, err = svidv1.NewSVIDClient(s.a.local).MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: weak})
	return report.WantCode(err, codes.InvalidArgument, "3072 bits")
}

func weakRequest(id string) ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	uri, err := url.Parse(id)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
}
