package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/hints"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// replicas is what the others tell this process. A nil one is of a process alone.
type replicas struct{ *hints.Hints }

var _ broker.Hints = (*hints.Hints)(nil)

// openHints begins to hear the other replicas; nil where none are configured.
func openHints(h Hints, key []byte) (*replicas, error) {
	if h.Redis == "" {
		return nil, nil
	}
	c := hints.Config{Address: h.Redis, User: h.User, Key: key, Timeout: time.Duration(h.Timeout)}
	var err error
	if h.PasswordFile != "" {
		if c.Password, err = readSecret(h.PasswordFile); err != nil {
			return nil, fmt.Errorf("hints.passwordFile: %w", err)
		}
	}
	if h.TLS {
		host, _, _ := net.SplitHostPort(h.Redis) // checked by Load
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
		if h.CA != "" {
			pem, err := readCapped(h.CA)
			c.TLS.RootCAs = x509.NewCertPool()
			if err != nil || !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
				return nil, errors.New("hints.ca: no certificate can be read from it")
			}
		}
	}
	open, err := hints.Open(c)
	if err != nil {
		return nil, err
	}
	return &replicas{open}, nil
}

// changed is what the ledger tells of a commit that changed objections.
func (r *replicas) changed() func([]record.NHSNumber) {
	if r == nil {
		return nil
	}
	return r.Changed
}

// used asks whether a statement was taken elsewhere.
func (r *replicas) used() func(string, time.Time) bool {
	if r == nil {
		return nil
	}
	return r.Used
}
