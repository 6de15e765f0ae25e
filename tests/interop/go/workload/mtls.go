package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func (w *world) mutualTLS() error {
	return w.talk(w.first, w.second)
}

func (w *world) mutualTLSWrongPeer() error {
	stranger := spiffeid.RequireFromSegments(w.domain, "interop", "third")
	if w.talk(stranger, w.second) == nil {
		return errors.New("the client took the server for somebody else")
	}
	if w.talk(w.first, stranger) == nil {
		return errors.New("the server took the client for somebody else")
	}
	return nil
}

// talk lets the second identity call the first over mutual TLS, each demanding of the other the ID given.
func (w *world) talk(wantServer, wantClient spiffeid.ID) error {
	server, err := w.sourceOf(w.first)
	if err != nil {
		return err
	}
	defer server.Close()
	client, err := w.sourceOf(w.second)
	if err != nil {
		return err
	}
	defer client.Close()

	listener, err := tls.Listen("tcp", "127.0.0.1:0",
		tlsconfig.MTLSServerConfig(server, server, tlsconfig.AuthorizeID(wantClient)))
	if err != nil {
		return err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() { served <- answerOne(listener) }()

	conn, err := tls.Dial("tcp", listener.Addr().String(),
		tlsconfig.MTLSClientConfig(client, client, tlsconfig.AuthorizeID(wantServer)))
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("reading")); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err = errors.Join(err, <-served); err != nil {
		return err
	}
	if want := w.second.String() + " sent reading"; string(answer) != want {
		return fmt.Errorf("answer %q", answer)
	}
	return nil
}

func answerOne(listener net.Listener) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	body, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	peer, err := spiffetls.PeerIDFromConnectionState(conn.(*tls.Conn).ConnectionState())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conn, "%s sent %s", peer, body)
	return err
}

func (w *world) sourceOf(id spiffeid.ID) (*workloadapi.X509Source, error) {
	return workloadapi.NewX509Source(w.ctx, workloadapi.WithDefaultX509SVIDPicker(
		func(svids []*x509svid.SVID) *x509svid.SVID {
			for _, svid := range svids {
				if svid.ID == id {
					return svid
				}
			}
			return svids[0]
		}))
}
