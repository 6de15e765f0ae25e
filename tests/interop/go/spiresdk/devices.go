package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// makeDevices writes a manufacturer's authority (ca.pem) and what it issued: rsa, ecdsa; and a stranger that it did not.
func makeDevices(dir string) error {
	authority, authorityKey, err := newAuthority("Interop Devices")
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "ca.pem"), "CERTIFICATE", authority.Raw); err != nil {
		return err
	}
	unknown, unknownKey, err := newAuthority("Unknown Devices")
	if err != nil {
		return err
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		name      string
		key       crypto.Signer
		issuer    *x509.Certificate
		issuerKey crypto.Signer
	}{
		{"rsa", rsaKey, authority, authorityKey},
		{"ecdsa", newKey(), authority, authorityKey},
		{"stranger", newKey(), unknown, unknownKey},
	} {
		if err := writeDevice(dir, d.name, d.key, d.issuer, d.issuerKey); err != nil {
			return err
		}
	}
	return nil
}

func newAuthority(name string) (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	certificate, err := issue(template, template, key.Public(), key)
	return certificate, key, err
}

func writeDevice(dir, name string, key crypto.Signer, issuer *x509.Certificate, issuerKey crypto.Signer) error {
	certificate, err := issue(&x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name + ".plant.test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}, issuer, key.Public(), issuerKey)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, name+".key"), "PRIVATE KEY", der); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, name+".pem"), "CERTIFICATE", certificate.Raw)
}

func issue(template, issuer *x509.Certificate, key crypto.PublicKey, issuerKey crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key, issuerKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func loadDevice(dir, name string) (*x509.Certificate, crypto.Signer, error) {
	var der [2][]byte
	for i, ending := range []string{".pem", ".key"} {
		text, err := os.ReadFile(filepath.Join(dir, name+ending))
		if err != nil {
			return nil, nil, err
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, nil, fmt.Errorf("%s%s is not PEM", name, ending)
		}
		der[i] = block.Bytes
	}
	certificate, err := x509.ParseCertificate(der[0])
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der[1])
	if err != nil {
		return nil, nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s: a key of type %T", name, key)
	}
	return certificate, signer, nil
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
