// Command workload asks the agent for everything that go-spiffe can ask for, as a workload would.
package main

import (
	"context"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"landfast.test/interop/report"
)

// The identities and sockets that ../run prepared.
type world struct {
	ctx      context.Context
	domain   spiffeid.TrustDomain
	foreign  spiffeid.TrustDomain
	first    spiffeid.ID
	second   spiffeid.ID
	empty    workloadapi.ClientOption // an agent that has no entry for this process
	audience string
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 170*time.Second)
	defer cancel()
	domain := spiffeid.RequireTrustDomainFromString(report.Env("INTEROP_TRUST_DOMAIN"))
	w := &world{
		ctx:      ctx,
		domain:   domain,
		foreign:  spiffeid.RequireTrustDomainFromString(report.Env("INTEROP_FOREIGN_TRUST_DOMAIN")),
		first:    spiffeid.RequireFromSegments(domain, "interop", "first"),
		second:   spiffeid.RequireFromSegments(domain, "interop", "second"),
		empty:    workloadapi.WithAddr(report.Env("INTEROP_EMPTY_SOCKET")),
		audience: "collector",
	}

	r := report.New("go-spiffe")
	rotation := watchRotation(w)
	r.Check("X509Source: both SVIDs verify against the bundle", w.x509Source)
	r.Check("X.509 bundles: own and federated", w.x509Bundles)
	r.Check("BundleSource: one bundle for both uses", w.bundleSource)
	r.Check("JWTSource: token validates against the JWT bundle", w.jwtSource)
	r.Check("JWT: every identity when none is named", w.jwtForAll)
	r.Check("JWT: wrong audience refused here and by the agent", w.wrongAudience)
	r.Check("JWT: changed signature refused by the agent", w.changedSignature)
	r.Check("JWT: an identity of somebody else is denied", w.foreignSubject)
	r.Check("WITSource: every identity's token validates against the WIT bundle, and its key is held", w.wit)
	r.Check("WIT: no JWT-SVID, nor the other way round", w.witIsNoJWT)
	r.Check("WIT: refused to whom it does not belong", w.witRefusals)
	r.Check("WIT: the watch delivers another with another key before the first ends", w.witRotation)
	r.Check("unregistered caller denied by every fetch", w.unregistered)
	r.Check("call without the security header refused", w.withoutHeader)
	r.Check("call with the socket's path as authority", w.pathAsAuthority)
	r.Check("mTLS between two SVIDs", w.mutualTLS)
	r.Check("mTLS refuses a peer of another ID", w.mutualTLSWrongPeer)
	r.Check("rotation: the watch delivers a second SVID", rotation)
	r.Check("the source survives a restart of the agent", w.restart)
	r.Close()
}
