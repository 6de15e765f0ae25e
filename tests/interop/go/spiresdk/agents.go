package main

import (
	"fmt"
	"slices"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"landfast.test/interop/report"
)

// adminByEntry is the way in for an administrator who is not on the server's machine.
func (w *world) adminByEntry() error {
	entry := w.workload(w.node.id, "operator")
	entry.Admin = true
	if err := w.mustCreateFor(w.node, entry); err != nil {
		return err
	}
	defer w.remove(entry.Id)
	ctx, cancel := w.short()
	defer cancel()
	key := newKey()
	answer, err := svidv1.NewSVIDClient(w.node.conn).BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{
		Params: []*svidv1.NewX509SVIDParams{{EntryId: entry.Id, Csr: request(key, w.id("sdk", "operator").String())}},
	})
	if err != nil {
		return err
	}
	svid, err := w.parseSVID(answer.Results[0].Svid, key, w.id("sdk", "operator"))
	if err != nil {
		return err
	}
	conn, err := w.dialAs(svid)
	if err != nil {
		return err
	}
	defer conn.Close()
	list := func() error {
		_, err := entryv1.NewEntryClient(conn).ListEntries(ctx, &entryv1.ListEntriesRequest{PageSize: 1})
		return err
	}
	if err := list(); err != nil {
		return err
	}
	if err := wantReason(post(w, conn), types.PermissionDeniedDetails_AGENT_NOT_ATTESTED); err != nil {
		return fmt.Errorf("an agent's method by an administrator who is no agent: %w", err)
	}
	if _, err := w.remove(entry.Id); err != nil {
		return err
	}
	if err := report.WantCode(list(), codes.PermissionDenied, "authorization denied for method"); err != nil {
		return fmt.Errorf("after the entry was deleted, on the same connection: %w", err)
	}
	return nil // taking rights away may not wait for anything; giving them may
}

func (w *world) agents() error {
	ctx, cancel := w.short()
	defer cancel()
	client := agentv1.NewAgentClient(w.local)
	shown, err := client.GetAgent(ctx, &agentv1.GetAgentRequest{Id: protoID(w.node.id)})
	if err != nil {
		return err
	}
	decimal := w.node.svid.Certificates[0].SerialNumber.String()
	if shown.AttestationType != "join_token" || shown.Banned || shown.CanReattest ||
		shown.X509SvidSerialNumber != decimal ||
		shown.X509SvidExpiresAt != w.node.svid.Certificates[0].NotAfter.Unix() {
		return fmt.Errorf("shown %v, serial %s", shown, decimal)
	}
	if shown.AgentVersion != "1.15.2-interop" {
		return fmt.Errorf("version %q", shown.AgentVersion)
	}
	count, err := client.CountAgents(ctx, &agentv1.CountAgentsRequest{})
	if err != nil {
		return err
	}
	listed, err := w.listAgents(nil)
	if err != nil {
		return err
	}
	if int(count.Count) != len(listed) || !slices.Contains(listed, w.node.id.String()) {
		return fmt.Errorf("counted %d, listed %v", count.Count, listed)
	}
	byType, err := w.listAgents(&agentv1.ListAgentsRequest_Filter{ByAttestationType: "x509pop"})
	if err != nil {
		return err
	}
	if slices.Contains(byType, w.node.id.String()) {
		return fmt.Errorf("listed among another attestation's agents")
	}
	_, noAgentErr := client.GetAgent(ctx, &agentv1.GetAgentRequest{Id: protoID(w.id("sdk", "one"))})
	_, unknownErr := client.GetAgent(ctx, &agentv1.GetAgentRequest{Id: protoID(w.id("spire", "agent", "join_token", "nobody"))})
	return report.All(report.WantCode(noAgentErr, codes.InvalidArgument), report.WantCode(unknownErr, codes.NotFound))
}

func (w *world) listAgents(filter *agentv1.ListAgentsRequest_Filter) ([]string, error) {
	var listed []string
	list := &agentv1.ListAgentsRequest{Filter: filter, PageSize: 1, OutputMask: &types.AgentMask{}}
	for {
		ctx, cancel := w.short()
		page, err := agentv1.NewAgentClient(w.local).ListAgents(ctx, list)
		cancel()
		if err != nil {
			return nil, err
		}
		for _, agent := range page.Agents {
			id, err := idOf(agent.Id)
			if err != nil {
				return nil, err
			}
			listed = append(listed, id.String())
		}
		if list.PageToken = page.NextPageToken; list.PageToken == "" {
			return listed, nil
		}
	}
}

func (w *world) ban() (err error) {
	if w.banned, err = w.newNode(); err != nil {
		return err
	}
	if err := post(w, w.banned.conn); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	ctx, cancel := w.short()
	defer cancel()
	client := agentv1.NewAgentClient(w.local)
	if _, err := client.BanAgent(ctx, &agentv1.BanAgentRequest{Id: protoID(w.banned.id)}); err != nil {
		return err
	}
	if err := wantReason(post(w, w.banned.conn), types.PermissionDeniedDetails_AGENT_BANNED); err != nil {
		return err
	}
	_, err = w.attestWith("join_token", []byte(w.banned.token), request(w.banned.key, ""))
	if code := report.CodeOf(err); err == nil || (code != codes.PermissionDenied && code != codes.InvalidArgument) {
		return fmt.Errorf("attesting again with the key of the banned: %v", err)
	}
	shown, err := client.GetAgent(ctx, &agentv1.GetAgentRequest{Id: protoID(w.banned.id)})
	if err != nil {
		return err
	}
	listed, err := w.listAgents(&agentv1.ListAgentsRequest_Filter{ByBanned: wrapperspb.Bool(true)})
	if err != nil {
		return err
	}
	if !shown.Banned || !slices.Equal(listed, []string{w.banned.id.String()}) {
		return fmt.Errorf("banned %t, listed %v", shown.Banned, listed)
	}
	_, unknownErr := client.BanAgent(ctx, &agentv1.BanAgentRequest{Id: protoID(w.id("spire", "agent", "join_token", "nobody"))})
	return report.WantCode(unknownErr, codes.NotFound)
}

func (w *world) evict() error {
	ctx, cancel := w.short()
	defer cancel()
	client := agentv1.NewAgentClient(w.local)
	if _, err := client.DeleteAgent(ctx, &agentv1.DeleteAgentRequest{Id: protoID(w.node.id)}); err != nil {
		return err
	}
	if err := wantReason(post(w, w.node.conn), types.PermissionDeniedDetails_AGENT_NOT_ATTESTED); err != nil {
		return err
	}
	_, err := w.attestWith("join_token", []byte(w.node.token), request(w.node.key, ""))
	if err := report.WantCode(err, codes.InvalidArgument); err != nil {
		return fmt.Errorf("the token of the evicted agent: %w", err)
	}
	_, err = client.DeleteAgent(ctx, &agentv1.DeleteAgentRequest{Id: protoID(w.node.id)})
	return report.WantCode(err, codes.NotFound)
}

func (w *world) cleanUp() error {
	ctx, cancel := w.short()
	defer cancel()
	if _, err := agentv1.NewAgentClient(w.local).DeleteAgent(ctx, &agentv1.DeleteAgentRequest{Id: protoID(w.banned.id)}); err != nil {
		return err
	}
	listed, err := w.listAgents(nil)
	if err != nil {
		return err
	}
	if slices.Contains(listed, w.node.id.String()) || slices.Contains(listed, w.banned.id.String()) {
		return fmt.Errorf("still listed: %v", listed)
	}
	return nil
}
