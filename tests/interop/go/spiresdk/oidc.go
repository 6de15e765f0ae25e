package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"landfast.test/interop/report"
)

// client is one of the web; with `version`, it speaks this TLS alone.
func (s *site) client(version uint16) *http.Client {
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots, MinVersion: version, MaxVersion: version}},
	}
}

// provider is what a party that accepts logins makes of the issuer's URL: it asks for discovery and for keys.
func (s *site) provider(issuer string) (*oidc.Provider, error) {
	return oidc.NewProvider(oidc.ClientContext(s.a.ctx, s.web), issuer)
}

func (s *site) login() error {
	provider, err := s.provider(s.a.web)
	if err != nil {
		return err
	}
	token, err := s.a.token("historian", "cloud")
	if err != nil {
		return err
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: "cloud"}).Verify(s.a.ctx, token)
	if err != nil {
		return err
	}
	if verified.Issuer != s.a.web || verified.Subject != s.a.id("historian").String() {
		return fmt.Errorf("logged in as %s of %s", verified.Subject, verified.Issuer)
	}
	var discovery struct {
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := provider.Claims(&discovery); err != nil {
		return err
	}
	if len(discovery.Algorithms) != 1 || !strings.HasPrefix(discovery.Algorithms[0], "ES") {
		return fmt.Errorf("algorithms %v", discovery.Algorithms)
	}
	return nil
}

func (s *site) noLogin() error {
	provider, err := s.provider(s.a.web)
	if err != nil {
		return err
	}
	cloud := provider.Verifier(&oidc.Config{ClientID: "cloud"})
	refused := func(name, token, part string) error {
		_, err := cloud.Verify(s.a.ctx, token)
		if err == nil || !strings.Contains(err.Error(), part) {
			return fmt.Errorf("%s: %v, want %q", name, err, part)
		}
		return nil
	}
	good, err := s.a.token("historian", "cloud")
	if err != nil {
		return err
	}
	elsewhere, err := s.a.token("historian", "another-cloud")
	if err != nil {
		return err
	}
	foreign, err := s.b.token("historian", "cloud")
	if err != nil {
		return err
	}
	forged, err := forge(good)
	if err != nil {
		return err
	}
	late := provider.Verifier(&oidc.Config{ClientID: "cloud", Now: func() time.Time { return time.Now().Add(time.Hour) }})
	_, lateErr := late.Verify(s.a.ctx, good)
	var expired *oidc.TokenExpiredError
	if !errors.As(lateErr, &expired) {
		return fmt.Errorf("an hour later: %v", lateErr)
	}
	// Whose keys fit and who is still another: what is judged here is the issuer alone.
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(s.a.ctx, s.web), s.b.web+"/keys")
	_, issuerErr := oidc.NewVerifier(s.a.web, keys, &oidc.Config{ClientID: "cloud", SupportedSigningAlgs: []string{oidc.ES256, oidc.ES384}}).Verify(s.a.ctx, foreign)
	if issuerErr == nil || !strings.Contains(issuerErr.Error(), "issued by a different provider") {
		return fmt.Errorf("another issuer: %v", issuerErr)
	}
	_, otherIssuer := s.provider(s.a.web + "/other")
	if otherIssuer == nil {
		return fmt.Errorf("discovery of an issuer that is not ours")
	}
	return report.All(
		refused("another audience", elsewhere, "expected audience"),
		refused("another plant's token", foreign, "failed to verify"),
		refused("the same claims, signed by somebody", forged, "failed to verify"),
		refused("a changed token", good[:len(good)-8]+"AAAAAAAA", "failed to verify"),
	)
}

// forge signs the claims of a token anew, with a key of its own and the same key ID.
func forge(token string) (string, error) {
	algorithms := []jose.SignatureAlgorithm{jose.ES256, jose.ES384}
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return "", err
	}
	var claims map[string]any
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return "", err
	}
	algorithm, curve := jose.SignatureAlgorithm(parsed.Headers[0].Algorithm), elliptic.P256()
	if algorithm == jose.ES384 {
		curve = elliptic.P384()
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: parsed.Headers[0].KeyID}}, nil)
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}
