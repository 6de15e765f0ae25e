package main

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"landfast.test/interop/report"
)

// node is an attested agent: what it was attested with, and its connection.
type node struct {
	id    spiffeid.ID
	token string
	key   *ecdsa.PrivateKey
	svid  *x509svid.SVID
	conn  *grpc.ClientConn
}

func (w *world) newNode() (*node, error) {
	ctx, cancel := w.short()
	defer cancel()
	token, err := agentv1.NewAgentClient(w.local).CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 300})
	if err != nil {
		return nil, err
	}
	n := &node{id: w.id("spire", "agent", "join_token", token.Value), token: token.Value, key: newKey()}
	result, err := w.attestWith("join_token", []byte(n.token), request(n.key, ""))
	if err != nil {
		return nil, err
	}
	if result.Reattestable {
		return nil, fmt.Errorf("a join token cannot be used again, yet the answer says reattestable")
	}
	if n.svid, err = w.parseSVID(result.Svid, n.key, n.id); err != nil {
		return nil, err
	}
	n.conn, err = w.dialAs(n.svid)
	return n, err
}

// attestWith opens the stream, sends the parameters, reads the result and sees the stream end. As an agent does, it waits
// when the server says that too many attest at once.
func (w *world) attestWith(kind string, payload, csr []byte) (*agentv1.AttestAgentResponse_Result, error) {
	for {
		result, err := w.attestOnce(kind, payload, csr)
		if report.CodeOf(err) != codes.ResourceExhausted || w.ctx.Err() != nil {
			return result, err
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (w *world) attestOnce(kind string, payload, csr []byte) (*agentv1.AttestAgentResponse_Result, error) {
	conn, err := w.dialBootstrap()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := w.short()
	defer cancel()
	stream, err := agentv1.NewAgentClient(conn).AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{
		Params: &agentv1.AttestAgentRequest_Params{
			Data:   &types.AttestationData{Type: kind, Payload: payload},
			Params: &agentv1.AgentX509SVIDParams{Csr: csr},
		},
	}})
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the reason is what Recv brings
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	result := answer.GetResult()
	if result == nil {
		return nil, fmt.Errorf("a challenge for %s", kind)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("after the result: %v, want the end of the stream", err)
	}
	return result, nil
}

func (w *world) attestationRefused() error {
	csr := request(newKey(), "")
	_, unknownErr := w.attestWith("join_token", []byte("not-a-token"), csr)
	_, kindErr := w.attestWith("no_such_attestor", []byte("x"), csr)
	_, noDataErr := w.attestWith("join_token", nil, csr)
	_, noTypeErr := w.attestWith("", []byte("x"), csr)
	_, csrErr := w.attestWith("join_token", []byte("not-a-token"), []byte{0x30, 0})
	return report.All(
		report.WantCode(unknownErr, codes.InvalidArgument, "failed to attest: join token does not exist or has already been used"),
		report.WantCode(kindErr, codes.FailedPrecondition),
		report.WantCode(noDataErr, codes.InvalidArgument),
		report.WantCode(noTypeErr, codes.InvalidArgument),
		report.WantCode(csrErr, codes.InvalidArgument),
	)
}

func (w *world) attest() (err error) {
	w.node, err = w.newNode()
	return err
}

func (w *world) attestAgain() error {
	_, otherKeyErr := w.attestWith("join_token", []byte(w.node.token), request(newKey(), ""))
	if err := report.WantCode(otherKeyErr, codes.InvalidArgument,
		"failed to attest: join token does not exist or has already been used"); err != nil {
		return fmt.Errorf("with another key: %w", err)
	}
	result, err := w.attestWith("join_token", []byte(w.node.token), request(w.node.key, ""))
	if err != nil {
		return fmt.Errorf("with the same key: %w", err)
	}
	if w.node.svid, err = w.parseSVID(result.Svid, w.node.key, w.node.id); err != nil {
		return err
	}
	_ = w.node.conn.Close()
	w.node.conn, err = w.dialAs(w.node.svid)
	return err
}

func (w *world) deniedWithoutCertificate() error {
	conn, err := w.dialBootstrap()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := w.short()
	defer cancel()
	_, postErr := agentv1.NewAgentClient(conn).PostStatus(ctx, &agentv1.PostStatusRequest{})
	_, listErr := entryv1.NewEntryClient(conn).ListEntries(ctx, &entryv1.ListEntriesRequest{})
	_, tokenErr := agentv1.NewAgentClient(conn).CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 60})
	stream, syncErr := entryv1.NewEntryClient(conn).SyncAuthorizedEntries(ctx)
	if syncErr == nil {
		_, syncErr = stream.Recv()
	}
	return report.All(
		report.WantCode(postErr, codes.PermissionDenied, "authorization denied for method /spire.api.server.agent.v1.Agent/PostStatus"),
		report.WantCode(listErr, codes.PermissionDenied, "authorization denied for method /spire.api.server.entry.v1.Entry/ListEntries"),
		report.WantCode(tokenErr, codes.PermissionDenied, "authorization denied for method /spire.api.server.agent.v1.Agent/CreateJoinToken"),
		report.WantCode(syncErr, codes.PermissionDenied, "authorization denied for method /spire.api.server.entry.v1.Entry/SyncAuthorizedEntries"),
	)
}

func (w *world) postStatus() error {
	return post(w, w.node.conn)
}

func post(w *world, conn *grpc.ClientConn) error {
	ctx, cancel := w.short()
	defer cancel()
	_, err := agentv1.NewAgentClient(conn).PostStatus(ctx, &agentv1.PostStatusRequest{AgentVersion: "1.15.2-interop"})
	return err
}

func (w *world) newX509() error {
	first, second, stranger := w.workload(w.node.id, "one"), w.workload(w.node.id, "two"), w.sample("stranger")
	first.X509SvidTtl, first.DnsNames = 77, []string{"one.plant.test"}
	if err := w.mustCreate(stranger); err != nil {
		return err
	}
	if err := w.mustCreateFor(w.node, first, second); err != nil {
		return err
	}
	defer w.remove(first.Id, second.Id, stranger.Id)
	keys := []*ecdsa.PrivateKey{newKey(), newKey(), newKey(), newKey()}
	params := []*svidv1.NewX509SVIDParams{
		{EntryId: first.Id, Csr: request(keys[0], w.id("sdk", "one").String())},
		{EntryId: "nobody", Csr: request(keys[1], w.id("sdk", "one").String())},
		{EntryId: stranger.Id, Csr: request(keys[2], w.id("sdk", "stranger").String())},
		// what the request says besides its key must not be believed
		{EntryId: second.Id, Csr: request(keys[3], w.id("sdk", "one").String(), "evil.plant.test")},
		{EntryId: second.Id, Csr: []byte("no request")},
	}
	ctx, cancel := w.short()
	defer cancel()
	answer, err := svidv1.NewSVIDClient(w.node.conn).BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{Params: params})
	if err != nil {
		return err
	}
	if len(answer.Results) != len(params) {
		return fmt.Errorf("%d results for %d requests", len(answer.Results), len(params))
	}
	want := func(i int, code codes.Code, parts ...string) error {
		if err := report.WantStatus(answer.Results[i].Status.Code, answer.Results[i].Status.Message, code, parts...); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
		return nil
	}
	if err := report.All(want(0, codes.OK), want(1, codes.NotFound, "entry not found or not authorized"),
		want(2, codes.NotFound, "entry not found or not authorized"), want(3, codes.OK), want(4, codes.InvalidArgument)); err != nil {
		return err
	}
	one, err := w.parseSVID(answer.Results[0].Svid, keys[0], w.id("sdk", "one"))
	if err != nil {
		return err
	}
	leaf := one.Certificates[0]
	if left := time.Until(leaf.NotAfter); left > 78*time.Second || strings.Join(leaf.DNSNames, ",") != "one.plant.test" {
		return fmt.Errorf("%s left of 77 s, DNS names %v", left, leaf.DNSNames)
	}
	two, err := w.parseSVID(answer.Results[3].Svid, keys[3], w.id("sdk", "two"))
	if err != nil {
		return err
	}
	if len(two.Certificates[0].DNSNames) > 0 {
		return fmt.Errorf("a DNS name of the request: %v", two.Certificates[0].DNSNames)
	}
	return nil
}

func (w *world) newJWT() error {
	entry, stranger := w.workload(w.node.id, "jwt"), w.sample("jwt-stranger")
	if err := w.mustCreate(stranger); err != nil {
		return err
	}
	if err := w.mustCreateFor(w.node, entry); err != nil {
		return err
	}
	defer w.remove(entry.Id, stranger.Id)
	ctx, cancel := w.short()
	defer cancel()
	client := svidv1.NewSVIDClient(w.node.conn)
	answer, err := client.NewJWTSVID(ctx, &svidv1.NewJWTSVIDRequest{EntryId: entry.Id, Audience: []string{"historian", "mes"}})
	if err != nil {
		return err
	}
	_, noAudienceErr := client.NewJWTSVID(ctx, &svidv1.NewJWTSVIDRequest{EntryId: entry.Id})
	_, strangerErr := client.NewJWTSVID(ctx, &svidv1.NewJWTSVIDRequest{EntryId: stranger.Id, Audience: []string{"mes"}})
	return report.All(
		w.wantToken(answer.Svid, w.id("sdk", "jwt"), "mes"),
		report.WantCode(noAudienceErr, codes.InvalidArgument),
		report.WantCode(strangerErr, codes.NotFound, "entry not found or not authorized"),
	)
}

func (w *world) agentIsNoAdmin() error {
	ctx, cancel := w.short()
	defer cancel()
	_, listErr := entryv1.NewEntryClient(w.node.conn).ListEntries(ctx, &entryv1.ListEntriesRequest{})
	_, mintErr := svidv1.NewSVIDClient(w.node.conn).MintJWTSVID(ctx, &svidv1.MintJWTSVIDRequest{
		Id: protoID(w.id("sdk-minted")), Audience: []string{"x"}})
	_, banErr := agentv1.NewAgentClient(w.node.conn).BanAgent(ctx, &agentv1.BanAgentRequest{Id: protoID(w.node.id)})
	return report.All(
		report.WantCode(listErr, codes.PermissionDenied, "authorization denied for method"),
		report.WantCode(mintErr, codes.PermissionDenied, "authorization denied for method"),
		report.WantCode(banErr, codes.PermissionDenied, "authorization denied for method"),
	)
}

func (w *world) renew() error {
	ctx, cancel := w.short()
	defer cancel()
	key := newKey()
	answer, err := agentv1.NewAgentClient(w.node.conn).RenewAgent(ctx, &agentv1.RenewAgentRequest{
		Params: &agentv1.AgentX509SVIDParams{Csr: request(key, "")},
	})
	if err != nil {
		return err
	}
	svid, err := w.parseSVID(answer.Svid, key, w.node.id)
	if err != nil {
		return err
	}
	old := w.node.conn
	defer old.Close()
	if err := post(w, old); err != nil {
		return fmt.Errorf("the old certificate, before the new one was used: %w", err)
	}
	if w.node.conn, err = w.dialAs(svid); err != nil {
		return err
	}
	if err := post(w, w.node.conn); err != nil {
		return fmt.Errorf("the new certificate: %w", err)
	}
	if err := wantReason(post(w, old), types.PermissionDeniedDetails_AGENT_NOT_ACTIVE); err != nil {
		return fmt.Errorf("the old certificate, after the new one was used: %w", err)
	}
	w.node.svid, w.node.key = svid, key
	return nil
}

// wantReason looks for the detail by which an agent decides whether to attest again or to stop.
func wantReason(err error, want types.PermissionDeniedDetails_Reason) error {
	if err := report.WantCode(err, codes.PermissionDenied, "authorization denied for method"); err != nil {
		return err
	}
	return wantDetail(err, want)
}

func wantDetail(err error, want types.PermissionDeniedDetails_Reason) error {
	if err := report.WantCode(err, codes.PermissionDenied); err != nil {
		return err
	}
	for _, detail := range status.Convert(err).Details() {
		if denied, ok := detail.(*types.PermissionDeniedDetails); ok {
			if denied.Reason != want {
				return fmt.Errorf("reason %s, want %s", denied.Reason, want)
			}
			return nil
		}
	}
	return fmt.Errorf("no PermissionDeniedDetails: %w", err)
}
