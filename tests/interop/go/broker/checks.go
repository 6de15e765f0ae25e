package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/exp/proto/spiffe/broker"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"landfast.test/interop/report"
)

func packed(message proto.Message) *broker.WorkloadReference {
	reference, err := anypb.New(message)
	if err != nil {
		panic(err)
	}
	return &broker.WorkloadReference{Reference: reference}
}

func process(pid int32) *broker.WorkloadReference {
	return packed(&broker.WorkloadPIDReference{Pid: pid})
}

func (w *world) pid() int32 { return int32(w.workload.Process.Pid) }

func (w *world) stream(pid int32) (broker.API_SubscribeToX509SVIDClient, error) {
	return w.client.SubscribeToX509SVID(w.ctx, &broker.SubscribeToX509SVIDRequest{Reference: process(pid)})
}

// fetch is the first message's error.
func (w *world) fetch(pid int32) error {
	stream, err := w.stream(pid)
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

func (w *world) tokens(reference *broker.WorkloadReference, id string) (*broker.FetchJWTSVIDResponse, error) {
	request := &broker.FetchJWTSVIDRequest{Reference: reference, Audience: []string{"collector"}, SpiffeId: id}
	return w.client.FetchJWTSVID(w.ctx, request)
}

// reason is the code, and the reason of the standard if the error has one.
func reason(err error) string {
	parts := []string{status.Code(err).String()}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "spiffe.io" {
			parts = append(parts, info.Reason)
		}
	}
	return strings.Join(parts, " ")
}

func want(err error, wanted string) error {
	if got := reason(err); got != wanted {
		return fmt.Errorf("%s, want %s: %w", got, wanted, err)
	}
	return nil
}

const notEntitled = "PermissionDenied WORKLOAD_NOT_ENTITLED"

func (w *world) x509() error {
	stream, err := w.stream(w.pid())
	if err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err != nil {
		return err
	}
	if len(answer.Svids) != 1 || answer.Svids[0].SpiffeId != w.brokered.String() {
		return fmt.Errorf("want %s alone, got %v", w.brokered, answer.Svids)
	}
	svid, err := x509svid.ParseRaw(answer.Svids[0].X509Svid, answer.Svids[0].X509SvidKey)
	if err != nil {
		return err
	}
	id, _, err := x509svid.Verify(svid.Certificates, w.source)
	if err == nil && id != w.brokered {
		err = fmt.Errorf("it is %s", id)
	}
	return err
}

func (w *world) x509Bundles() error {
	request := &broker.SubscribeToX509BundlesRequest{Reference: process(w.pid())}
	stream, err := w.client.SubscribeToX509Bundles(w.ctx, request)
	if err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err != nil {
		return err
	}
	if len(answer.Bundles) != 1 || len(answer.Bundles[w.domain.IDString()]) == 0 {
		return fmt.Errorf("want that of %s alone, got %d", w.domain, len(answer.Bundles))
	}
	return nil
}

func (w *world) jwt() error {
	stream, err := w.client.SubscribeToJWTBundles(w.ctx, &broker.SubscribeToJWTBundlesRequest{Reference: process(w.pid())})
	if err != nil {
		return err
	}
	bundles, err := stream.Recv()
	if err != nil {
		return err
	}
	bundle, err := jwtbundle.Parse(w.domain, bundles.Bundles[w.domain.IDString()])
	if err != nil {
		return err
	}
	answer, err := w.tokens(process(w.pid()), "")
	if err != nil {
		return err
	}
	if len(answer.Svids) != 1 {
		return fmt.Errorf("%d tokens", len(answer.Svids))
	}
	svid, err := jwtsvid.ParseAndValidate(answer.Svids[0].Svid, bundle, []string{"collector"})
	if err == nil && svid.ID != w.brokered {
		err = fmt.Errorf("it is %s", svid.ID)
	}
	return err
}

func (w *world) named() error {
	answer, err := w.tokens(process(w.pid()), w.brokered.String())
	if err != nil {
		return err
	}
	if len(answer.Svids) != 1 || answer.Svids[0].SpiffeId != w.brokered.String() {
		return fmt.Errorf("got %v", answer.Svids)
	}
	_, hidden := w.tokens(process(w.pid()), w.hidden.String())
	_, malformed := w.tokens(process(w.pid()), "brokered")
	return report.All(want(hidden, notEntitled), want(malformed, "InvalidArgument"))
}

func (w *world) refused() error {
	pod := &broker.KubernetesObjectReference{
		Type: &broker.KubernetesObjectType{Plural: "pods", Group: "core"},
		Key:  &broker.KubernetesObjectKey{Namespace: "shop", Name: "checkout"},
	}
	invalid := "InvalidArgument WORKLOAD_REFERENCE_INVALID"
	for wanted, references := range map[string][]*broker.WorkloadReference{
		invalid:                       {nil, {}, packed(pod), process(0), process(-1)},
		"NotFound WORKLOAD_NOT_FOUND": {process(math.MaxInt32)},
		notEntitled:                   {process(1)},
	} {
		for _, reference := range references {
			_, err := w.tokens(reference, "")
			if err := want(err, wanted); err != nil {
				return fmt.Errorf("%v: %w", reference, err)
			}
		}
	}
	return nil
}

func (w *world) withoutHeader() error {
	request := &broker.FetchJWTSVIDRequest{Reference: process(w.pid()), Audience: []string{"collector"}}
	_, err := w.client.FetchJWTSVID(w.bare, request)
	return report.WantCode(err, codes.InvalidArgument)
}

// watch opens a stream now; what it returns waits for the second SVID on it.
func (w *world) watch() func() error {
	stream, err := w.stream(w.pid())
	return func() error {
		if err != nil {
			return err
		}
		first, err := stream.Recv()
		for err == nil {
			var next *broker.SubscribeToX509SVIDResponse
			if next, err = stream.Recv(); err == nil && !bytes.Equal(first.Svids[0].X509Svid, next.Svids[0].X509Svid) {
				return nil
			}
		}
		return err
	}
}

func (w *world) ends() error {
	stream, err := w.stream(w.pid())
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := w.workload.Process.Kill(); err != nil {
		return err
	}
	for err == nil {
		_, err = stream.Recv()
	}
	_ = w.workload.Wait()
	return report.All(
		want(err, "NotFound WORKLOAD_NOT_FOUND"),
		want(w.fetch(w.pid()), "NotFound WORKLOAD_NOT_FOUND"))
}
