package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"

	"landfast.test/interop/report"
)

// The documents that a SPIRE agent and server exchange in x509pop.
type popPayload struct {
	Certificates [][]byte `json:"certificates"`
}

type popNonce struct {
	Nonce []byte `json:"nonce"`
}

type popChallenge struct {
	RSA   *popNonce `json:"rsa_signature"`
	ECDSA *popNonce `json:"ecdsa_signature"`
}

type popRSA struct {
	Nonce     []byte `json:"nonce"`
	Signature []byte `json:"signature"`
}

type popECDSA struct {
	Nonce []byte `json:"nonce"`
	R     []byte `json:"r"`
	S     []byte `json:"s"`
}

type popResponse struct {
	RSA   *popRSA   `json:"rsa_signature"`
	ECDSA *popECDSA `json:"ecdsa_signature"`
}

func answerChallenge(key crypto.Signer, raw []byte) ([]byte, error) {
	var challenge popChallenge
	if err := json.Unmarshal(raw, &challenge); err != nil {
		return nil, err
	}
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	digest := func(theirs *popNonce) ([]byte, error) {
		if theirs == nil || len(theirs.Nonce) != 32 {
			return nil, fmt.Errorf("challenge %s", raw)
		}
		sum := sha256.Sum256(append(slices.Clone(theirs.Nonce), nonce...))
		return sum[:], nil
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		sum, err := digest(challenge.RSA)
		if err != nil {
			return nil, err
		}
		signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		if err != nil {
			return nil, err
		}
		return json.Marshal(popResponse{RSA: &popRSA{Nonce: nonce, Signature: signature}})
	case *ecdsa.PrivateKey:
		sum, err := digest(challenge.ECDSA)
		if err != nil {
			return nil, err
		}
		r, s, err := ecdsa.Sign(rand.Reader, key, sum)
		if err != nil {
			return nil, err
		}
		return json.Marshal(popResponse{ECDSA: &popECDSA{Nonce: nonce, R: r.Bytes(), S: s.Bytes()}})
	}
	return nil, fmt.Errorf("a key of type %T", key)
}

// attestDevice proves possession of `key` for the device certificate, and asks for an SVID for svidKey.
func (w *world) attestDevice(certificate *x509.Certificate, key crypto.Signer, svidKey *ecdsa.PrivateKey) (*agentv1.AttestAgentResponse_Result, error) {
	for {
		result, err := w.attestDeviceOnce(certificate, key, svidKey)
		if report.CodeOf(err) != codes.ResourceExhausted || w.ctx.Err() != nil {
			return result, err
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (w *world) attestDeviceOnce(certificate *x509.Certificate, key crypto.Signer, svidKey *ecdsa.PrivateKey) (*agentv1.AttestAgentResponse_Result, error) {
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
	payload, err := json.Marshal(popPayload{Certificates: [][]byte{certificate.Raw}})
	if err != nil {
		return nil, err
	}
	err = stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{
		Params: &agentv1.AttestAgentRequest_Params{
			Data:   &types.AttestationData{Type: "x509pop", Payload: payload},
			Params: &agentv1.AgentX509SVIDParams{Csr: request(svidKey, "")},
		},
	}})
	for err == nil || errors.Is(err, io.EOF) {
		answer, recvErr := stream.Recv()
		if recvErr != nil {
			return nil, recvErr
		}
		if result := answer.GetResult(); result != nil {
			return result, stream.CloseSend()
		}
		response, answerErr := answerChallenge(key, answer.GetChallenge())
		if answerErr != nil {
			return nil, answerErr
		}
		err = stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_ChallengeResponse{ChallengeResponse: response}})
	}
	return nil, err
}

func (w *world) newDevice(name string) (*node, error) {
	certificate, key, err := loadDevice(w.devices, name)
	if err != nil {
		return nil, err
	}
	n := &node{id: w.id("spire", "agent", "x509pop", fmt.Sprintf("%x", sha1.Sum(certificate.Raw))), key: newKey()}
	result, err := w.attestDevice(certificate, key, n.key)
	if err != nil {
		return nil, err
	}
	if !result.Reattestable {
		return nil, errors.New("a device certificate can be used again, yet the answer says not reattestable")
	}
	if n.svid, err = w.parseSVID(result.Svid, n.key, n.id); err != nil {
		return nil, err
	}
	n.conn, err = w.dialAs(n.svid)
	return n, err
}

func (w *world) popAttest() error {
	for _, name := range []string{"rsa", "ecdsa"} {
		device, err := w.newDevice(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := post(w, device.conn); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		w.device = device
	}
	ctx, cancel := w.short()
	defer cancel()
	shown, err := agentv1.NewAgentClient(w.local).GetAgent(ctx, &agentv1.GetAgentRequest{Id: protoID(w.device.id)})
	if err != nil {
		return err
	}
	selectors := map[string]bool{}
	for _, selector := range shown.Selectors {
		selectors[selector.Type+":"+selector.Value] = true
	}
	if shown.AttestationType != "x509pop" || !shown.CanReattest || !selectors["x509pop:subject:cn:ecdsa.plant.test"] {
		return fmt.Errorf("type %s, can reattest %t, selectors %v", shown.AttestationType, shown.CanReattest, selectors)
	}
	return nil
}

func (w *world) popRefused() error {
	certificate, key, err := loadDevice(w.devices, "ecdsa")
	if err != nil {
		return err
	}
	stranger, strangerKey, err := loadDevice(w.devices, "stranger")
	if err != nil {
		return err
	}
	_, keyErr := w.attestDevice(certificate, newKey(), newKey())
	_, authorityErr := w.attestDevice(stranger, strangerKey, newKey())
	_, noChainErr := w.attestWith("x509pop", []byte(`{"certificates":[]}`), request(newKey(), ""))
	_, noJSONErr := w.attestWith("x509pop", []byte(`no JSON`), request(newKey(), ""))
	return report.All(
		report.WantCode(keyErr, codes.PermissionDenied),
		report.WantCode(authorityErr, codes.PermissionDenied),
		report.WantCode(noChainErr, codes.InvalidArgument),
		report.WantCode(noJSONErr, codes.InvalidArgument),
		usable(key),
	)
}

// popAgain: a device that can attest again must, and what it had is worthless from then on.
func (w *world) popAgain() error {
	ctx, cancel := w.short()
	defer cancel()
	_, err := agentv1.NewAgentClient(w.device.conn).RenewAgent(ctx, &agentv1.RenewAgentRequest{
		Params: &agentv1.AgentX509SVIDParams{Csr: request(newKey(), "")},
	})
	if err := wantDetail(err, types.PermissionDeniedDetails_AGENT_MUST_REATTEST); err != nil {
		return err
	}
	old := w.device
	defer old.conn.Close()
	if w.device, err = w.newDevice("ecdsa"); err != nil {
		return err
	}
	return report.All(
		post(w, w.device.conn),
		wantReason(post(w, old.conn), types.PermissionDeniedDetails_AGENT_NOT_ACTIVE),
	)
}

// nodeAlias gives entries to every node of a kind: by an entry whose parent is the server.
func (w *world) nodeAlias() error {
	group := &types.Entry{
		SpiffeId:  protoID(w.id("sdk", "gateways")),
		ParentId:  protoID(w.serverID()),
		Selectors: []*types.Selector{{Type: "x509pop", Value: "subject:cn:ecdsa.plant.test"}},
	}
	other := &types.Entry{
		SpiffeId:  protoID(w.id("sdk", "historians")),
		ParentId:  protoID(w.serverID()),
		Selectors: []*types.Selector{{Type: "x509pop", Value: "subject:cn:nobody.plant.test"}},
	}
	foreign := w.workload(w.id("sdk", "historians"), "not-of-this-group")
	if err := w.mustCreate(group, other, foreign); err != nil {
		return err
	}
	defer w.remove(group.Id, other.Id, foreign.Id)
	entry := w.workload(w.id("sdk", "gateways"), "of-the-group")
	if err := w.mustCreateFor(w.device, entry); err != nil {
		return err
	}
	defer w.remove(entry.Id)
	ctx, cancel := w.short()
	defer cancel()
	answer, err := entryv1.NewEntryClient(w.device.conn).GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{})
	if err != nil {
		return err
	}
	if len(answer.Entries) != 1 {
		return fmt.Errorf("got %d entries, want the one below the alias: %v", len(answer.Entries), answer.Entries)
	}
	return nil
}

func (w *world) popBan() error {
	ctx, cancel := w.short()
	defer cancel()
	client := agentv1.NewAgentClient(w.local)
	if _, err := client.BanAgent(ctx, &agentv1.BanAgentRequest{Id: protoID(w.device.id)}); err != nil {
		return err
	}
	_, err := w.newDevice("ecdsa")
	if err := report.WantCode(err, codes.PermissionDenied, "failed to attest: agent is banned"); err != nil {
		return err
	}
	if _, err := client.DeleteAgent(ctx, &agentv1.DeleteAgentRequest{Id: protoID(w.device.id)}); err != nil {
		return err
	}
	device, err := w.newDevice("ecdsa")
	if err != nil {
		return fmt.Errorf("after eviction lifted the ban: %w", err)
	}
	return post(w, device.conn)
}

// usable guards against a test that is refused for a broken key.
func usable(key crypto.Signer) error {
	_, err := answerChallenge(key, []byte(`{"ecdsa_signature":{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}`))
	return err
}
