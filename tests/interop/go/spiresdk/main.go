// Command spiresdk is to Landfast's server what a SPIRE agent and the spire-server command are to theirs: it makes the calls
// of both, in the agent's order, through the published SDK, and looks at codes, messages and details, which they act upon.
//
// It names everything it makes `sdk…` and removes it at the end: other clients use the same server at the same time.
// `spiresdk plants` is another program: it looks at two plants of its own (../../plants/run), every method as every caller among the rest.
// Three checks ask for more than SPIRE gives: a lost reply to a join token, the loss of admin rights at once, and paging
// among downstream entries.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	"landfast.test/interop/report"
)

// What the checks hand on to each other.
type world struct {
	ctx     context.Context
	domain  spiffeid.TrustDomain
	foreign spiffeid.TrustDomain
	address string
	local   *grpc.ClientConn     // the admin socket
	bundle  *spiffebundle.Bundle // read over the admin socket
	node    *node                // attested with a join token
	banned  *node
	devices string // a folder of device certificates
	device  *node  // attested with one of them
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "make-devices" {
		if err := makeDevices(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "plants" {
		plants()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 110*time.Second)
	defer cancel()
	w := &world{
		ctx:     ctx,
		domain:  spiffeid.RequireTrustDomainFromString(report.Env("INTEROP_TRUST_DOMAIN")),
		foreign: spiffeid.RequireTrustDomainFromString(report.Env("INTEROP_FOREIGN_TRUST_DOMAIN")),
		address: report.Env("INTEROP_SERVER_ADDRESS"),
		devices: report.Env("INTEROP_DEVICES"),
	}

	r := report.New("spire-api-sdk")
	// the command line, on the admin socket
	r.Check("admin: health", w.health)
	r.Check("admin: own bundle, masked and whole", w.ownBundle)
	r.Check("admin: join tokens", w.joinTokens)
	r.Check("admin: create, show, update and delete entries", w.entries)
	r.Check("admin: entries that cannot be", w.badEntries)
	r.Check("admin: list, filter, page and count entries", w.entryLists)
	r.Check("admin: federated bundles", w.federatedBundles)
	r.Check("admin: mint X.509", w.mintX509)
	r.Check("admin: mint JWT", w.mintJWT)
	// the agent, on the TCP port
	r.Check("agent: bundle before attestation", w.bundleWithoutCertificate)
	r.Check("agent: attestation refused", w.attestationRefused)
	r.Check("agent: attest with a join token", w.attest)
	r.Check("agent: lost reply retried with the same key, token then spent", w.attestAgain)
	r.Check("agent: no other method without a certificate", w.deniedWithoutCertificate)
	r.Check("agent: PostStatus", w.postStatus)
	r.Check("agent: sync a short list", w.syncShort)
	r.Check("agent: sync a list of several pages", w.syncLong)
	r.Check("agent: a batch of X509-SVIDs", w.newX509)
	r.Check("agent: JWT-SVID", w.newJWT)
	r.Check("agent: federated bundle", w.agentFederatedBundle)
	r.Check("agent: no admin method", w.agentIsNoAdmin)
	r.Check("agent: renew, both certificates until the new one is used", w.renew)
	r.Check("admin over TCP by an entry with admin=true", w.adminByEntry)
	r.Check("admin: list, show and count agents", w.agents)
	r.Check("admin: ban", w.ban)
	r.Check("admin: evict", w.evict)
	r.Check("x509pop: RSA and ECDSA devices", w.popAttest)
	r.Check("x509pop: another key, another authority, no chain refused", w.popRefused)
	r.Check("x509pop: attest again instead of renewing", w.popAgain)
	r.Check("x509pop: entries by a node alias", w.nodeAlias)
	r.Check("x509pop: ban outlives attestation, eviction lifts it", w.popBan)
	r.Check("admin: evicted and banned agents are gone from the list", w.cleanUp)
	r.Close()
}
