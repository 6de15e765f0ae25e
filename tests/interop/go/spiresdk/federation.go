package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	trustdomainv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"

	"landfast.test/interop/report"
)

// federation: A follows B with https_spiffe, through the API; B follows A with https_web, and a domain that is ours to spoil, by its file.
func (s *site) federation() {
	s.r.Check("federation: https_spiffe, made through the API", s.followBySpiffe)
	s.r.Check("federation: https_spiffe, another endpoint than the one named", s.wrongEndpoint)
	s.r.Check("federation: https_web, by the file", func() error { return s.b.follows(s.a.world) })
	s.r.Check("federation: programs of both plants in mTLS", func() error { return s.meet("line") })
	s.r.Check("federation: a new authority is followed", s.followRotation)
	s.spoiled()
}

func (w *world) refresh(domain string) error {
	ctx, cancel := w.short()
	defer cancel()
	_, err := trustdomainv1.NewTrustDomainClient(w.local).RefreshBundle(ctx, &trustdomainv1.RefreshBundleRequest{TrustDomain: domain})
	return err
}

// stored is what a plant has of another.
func (w *world) stored(domain string) (*types.Bundle, error) {
	ctx, cancel := w.short()
	defer cancel()
	return bundlev1.NewBundleClient(w.local).GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: domain})
}

// follows asks at once, and compares with what the other says of itself.
func (w *world) follows(other *world) error {
	if err := w.refresh(other.domain.Name()); err != nil {
		return err
	}
	stored, err := w.stored(other.domain.Name())
	if err != nil {
		return err
	}
	ctx, cancel := w.short()
	defer cancel()
	own, err := bundlev1.NewBundleClient(other.local).GetBundle(ctx, &bundlev1.GetBundleRequest{})
	if err != nil {
		return err
	}
	theirs, err := parseBundle(stored)
	if err != nil {
		return err
	}
	ours, err := parseBundle(own)
	if err != nil {
		return err
	}
	if stored.SequenceNumber != own.SequenceNumber || !theirs.X509Bundle().Equal(ours.X509Bundle()) || !theirs.JWTBundle().Equal(ours.JWTBundle()) {
		return fmt.Errorf("stored is sequence %d, published %d", stored.SequenceNumber, own.SequenceNumber)
	}
	return nil
}

func (s *site) relate(endpoint string) error {
	ctx, cancel := s.a.short()
	defer cancel()
	bundle, err := bundlev1.NewBundleClient(s.b.local).GetBundle(ctx, &bundlev1.GetBundleRequest{})
	if err != nil {
		return err
	}
	client := trustdomainv1.NewTrustDomainClient(s.a.local)
	_, err = client.BatchDeleteFederationRelationship(ctx, &trustdomainv1.BatchDeleteFederationRelationshipRequest{TrustDomains: []string{s.b.domain.Name()}})
	if err != nil {
		return err
	}
	made, err := client.BatchCreateFederationRelationship(ctx, &trustdomainv1.BatchCreateFederationRelationshipRequest{
		FederationRelationships: []*types.FederationRelationship{{
			TrustDomain: s.b.domain.Name(), BundleEndpointUrl: s.b.spiffe, TrustDomainBundle: bundle,
			BundleEndpointProfile: &types.FederationRelationship_HttpsSpiffe{HttpsSpiffe: &types.HTTPSSPIFFEProfile{EndpointSpiffeId: endpoint}},
		}},
	})
	if err != nil {
		return err
	}
	return report.WantStatus(made.Results[0].Status.Code, made.Results[0].Status.Message, codes.OK)
}

func (s *site) followBySpiffe() error {
	return report.All(s.relate(s.b.serverID().String()), s.a.follows(s.b.world))
}

func (s *site) wrongEndpoint() error {
	if err := s.relate(s.b.id("somebody").String()); err != nil {
		return err
	}
	if s.a.refresh(s.b.domain.Name()) == nil {
		return fmt.Errorf("another endpoint than %s was believed", s.b.id("somebody"))
	}
	return s.followBySpiffe()
}

// meet is mTLS between a program of each plant, each with what its own server says of the other.
func (s *site) meet(name string) error {
	trust := func(mine, other *world) (*x509bundle.Set, error) {
		stored, err := mine.stored(other.domain.Name())
		if err != nil {
			return nil, err
		}
		foreign, err := parseBundle(stored)
		if err != nil {
			return nil, err
		}
		return x509bundle.NewSet(mine.bundle.X509Bundle(), foreign.X509Bundle()), nil
	}
	ofA, err := trust(s.a.world, s.b.world)
	if err != nil {
		return err
	}
	ofB, err := trust(s.b.world, s.a.world)
	if err != nil {
		return err
	}
	inA, err := s.a.mint(name)
	if err != nil {
		return err
	}
	inB, err := s.b.mint(name)
	if err != nil {
		return err
	}
	accept := tlsconfig.MTLSServerConfig(inA, ofA, tlsconfig.AuthorizeID(inB.ID))
	come := tlsconfig.MTLSClientConfig(inB, ofB, tlsconfig.AuthorizeID(inA.ID))
	if err := shake(s.a.ctx, accept, come); err != nil {
		return err
	}
	alone := tlsconfig.MTLSServerConfig(inA, s.a.bundle, tlsconfig.AuthorizeID(inB.ID))
	if shake(s.a.ctx, alone, come) == nil {
		return errors.New("a foreigner was believed without his bundle")
	}
	return nil
}

// shake is a handshake over the loopback.
func shake(ctx context.Context, accept, come *tls.Config) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	heard := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			err = tls.Server(conn, accept).HandshakeContext(ctx)
		}
		heard <- err
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	// In TLS 1.3 the client has finished before the server has looked at its certificate: both have to agree.
	err = tls.Client(conn, come).HandshakeContext(ctx)
	return errors.Join(err, <-heard)
}

// followRotation: an authority that B has made meanwhile signs, and A's programs know it after one look.
func (s *site) followRotation() error {
	client := localauthorityv1.NewLocalAuthorityClient(s.b.local)
	prepared, err := client.PrepareX509Authority(s.b.ctx, &localauthorityv1.PrepareX509AuthorityRequest{})
	if err != nil {
		return err
	}
	if _, err := client.ActivateX509Authority(s.b.ctx, &localauthorityv1.ActivateX509AuthorityRequest{AuthorityId: prepared.PreparedAuthority.AuthorityId}); err != nil {
		return err
	}
	return report.All(s.b.ownBundle(), s.a.follows(s.b.world), s.meet("rotated"))
}

const spoiledDomain = "spoiled.test"

// spoiled: what an endpoint does that is not well, and that the bundle we had stays.
func (s *site) spoiled() {
	endpoint, err := openEndpoint(s.evil)
	s.r.Check("a bad endpoint: good at first", func() error {
		if err != nil {
			return err
		}
		endpoint.publish(10, s.a.bundle)
		return report.All(s.b.refresh(spoiledDomain), s.has(10))
	})
	if endpoint == nil {
		return
	}
	defer endpoint.close()
	for _, bad := range []struct {
		name, says string
		begin      func()
	}{
		{"a sequence that goes back", "older than 10", func() { endpoint.publish(9, s.a.bundle) }},
		{"the same sequence with other keys", "other keys", func() { endpoint.publish(10, s.b.bundle) }},
		{"no answer to the end, while others are followed", "", endpoint.dawdle},
		{"a document of 1 GiB", "", endpoint.flood},
		{"no bundle", "", func() { endpoint.say([]byte("<html>")) }},
	} {
		s.r.Check("a bad endpoint: "+bad.name, func() error {
			bad.begin()
			asked := make(chan error, 1)
			go func() { asked <- s.b.refresh(spoiledDomain) }()
			if err := s.b.follows(s.a.world); err != nil {
				return fmt.Errorf("another peer meanwhile: %w", err)
			}
			err := <-asked
			if err == nil || !strings.Contains(err.Error(), bad.says) || report.CodeOf(err) == codes.DeadlineExceeded {
				return fmt.Errorf("refresh: %v", err)
			}
			return report.All(s.has(10), endpoint.complaint())
		})
	}
	s.r.Check("a bad endpoint: good again", func() error {
		endpoint.publish(11, s.b.bundle)
		return report.All(s.b.refresh(spoiledDomain), s.has(11))
	})
}

func (s *site) has(sequence uint64) error {
	stored, err := s.b.stored(spoiledDomain)
	if err != nil {
		return err
	}
	if stored.SequenceNumber != sequence {
		return fmt.Errorf("stored is sequence %d, want %d", stored.SequenceNumber, sequence)
	}
	return nil
}

func documentOf(sequence uint64, authorities *spiffebundle.Bundle) []byte {
	bundle := spiffebundle.FromX509Authorities(authorities.TrustDomain(), slices.Clone(authorities.X509Authorities()))
	bundle.SetSequenceNumber(sequence)
	text, err := bundle.Marshal()
	if err != nil {
		panic(err)
	}
	return text
}
