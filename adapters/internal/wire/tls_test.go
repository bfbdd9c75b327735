package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for these tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, writePEM(t, "CERTIFICATE", der)}
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// issue returns the files of a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "CERTIFICATE", der), writePEM(t, "EC PRIVATE KEY", keyDER)
}

func tlsServer(t *testing.T, a *authority, change func(*tls.Config)) string {
	t.Helper()
	certFile, keyFile := a.issue(t)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fhir(w); _, _ = io.WriteString(w, `{}`) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	change(s.TLS)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	cert, key := ours.issue(t)
	strangerCert, strangerKey := theirs.issue(t)
	clients := x509.NewCertPool()
	clients.AddCert(ours.cert)
	mutual := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, clients }
	mutual12 := func(c *tls.Config) { mutual(c); c.MaxVersion = tls.VersionTLS12 }
	for _, c := range []struct {
		name   string
		server func(*tls.Config)
		conf   Connection
		want   Kind
	}{
		{"trusted", func(*tls.Config) {}, Connection{CAFile: ours.file}, 0},
		{"not trusted", func(*tls.Config) {}, Connection{CAFile: theirs.file}, Unavailable},
		{"not trusted by the system", func(*tls.Config) {}, Connection{}, Unavailable},
		{"too old", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, Connection{CAFile: ours.file}, Unavailable},
		{"mutual", mutual, Connection{CAFile: ours.file, CertificateFile: cert, KeyFile: key}, 0},
		{"mutual, 1.2", mutual12, Connection{CAFile: ours.file, CertificateFile: cert, KeyFile: key}, 0},
		{"mutual without a certificate", mutual, Connection{CAFile: ours.file}, Unauthorised},
		{"mutual with a stranger's", mutual, Connection{CAFile: ours.file, CertificateFile: strangerCert, KeyFile: strangerKey}, Unauthorised},
		{"mutual with a stranger's, 1.2", mutual12, Connection{CAFile: ours.file, CertificateFile: strangerCert, KeyFile: strangerKey}, Unauthorised},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.conf.BaseURL = tlsServer(t, ours, c.server)
			cl, err := New(c.conf)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cl.Close)
			if _, err := get(t, cl, NewBudget(100, 100, nil)); kindOf(t, err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestPlainHTTPWhereTLSIsConfigured(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fhir(w) }))
	t.Cleanup(s.Close)
	c := clientOf(t, "https"+s.URL[len("http"):])
	if _, err := get(t, c, NewBudget(100, 100, nil)); kindOf(t, err) != Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
}

// A connection that was closed on our side before a byte was written has sent nothing: such a request may be sent again.
func TestClosedHereHasSentNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // nobody calls any more
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newLine(raw, raw)
	if _, err := c.Write([]byte("POST")); err != nil || c.written.Load() != 4 {
		t.Errorf("%d bytes count as sent, want 4 (%v)", c.written.Load(), err)
	}
	_ = c.Close() // so that the next write meets a closed connection
	if _, err := c.Write([]byte("more")); err == nil || c.written.Load() != 4 {
		t.Errorf("%d bytes count as sent, want 4 (%v)", c.written.Load(), err)
	}
}
