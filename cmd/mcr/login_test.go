package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// issuer is a token issuer that keeps what it was asked.
func issuer(t *testing.T, answer string, code int) (address string, asked *http.Request) {
	t.Helper()
	asked = &http.Request{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error("no form came")
		}
		*asked = *r
		w.WriteHeader(code)
		_, _ = w.Write([]byte(answer)) // the client reads it or not
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestLogin(t *testing.T) {
	d := newDesk(t)
	address, asked := issuer(t, token+"\n", 200)
	code, out, errs := d.do(t, "login", "-as", "patient", "--issuer", address, "-server", d.address, "-nhs-number", "999 000 0050")
	if code != exitDone || errs != "" || !strings.Contains(out, "PATRQT, patient-self") {
		t.Fatalf("got exit code %d, %q", code, errs)
	}
	if asked.Method != http.MethodPost || asked.URL.RawQuery != "" || asked.PostForm.Get("nhs_number") != eleanor || asked.PostForm.Get("as") != "patient" || asked.PostForm.Has("purpose") {
		t.Error("the issuer was not asked by a form in the body")
	}
	for _, name := range []string{"token", "session.json"} {
		stat, err := os.Stat(filepath.Join(d.configDir, name))
		if err != nil || stat.Mode().Perm() != 0o600 {
			t.Errorf("%s: got mode %v, want 0600", name, stat.Mode())
		}
	}
	if stat, err := os.Stat(d.configDir); err != nil || stat.Mode().Perm() != 0o700 {
		t.Error("the folder is open to others")
	}
	d.broker.record = &v1.GetRecordResponse{Bundle: []byte(`{}`)}
	if code, _, errs := d.do(t, "record", "get", eleanor); code != exitDone { // at the server named at sign-in
		t.Fatalf("got exit code %d, %q", code, errs)
	}
	if in := d.broker.asked.(*v1.GetRecordRequest); in.GetPurpose() != v1.Purpose_PURPOSE_PATRQT || d.broker.header.Get("authorization")[0] != "Bearer "+token {
		t.Error("what was said at sign-in is not stated")
	}
	if _, _, errs := d.do(t, "login", "-as", "gp", "-issuer", address, "-launch", "-purpose", "ETREAT", "-nhs-number", eleanor); errs != "" || asked.PostForm.Get("purpose") != "ETREAT" {
		t.Error("a launch does not state its purpose")
	}
	if code, out, _ := d.do(t, "login", "-as", "ed-doctor", "-issuer", address, "-server", d.address, "-permission", "asked-no"); code != exitDone || !strings.Contains(out, "state: TREAT, asked-no.") {
		t.Errorf("a permission without a purpose: got %q", out)
	}
	if code, _, errs := d.do(t, "record", "get", eleanor); code != exitDone {
		t.Fatalf("got exit code %d, %q", code, errs)
	}
	if in := d.broker.asked.(*v1.GetRecordRequest); in.GetPurpose() != v1.Purpose_PURPOSE_TREAT || in.GetPermission().GetKind() != v1.PermissionKind_PERMISSION_KIND_ASKED_NO || in.GetRelationship() != nil {
		t.Error("the persona's own purpose is not stated, or more than that")
	}
	if _, out, _ := d.do(t, "login", "-as", "front-desk", "-issuer", address, "-permission", "asked-yes"); !strings.Contains(out, "state: asked-yes.") {
		t.Errorf("a persona without a purpose was given one: %q", out)
	}
	if code, _, _ := d.do(t, "logout"); code != exitDone {
		t.Error("logout failed")
	}
	if left, err := os.ReadDir(d.configDir); err != nil || len(left) != 0 {
		t.Errorf("%d files are left behind", len(left))
	}
	if code, out, _ := d.do(t, "logout"); code != exitDone || !strings.Contains(out, "not signed in") {
		t.Error("logging out twice is an error")
	}
	if code, _, errs := d.do(t, "record", "get", eleanor); code != exitSignIn || !strings.Contains(errs, "mcr login") {
		t.Errorf("without a token: got exit code %d, %q", code, errs)
	}
}

func TestLoginWithOwnToken(t *testing.T) {
	d := newDesk(t)
	file := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{file, "-"} {
		d.in = strings.NewReader(" " + token + "\n")
		if code, out, errs := d.do(t, "login", "-token-file", from); code != exitDone || strings.Contains(out, "will state") {
			t.Errorf("got exit code %d, %q", code, errs)
		}
		if got, err := d.token(""); err != nil || got != token {
			t.Error("another token was kept")
		}
	}
	d.in = strings.NewReader("not a token")
	if code, _, _ := d.do(t, "login", "-token-file", "-"); code != exitUse {
		t.Errorf("got exit code %d, want %d", code, exitUse)
	}
	// A token given with a call is used as it is: nothing of the sign-in is stated with it.
	d.signIn(t, session{Stated: stated{"TREAT", "asked-yes", ""}})
	d.broker.record = &v1.GetRecordResponse{Bundle: []byte(`{}`)}
	if code, _, _ := d.do(t, "record", "get", eleanor, "-token-file", file, "-acting-person-file", file); code != exitDone {
		t.Fatalf("got exit code %d", code)
	}
	if in := d.broker.asked.(*v1.GetRecordRequest); in.GetPurpose() != 0 || in.GetPermission() != nil || d.broker.header.Get("acting-person")[0] != token {
		t.Error("statements of the sign-in went with another token, or the acting person is missing")
	}
}

func TestIssuerTrouble(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		name, answer string
		status, code int
		want         string
	}{
		{"refused", `{"error":"invalid_request","error_description":"as: one of gp\u001b[2J"}`, 400, exitUse, "as: one of gp"},
		{"not a token", "<html>", 200, exitFault, "not a signed token"},
		{"endless", strings.Repeat("a", maxToken+10), 200, exitFault, "cannot be read"},
		{"elsewhere", "", 302, exitUse, "no token"},
	} {
		address, _ := issuer(t, c.answer, c.status)
		code, _, errs := d.do(t, "login", "-as", "gp", "-issuer", address)
		if code != c.code || !strings.Contains(errs, c.want) || strings.Contains(errs, "\x1b") {
			t.Errorf("%s: got exit code %d, %q", c.name, code, errs)
		}
	}
	if code, _, errs := d.do(t, "login", "-as", "gp", "-issuer", "http://127.0.0.1:1"); code != exitFault || !strings.Contains(errs, "does not answer") {
		t.Errorf("nobody there: got exit code %d, %q", code, errs)
	}
	if _, err := os.Stat(d.configDir); err == nil {
		t.Error("something was kept")
	}
}

// certificate makes a self-signed certificate for this machine and its file.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestTLS(t *testing.T) {
	cert, ca := certificate(t)
	_, otherCA := certificate(t)
	d := newDesk(t, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	d.signIn(t, session{CA: ca})
	d.broker.record = &v1.GetRecordResponse{Bundle: []byte(`{}`)}
	for _, c := range []struct {
		args []string
		code int
	}{
		{nil, exitDone},
		{[]string{"-server", d.address, "-ca", ca}, exitDone},
		{[]string{"-ca", otherCA}, exitFault},
		{[]string{"-server", d.address, "-plaintext=false"}, exitFault}, // the system does not know the authority
		{[]string{"-server", d.address, "-timeout", "2s"}, exitFault},   // plain text to a server that speaks TLS
	} {
		d.broker.asked = nil
		code, _, errs := d.do(t, append([]string{"record", "get", eleanor}, c.args...)...)
		if code != c.code && !(c.code == exitFault && code == exitLater) {
			t.Errorf("%v: got exit code %d, %q", c.args, code, errs)
		}
		if (d.broker.asked != nil) != (c.code == exitDone) {
			t.Errorf("%v: asked %v", c.args, d.broker.asked != nil)
		}
	}
	if got := fmt.Sprint(isLoopback("localhost"), isLoopback("127.9.9.9"), isLoopback("::1"), isLoopback("example.com"), isLoopback("10.0.0.1")); got != "true true true false false" {
		t.Error(got)
	}
}
