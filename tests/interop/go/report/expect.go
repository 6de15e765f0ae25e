package report

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Env reads a variable that ../run must have set.
func Env(name string) string {
	value := os.Getenv(name)
	if value == "" {
		fmt.Fprintf(os.Stderr, "%s is not set: this program is started by tests/interop/run\n", name)
		os.Exit(2)
	}
	return value
}

// WantCode is nil when err carries the gRPC code wanted and, if parts are given, each of them in its message.
func WantCode(err error, want codes.Code, parts ...string) error {
	if err == nil {
		return fmt.Errorf("answered OK, want %s", want)
	}
	if got := CodeOf(err); got != want {
		return fmt.Errorf("code %s, want %s: %w", got, want, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			return fmt.Errorf("message lacks %q: %w", part, err)
		}
	}
	return nil
}

// WantStatus does the same for the status of one item of a batch.
func WantStatus(code int32, message string, want codes.Code, parts ...string) error {
	if want == codes.OK && codes.Code(code) == codes.OK {
		return nil
	}
	return WantCode(status.Error(codes.Code(code), message), want, parts...)
}

// CodeOf looks through wrapped errors.
func CodeOf(err error) codes.Code {
	for ; err != nil; err = errors.Unwrap(err) {
		if carrier, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
			return carrier.GRPCStatus().Code()
		}
	}
	return codes.Unknown
}

// All is the first error of several steps.
func All(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
