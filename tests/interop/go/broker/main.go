// Command broker asks the agent for the identities of another process, by the SPIFFE Broker API as go-spiffe publishes it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/exp/proto/spiffe/broker"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"landfast.test/interop/report"
)

// The identities that ../run prepared: this process and the one it starts have all three of them.
type world struct {
	ctx      context.Context // with the security header
	bare     context.Context
	domain   spiffeid.TrustDomain
	brokered spiffeid.ID // on the list
	hidden   spiffeid.ID // not on it
	source   *workloadapi.X509Source
	client   broker.APIClient
	workload *exec.Cmd
}

func main() {
	bare, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	w, err := connect(bare)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == "nested" {
		fmt.Println(reason(w.fetch(1)))
		return
	}
	w.workload = exec.Command("sleep", "600")
	if err := w.workload.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer func() { _ = w.workload.Process.Kill() }()

	r := report.New("broker")
	rotation := w.watch()
	r.Check("X.509: the listed identity alone, and it verifies", w.x509)
	r.Check("X.509 bundles: those of the workload", w.x509Bundles)
	r.Check("JWT: the listed identity alone, and it verifies by the JWT bundle", w.jwt)
	r.Check("JWT: an identity that is named is given alone or not at all", w.named)
	r.Check("references to nothing are refused, with their reasons", w.refused)
	r.Check("call without the security header refused", w.withoutHeader)
	r.Check("rotation: the stream delivers a second SVID", rotation)
	r.Check("streams end with the workload", w.ends)
	nested(r)
	r.Close()
}

// connect gets the broker's own SVID from the Workload API and shows it; the agent must show a node's.
func connect(bare context.Context) (*world, error) {
	domain := spiffeid.RequireTrustDomainFromString(report.Env("INTEROP_TRUST_DOMAIN"))
	own := spiffeid.RequireFromSegments(domain, "interop", "broker")
	source, err := workloadapi.NewX509Source(bare,
		workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+report.Env("INTEROP_BROKERS_API"))),
		workloadapi.WithDefaultX509SVIDPicker(func(svids []*x509svid.SVID) *x509svid.SVID {
			for _, svid := range svids {
				if svid.ID == own {
					return svid
				}
			}
			return svids[0]
		}))
	if err != nil {
		return nil, fmt.Errorf("workload API: %w", err)
	}
	agent := tlsconfig.AdaptMatcher(func(id spiffeid.ID) error {
		if !id.MemberOf(domain) || !strings.HasPrefix(id.Path(), "/spire/agent/") {
			return fmt.Errorf("%s is no agent", id)
		}
		return nil
	})
	config := tlsconfig.MTLSClientConfig(source, source, agent)
	conn, err := grpc.NewClient("unix://"+report.Env("INTEROP_BROKERS_SOCKET"),
		grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return nil, err
	}
	return &world{
		ctx:      metadata.AppendToOutgoingContext(bare, "broker.spiffe.io", "true"),
		bare:     bare,
		domain:   domain,
		brokered: spiffeid.RequireFromSegments(domain, "interop", "brokered"),
		hidden:   spiffeid.RequireFromSegments(domain, "interop", "hidden"),
		source:   source,
		client:   broker.NewAPIClient(conn),
	}, nil
}

// nested asks from a PID namespace of its own, where this system lets an ordinary user make one.
func nested(r *report.Report) {
	apart := []string{"--user", "--map-current-user", "--pid", "--fork"}
	if exec.Command("unshare", append(apart, "true")...).Run() != nil {
		fmt.Println("     broker: no PID namespace can be made here, so none was asked from")
		return
	}
	r.Check("numbers of another PID namespace are refused", func() error {
		out, err := exec.Command("unshare", append(apart, os.Args[0], "nested")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if got := strings.TrimSpace(string(out)); got != "InvalidArgument WORKLOAD_REFERENCE_INVALID" {
			return errors.New(got)
		}
		return nil
	})
}
