package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1" // for its descriptors
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"landfast.test/interop/report"
)

// caller is one who calls every method.
type caller struct {
	name string
	is   class
	conn *grpc.ClientConn
	// what the refusal of an agent's method says of who is none
	reason types.PermissionDeniedDetails_Reason
}

// everyMethodIsListed compares the table with what the SDK knows.
func everyMethodIsListed() error {
	listed := map[string]bool{}
	for _, row := range methods {
		if listed[row.method] {
			return fmt.Errorf("%s stands twice", row.method)
		}
		listed[row.method] = true
		if _, err := describe(row.method); err != nil {
			return err
		}
	}
	var missing []string
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		server := strings.HasPrefix(string(file.Package()), "spire.api.server.") || file.Package() == "grpc.health.v1"
		for i := 0; server && i < file.Services().Len(); i++ {
			service := file.Services().Get(i)
			for j := 0; j < service.Methods().Len(); j++ {
				name := fmt.Sprintf("%s/%s", service.FullName(), service.Methods().Get(j).Name())
				if !listed[name] {
					missing = append(missing, name)
				}
			}
		}
		return true
	})
	if len(missing) > 0 {
		return fmt.Errorf("not in the table: %v", missing)
	}
	return nil
}

func describe(method string) (protoreflect.MethodDescriptor, error) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.Replace(method, "/", ".", 1)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	described, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no method", method)
	}
	return described, nil
}

// callAll calls each method once, and says which answers are not those of the table.
func (w *world) callAll(who caller) error {
	var wrong []string
	for _, row := range methods {
		if err := w.callOne(who, row); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", row.method, err))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d of %d: %s", len(wrong), len(methods), strings.Join(wrong, "; "))
	}
	return nil
}

func (w *world) callOne(who caller, row row) error {
	answer, err := w.invoke(who.conn, row.method, w.fill(row.ask))
	if row.may&(who.is|anybody) == 0 {
		if who.is != local && row.may == local {
			return report.WantCode(err, codes.Unimplemented) // there it is not served at all
		}
		if err := report.WantCode(err, codes.PermissionDenied, "authorization denied for method /"+row.method); err != nil {
			return err
		}
		if row.may&agent != 0 && who.reason != types.PermissionDeniedDetails_UNKNOWN {
			return wantDetail(err, who.reason)
		}
		return nil
	}
	want, says := row.want, w.fill(row.says)
	if row.absent {
		want, says = codes.Unimplemented, ""
	}
	if want != codes.OK {
		return report.WantCode(err, want, says)
	}
	if err != nil {
		return err
	}
	if !strings.Contains(answer, says) {
		return fmt.Errorf("%q is not in the answer %s", says, answer)
	}
	return nil
}

func (w *world) fill(text string) string {
	// A key of its own each time: one that was given to one identity is refused to another.
	csr := base64.StdEncoding.EncodeToString(request(newKey(), w.id("minted").String()))
	return strings.NewReplacer("$TD", w.domain.Name(), "$NODE", w.node.id.Path(), "$CSR", csr).Replace(text)
}

// invoke sends one message and returns the first answer, of streams too.
func (w *world) invoke(conn *grpc.ClientConn, method, ask string) (string, error) {
	described, err := describe(method)
	if err != nil {
		return "", err
	}
	request, err := message(described.Input())
	if err != nil {
		return "", err
	}
	if err := protojson.Unmarshal([]byte(ask), request); err != nil {
		return "", fmt.Errorf("%s: %w", ask, err)
	}
	answer, err := message(described.Output())
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+method)
	if err != nil {
		return "", err
	}
	// A refusal may be there before the message is sent: what Recv brings tells.
	_ = stream.SendMsg(request)
	_ = stream.CloseSend()
	if err := stream.RecvMsg(answer); err != nil {
		return "", err
	}
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(answer)
	if err != nil {
		return "", err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return "", err
	}
	return compact.String(), nil
}

func message(of protoreflect.MessageDescriptor) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

// callers are one of each class, and two who are nobody.
func (w *world) callers() ([]caller, error) {
	var err error
	if w.node, err = w.newNode(); err != nil {
		return nil, err
	}
	stranger, err := w.dialBootstrap()
	if err != nil {
		return nil, err
	}
	below := w.workload(w.node.id, "below")
	below.Downstream = true
	if err := w.mustCreate(below); err != nil {
		return nil, err
	}
	dialMinted := func(segments ...string) *grpc.ClientConn {
		svid, mintErr := w.mint(segments...)
		if mintErr != nil {
			err = errors.Join(err, mintErr)
			return nil
		}
		conn, dialErr := w.dialAs(svid)
		err = errors.Join(err, dialErr)
		return conn
	}
	none := types.PermissionDeniedDetails_AGENT_NOT_ATTESTED
	all := []caller{
		{name: "on the admin socket", is: local, conn: w.local},
		{name: "as an administrator over mTLS", is: admin, conn: dialMinted("console"), reason: none},
		{name: "as an agent", is: agent, conn: w.node.conn},
		{name: "as a downstream server", is: downstream, conn: dialMinted("sdk", "below"), reason: none},
		{name: "as a workload without rights", conn: dialMinted("nobody"), reason: none},
		{name: "without a certificate", conn: stranger},
	}
	return all, err
}
