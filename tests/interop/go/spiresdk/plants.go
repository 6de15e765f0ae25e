package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"landfast.test/interop/report"
)

// plant is one of the two trust domains of plants/run.
type plant struct {
	*world
	web    string // where it publishes with a certificate of the web's
	spiffe string // where it publishes with its own SVID
}

// both plants, and what stands beside them.
type site struct {
	a, b  plant
	web   *http.Client // trusts the authority of the web
	roots *x509.CertPool
	evil  string // where an endpoint of ours is to listen, of a trust domain that does not exist
	r     *report.Report
}

func plants() {
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Second)
	defer cancel()
	s, err := openSite(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.r = report.New("plants")
	s.r.Check("every method of the SDK is in the table", everyMethodIsListed)
	callers, err := s.a.callers()
	s.r.Check("callers of each class", func() error { return err })
	for _, caller := range callers {
		s.r.Check(fmt.Sprintf("all %d methods %s", len(methods), caller.name), func() error { return s.a.callAll(caller) })
	}
	s.r.Check("log levels", s.a.logLevels)
	s.r.Check("federation relationships: create, show, update, delete", s.a.relationships)
	s.r.Check("agent's admin socket: debug", s.agentDebug)
	s.r.Check("agent's admin socket: log levels", s.agentLogger)
	s.r.Check("agent's delegate socket: SVIDs, JWTs and bundles of others, and none that are not listed", s.delegated)
	s.r.Check("OIDC: a JWT-SVID logs in through discovery", s.login)
	s.r.Check("OIDC: another issuer, audience, key and time are refused", s.noLogin)
	s.r.Check("Margo: discovery, bundle, principals over TLS 1.3", s.margo)
	s.r.Check("Margo: who may not be a principal", s.margoRefused)
	s.federation()
	s.r.Check("authorities of X.509: prepare, activate, taint, revoke", s.b.rotateX509)
	s.r.Check("authorities of JWT: prepare, activate, taint, revoke", s.b.rotateJWT)
	s.r.Close()
}

func openSite(ctx context.Context) (*site, error) {
	s := &site{evil: report.Env("PLANTS_EVIL"), roots: x509.NewCertPool()}
	pem, err := os.ReadFile(report.Env("PLANTS_WEB_CA"))
	if err != nil {
		return nil, err
	}
	if !s.roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in PLANTS_WEB_CA")
	}
	s.web = s.client(0)
	if s.a, err = openPlant(ctx, "A"); err != nil {
		return nil, err
	}
	s.b, err = openPlant(ctx, "B")
	return s, err
}

func openPlant(ctx context.Context, which string) (plant, error) {
	env := func(name string) string { return report.Env("PLANTS_" + which + "_" + name) }
	w := &world{ctx: ctx, domain: spiffeid.RequireTrustDomainFromString(env("DOMAIN")), address: env("ADDRESS")}
	conn, err := grpc.NewClient("unix://"+env("ADMIN"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return plant{}, err
	}
	w.local = conn
	return plant{world: w, web: env("WEB"), spiffe: env("SPIFFE")}, w.ownBundle()
}

// mint has an SVID made on the admin socket.
func (w *world) mint(segments ...string) (*x509svid.SVID, error) {
	ctx, cancel := w.short()
	defer cancel()
	key, id := newKey(), w.id(segments...)
	answer, err := svidv1.NewSVIDClient(w.local).MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: request(key, id.String())})
	if err != nil {
		return nil, err
	}
	return w.parseSVID(answer.Svid, key, id)
}
