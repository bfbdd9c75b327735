package sink

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
)

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// One wrong answer of a witness, whose 409 is not signed, is not believed for ever: the next checkpoint is given to it as before.
func TestWrongConflict(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw := append([]byte{cosignatureType}, public...)
	id := sha256.Sum256(append([]byte("witness.example\n"), raw...))
	wrong := false
	var olds []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body) // of this test
		old, rest, _ := strings.Cut(string(text), "\n")
		olds = append(olds, old)
		if wrong {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, "1000000\n")
			return
		}
		_, note, _ := strings.Cut("\n"+rest, "\n\n")
		body, _, _ := strings.Cut(note, "\n\n")
		const at = 1_795_000_000
		signature := ed25519.Sign(private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at, body))
		line := append(binary.BigEndian.AppendUint64(id[:4:4], at), signature...)
		_, _ = io.WriteString(w, "— witness.example "+base64Of(line)+"\n")
	}))
	defer server.Close()
	w, err := NewWitness(server.URL, fmt.Sprintf("witness.example+%x+%s", id[:4], base64Of(raw)), server.Client())
	if err != nil {
		t.Fatal(err)
	}
	prove := func(context.Context, uint64) ([][32]byte, error) { return nil, nil }
	if _, err := w.Extend(t.Context(), note(3, 1), prove); err != nil {
		t.Fatalf("the first: %v", err)
	}
	wrong = true
	if _, err := w.Extend(t.Context(), note(4, 1), prove); !errors.Is(err, audit.ErrContradicted) {
		t.Errorf("a witness that says that it holds more: %v", err)
	}
	wrong = false
	if _, err := w.Extend(t.Context(), note(5, 1), prove); err != nil {
		t.Errorf("once it answers rightly again: %v", err)
	}
	if got := strings.Join(olds, ", "); got != "old 0, old 3, old 3" {
		t.Errorf("it was given checkpoints after %s", got)
	}
}
