package main

import (
	"fmt"
	"net/url"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"landfast.test/interop/report"
)

func (w *world) unregistered() error {
	_, x509Err := workloadapi.FetchX509SVID(w.ctx, w.empty)
	_, x509BundlesErr := workloadapi.FetchX509Bundles(w.ctx, w.empty)
	_, jwtErr := workloadapi.FetchJWTSVID(w.ctx, jwtsvid.Params{Audience: w.audience}, w.empty)
	_, jwtBundlesErr := workloadapi.FetchJWTBundles(w.ctx, w.empty)
	for method, err := range map[string]error{
		"FetchX509SVID": x509Err, "FetchX509Bundles": x509BundlesErr, "FetchJWTSVID": jwtErr,
		"FetchJWTBundles": jwtBundlesErr,
	} {
		if err := report.WantCode(err, codes.PermissionDenied); err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
	}
	return nil
}

func (w *world) withoutHeader() error {
	client, done, err := rawClient()
	if err != nil {
		return err
	}
	defer done()
	calls := map[string][]string{"no header": nil, "another value": {"workload.spiffe.io", "True"}}
	for name, header := range calls {
		ctx := metadata.AppendToOutgoingContext(w.ctx, header...)
		_, err := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{w.audience}})
		if err := report.WantCode(err, codes.InvalidArgument); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		stream, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err := report.WantCode(err, codes.InvalidArgument); err != nil {
			return fmt.Errorf("%s: stream: %w", name, err)
		}
	}
	return nil
}

func (w *world) pathAsAuthority() error {
	socket, err := url.Parse(report.Env("SPIFFE_ENDPOINT_SOCKET"))
	if err != nil {
		return err
	}
	for _, authority := range []string{socket.Path, url.PathEscape(socket.Path), "a b:c//%"} {
		client, done, err := rawClient(grpc.WithAuthority(authority))
		if err != nil {
			return fmt.Errorf("%s: %w", authority, err)
		}
		ctx := metadata.AppendToOutgoingContext(w.ctx, "workload.spiffe.io", "true")
		for range 3 { // the second call sends the authority from the compression table
			if _, err = client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{w.audience}}); err != nil {
				break
			}
		}
		done()
		if err != nil {
			return fmt.Errorf("%s: %w", authority, err)
		}
	}
	return nil
}

func rawClient(options ...grpc.DialOption) (workload.SpiffeWorkloadAPIClient, func(), error) {
	target, err := workloadapi.TargetFromAddress(report.Env("SPIFFE_ENDPOINT_SOCKET"))
	if err != nil {
		return nil, nil, err
	}
	conn, err := grpc.NewClient(target, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, nil, err
	}
	return workload.NewSpiffeWorkloadAPIClient(conn), func() { _ = conn.Close() }, nil
}
