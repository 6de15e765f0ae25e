package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"landfast.test/interop/report"
)

func (w *world) dialLocal() (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+report.Env("INTEROP_SERVER_ADMIN"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// dialBootstrap is the agent's first connection: it knows the bundle and the server's ID, and has no certificate.
func (w *world) dialBootstrap() (*grpc.ClientConn, error) {
	return w.dial(tlsconfig.TLSClientConfig(w.bundle, tlsconfig.AuthorizeID(w.serverID())))
}

func (w *world) dialAs(svid *x509svid.SVID) (*grpc.ClientConn, error) {
	return w.dial(tlsconfig.MTLSClientConfig(svid, w.bundle, tlsconfig.AuthorizeID(w.serverID())))
}

func (w *world) dial(config *tls.Config) (*grpc.ClientConn, error) {
	return grpc.NewClient(w.address,
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithTransportCredentials(credentials.NewTLS(config)))
}

func (w *world) serverID() spiffeid.ID {
	return spiffeid.RequireFromSegments(w.domain, "spire", "server")
}

func (w *world) id(segments ...string) spiffeid.ID {
	return spiffeid.RequireFromSegments(w.domain, segments...)
}

// short gives one call the deadline that a SPIRE agent gives it.
func (w *world) short() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.ctx, 30*time.Second)
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// request is a CSR as an agent makes it; its URI is what the server must not believe.
func request(key *ecdsa.PrivateKey, id string, dns ...string) []byte {
	template := &x509.CertificateRequest{
		Subject:  pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}},
		DNSNames: dns,
	}
	if id != "" {
		uri, err := url.Parse(id)
		if err != nil {
			panic(err)
		}
		template.URIs = []*url.URL{uri}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		panic(err)
	}
	return der
}

// parseSVID checks what every caller of the API expects of an X509-SVID it was sent.
func (w *world) parseSVID(answer *types.X509SVID, key *ecdsa.PrivateKey, want spiffeid.ID) (*x509svid.SVID, error) {
	if answer == nil {
		return nil, fmt.Errorf("no SVID in the answer")
	}
	if answer.Id == nil || answer.Id.TrustDomain != want.TrustDomain().Name() || answer.Id.Path != want.Path() {
		return nil, fmt.Errorf("id %v, want %s", answer.Id, want)
	}
	svid := &x509svid.SVID{ID: want, PrivateKey: key}
	for _, der := range answer.CertChain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		svid.Certificates = append(svid.Certificates, certificate)
	}
	id, _, err := x509svid.Verify(svid.Certificates, w.bundle)
	if err != nil {
		return nil, err
	}
	leaf := svid.Certificates[0]
	switch {
	case id != want:
		return nil, fmt.Errorf("certificate of %s, want %s", id, want)
	case !key.PublicKey.Equal(leaf.PublicKey):
		return nil, fmt.Errorf("certificate of another key")
	case answer.ExpiresAt != leaf.NotAfter.Unix():
		return nil, fmt.Errorf("expires_at %d, certificate until %d", answer.ExpiresAt, leaf.NotAfter.Unix())
	case len(leaf.CRLDistributionPoints) > 0:
		return nil, fmt.Errorf("certificate has a CRL distribution point")
	}
	return svid, nil
}

func parseBundle(answer *types.Bundle) (*spiffebundle.Bundle, error) {
	domain, err := spiffeid.TrustDomainFromString(answer.TrustDomain)
	if err != nil {
		return nil, err
	}
	if answer.TrustDomain != domain.Name() {
		return nil, fmt.Errorf("trust domain %q, want the bare name", answer.TrustDomain)
	}
	bundle := spiffebundle.New(domain)
	for _, authority := range answer.X509Authorities {
		certificate, err := x509.ParseCertificate(authority.Asn1) // exactly one, as the agent wants it
		if err != nil {
			return nil, err
		}
		bundle.AddX509Authority(certificate)
	}
	for _, authority := range answer.JwtAuthorities {
		key, err := x509.ParsePKIXPublicKey(authority.PublicKey)
		if err != nil {
			return nil, err
		}
		if err := bundle.AddJWTAuthority(authority.KeyId, key); err != nil {
			return nil, err
		}
	}
	return bundle, nil
}

func protoID(id spiffeid.ID) *types.SPIFFEID {
	return &types.SPIFFEID{TrustDomain: id.TrustDomain().Name(), Path: id.Path()}
}
