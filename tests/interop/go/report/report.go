// Package report prints one line a check, in the form that ../run counts, and remembers whether any failed.
//
// A panic inside a check is a failed check: what follows it is still run.
package report

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// Report is what one client found.
type Report struct {
	client string
	mu     sync.Mutex
	failed bool
}

// New starts the report of the named client.
func New(client string) *Report { return &Report{client: client} }

// Check runs one check and prints its line. It tells whether the check passed.
func (r *Report) Check(name string, check func() error) (passed bool) {
	defer func() {
		if cause := recover(); cause != nil {
			passed = r.line(name, fmt.Errorf("panic: %v", cause))
		}
	}()
	return r.line(name, check())
}

// Close prints the line without which ../run counts the client as one that died, and leaves the process.
func (r *Report) Close() {
	fmt.Printf("done %s\n", r.client)
	if r.failed {
		os.Exit(1)
	}
	os.Exit(0)
}

func (r *Report) line(name string, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		fmt.Printf("ok   %s: %s\n", r.client, name)
		return true
	}
	r.failed = true
	fmt.Printf("FAIL %s: %s: %s\n", r.client, name, strings.ReplaceAll(err.Error(), "\n", " | "))
	return false
}
