package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"landfast.test/interop/report"
)

// endpoint publishes over https_web whatever it is told, as badly as it is told.
type endpoint struct {
	server *http.Server
	mu     sync.Mutex
	answer http.HandlerFunc
	sent   atomic.Int64 // of a flood
}

func openEndpoint(address string) (*endpoint, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	e := &endpoint{}
	e.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		answer := e.answer
		e.mu.Unlock()
		answer(w, r)
	})}
	e.say(nil)
	go func() { _ = e.server.ServeTLS(listener, report.Env("PLANTS_WEB_CERT"), report.Env("PLANTS_WEB_KEY")) }()
	return e, nil
}

func (e *endpoint) close() { _ = e.server.Close() }

func (e *endpoint) set(answer http.HandlerFunc) {
	e.sent.Store(0)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *endpoint) say(body []byte) {
	e.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
}

func (e *endpoint) publish(sequence uint64, authorities *spiffebundle.Bundle) {
	e.say(documentOf(sequence, authorities))
}

// dawdle sends a byte a second of a document that has no end.
func (e *endpoint) dawdle() {
	e.set(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(time.Second):
			}
		}
	})
}

// flood sends a GiB, as fast as it is taken.
func (e *endpoint) flood() {
	e.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		part := make([]byte, 1<<16)
		for i := range part {
			part[i] = ' '
		}
		for range 1 << 14 {
			n, err := w.Write(part)
			e.sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
}

// complaint is about a client that took more of a flood than buffers on the way explain.
func (e *endpoint) complaint() error {
	if sent := e.sent.Load(); sent > 64<<20 {
		return fmt.Errorf("%d MiB of a document were taken", sent>>20)
	}
	return nil
}
