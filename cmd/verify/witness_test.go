package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
)

func witnessOf(t testing.TB) *witness {
	t.Helper()
	return witnessFor(t, t.TempDir(), otherKey(t))
}

func witnessFor(t testing.TB, dir, ledger string) *witness {
	t.Helper()
	k, err := parseKey(ledger)
	if err != nil {
		t.Fatal(err)
	}
	w, err := openWitness(dir, "witness.example", []key{k}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.close() }) // it may be closed already
	return w
}

// sent is what a client sends: an old size, a proof, a checkpoint.
func sent(old uint64, proof [][32]byte, note []byte) []byte {
	b := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range proof {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return append(append(b, '\n'), note...)
}

// A witness cosigns what continues what it cosigned, and nothing else, also after it was started anew.
func TestWitness(t *testing.T) {
	w := write(t, 12)
	l := w.Ledger
	var notes []audit.Checkpoint
	for i := range 3 {
		w.access(t, 300+i, number(t, "9990000018"), false)
		w.settle(t)
		c, err := l.Checkpoint(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, c)
	}
	prove := func(from, to int) [][32]byte {
		t.Helper()
		p, err := l.Consistency(ctx, notes[from].Size, notes[to].Size)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	fork := write(t, 30)
	forked, err := fork.Ledger.Checkpoint(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	witness := witnessFor(t, dir, w.key)
	ask := func(body []byte) (int, string) {
		t.Helper()
		rec := httptest.NewRecorder()
		witness.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/add-checkpoint", bytes.NewReader(body)))
		if strings.Contains(rec.Body.String(), "—") && rec.Code != http.StatusOK {
			t.Errorf("status %d and a signature", rec.Code)
		}
		return rec.Code, rec.Body.String()
	}
	unsigned, _, _ := bytes.Cut(notes[0].Note, []byte("— "))
	changed := bytes.Replace(notes[0].Note, []byte(fmt.Sprint(notes[0].Size)), []byte(fmt.Sprint(notes[0].Size+1)), 1)
	size := func(i int) string { return fmt.Sprintf("%d\n", notes[i].Size) }
	for i, step := range []struct {
		name string
		body []byte
		code int
		says string
	}{
		{"nothing", nil, 400, ""},
		{"not signed", sent(0, nil, unsigned), 403, ""},
		{"changed", sent(0, nil, changed), 403, ""},
		{"another ledger's key", sent(0, nil, forked.Note), 403, ""},
		{"the first, with a proof from nothing", sent(0, prove(0, 1), notes[0].Note), 422, ""},
		{"the first, as if another had been before", sent(5, nil, notes[0].Note), 409, "0\n"},
		{"the first", sent(0, nil, notes[0].Note), 200, "— witness.example "},
		{"the same again", sent(notes[0].Size, nil, notes[0].Note), 200, "— witness.example "},
		{"the second, as if there had been none", sent(0, nil, notes[1].Note), 409, size(0)},
		{"the second, without a proof", sent(notes[0].Size, nil, notes[1].Note), 422, ""},
		{"the second, with a proof of another", sent(notes[0].Size, prove(0, 2), notes[1].Note), 422, ""},
		{"the third, with its proof", sent(notes[0].Size, prove(0, 2), notes[2].Note), 200, "— witness.example "},
		{"back to the second", sent(notes[1].Size, nil, notes[1].Note), 409, size(2)},
		{"back to the second, as if it continued the third", sent(notes[2].Size, nil, notes[1].Note), 400, ""},
		{"the old size is not a number", append([]byte("old 01\n\n"), notes[2].Note...), 400, ""},
		{"started anew: back to the first", sent(notes[0].Size, nil, notes[0].Note), 409, size(2)},
		{"the third again", sent(notes[2].Size, nil, notes[2].Note), 200, "— witness.example "},
	} {
		if strings.HasPrefix(step.name, "started anew") {
			before := witness.key().String()
			k, err := parseKey(w.key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := openWitness(dir, "witness.example", []key{k}, io.Discard); err == nil || !strings.Contains(err.Error(), "another process is the witness of this folder") {
				t.Errorf("a second witness on the folder: %v", err)
			}
			if err := witness.close(); err != nil {
				t.Fatal(err)
			}
			if witness = witnessFor(t, dir, w.key); witness.key().String() != before {
				t.Error("it has another key after it was started anew")
			}
		}
		code, body := ask(step.body)
		if code != step.code || step.says != "" && !strings.HasPrefix(body, step.says) {
			t.Errorf("%d, %s: %d %q, want %d %q", i, step.name, code, body, step.code, step.says)
		}
		if code == http.StatusOK {
			c, err := parseCheckpoint(append(bytes.Clone(notes[2].Note), body...))
			if at, ok := c.cosignedBy(witness.key()); strings.Contains(step.name, "third") && (err != nil || !ok || time.Since(at) > time.Minute) {
				t.Errorf("%s: what it signed cannot be checked: %v", step.name, err)
			}
		}
	}

	// What it has is on disk before it signs: if it cannot be kept, nothing is signed.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	w.access(t, 400, number(t, "9990000018"), false)
	w.settle(t)
	c, err := l.Checkpoint(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	notes = append(notes, c)
	if code, body := ask(sent(notes[2].Size, prove(2, 3), c.Note)); code != http.StatusInternalServerError {
		t.Errorf("where nothing can be kept: %d %q", code, body)
	}
	if code, _ := ask(sent(notes[2].Size, nil, notes[2].Note)); code != http.StatusOK {
		t.Errorf("it forgot what it had: %d", code)
	}
	rec := httptest.NewRecorder()
	witness.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/add-checkpoint", nil))
	if rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", rec.Code)
	}
	rec = httptest.NewRecorder()
	witness.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/add-checkpoint", bytes.NewReader(make([]byte, maxRequest+1))))
	if rec.Code != http.StatusBadRequest {
		t.Errorf("a body that is too large: %d", rec.Code)
	}
}

// running is a witness that listens.
func running(t *testing.T, w *witness) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.serve(serving, l, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the witness: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// A ledger has its checkpoints cosigned while it runs; a checker sees it; and a backup that is restored together with its folder of checkpoints is refused by the
// witness alone, at the start.
func TestLedgerWithAWitness(t *testing.T) {
	dir := t.TempDir()
	keys, err := audit.CreateKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	const origin = "mycarerecord.example/witnessed"
	verifiers, err := keys.Verifiers(origin)
	if err != nil {
		t.Fatal(err)
	}
	cosigner := witnessFor(t, t.TempDir(), verifiers[0])
	address := running(t, cosigner)
	path := filepath.Join(dir, "ledger.db")
	var stores []*sqlite.Store
	start := func(path, address string) (*written, error) {
		t.Helper()
		store, err := sqlite.Open(ctx, sqlite.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		folder, err := sink.NewFolder(audittest.Checkpoints(path))
		if err != nil {
			t.Fatal(err)
		}
		remote, err := sink.NewWitness(address, cosigner.key().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := audit.Open(ctx, audit.Config{Store: store, Keys: keys, Origin: origin, Sinks: []audit.Sink{folder, remote}})
		if err != nil {
			return nil, errors.Join(err, store.Close())
		}
		stores = append(stores, store)
		return &written{Place: &audittest.Place{Ledger: l, Keys: keys, Path: path}, key: verifiers[0]}, nil
	}
	stop := func(w *written) {
		t.Helper()
		if err := errors.Join(w.Ledger.Shutdown(ctx), stores[len(stores)-1].Close()); err != nil {
			t.Fatal(err)
		}
	}
	cosignedAll := func(w *written) {
		t.Helper()
		w.settle(t)
		for range 300 {
			s := w.Ledger.Stats()
			c, err := w.Ledger.Checkpoint(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := parseCheckpoint(c.Note)
			if _, ok := parsed.cosignedBy(cosigner.key()); err == nil && ok && s.Sinks[1].Size == c.Size && !s.Sinks[1].Failing {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("the newest checkpoint is not cosigned: %+v", w.Ledger.Stats().Sinks)
	}
	w, err := start(path, address)
	if err != nil {
		t.Fatal(err)
	}
	w.access(t, 1, number(t, "9990000018"), false)
	cosignedAll(w)
	stop(w)
	backup := filepath.Join(t.TempDir(), "ledger.db")
	audittest.CopyFiles(t, backup, path)

	if w, err = start(path, address); err != nil {
		t.Fatalf("again: %v", err)
	}
	w.access(t, 2, number(t, "9990000018"), false)
	cosignedAll(w)
	stop(w)
	b, err := exported(t, w, path, false)
	if err != nil {
		t.Fatal(err)
	}
	code, out := invoke("export", file(t, "export.jsonl", b), "-key", w.key, "-witness", cosigner.key().String())
	if code != 0 || !strings.Contains(out, "witness witness.example cosigned") {
		t.Errorf("exit %d, %s", code, out)
	}

	if _, err := start(backup, address); !errors.Is(err, audit.ErrDamaged) || !errors.Is(err, audit.ErrContradicted) {
		t.Errorf("a backup that was restored with its folder: %v, want ErrContradicted", err)
	} else {
		t.Logf("refused: %v", err)
	}
	// A witness that cannot be reached stops nobody from caring for people.
	if w, err = start(path, "http://127.0.0.1:1"); err != nil {
		t.Fatalf("with the witness away: %v", err)
	}
	w.access(t, 3, number(t, "9990000018"), false)
	if s := w.Ledger.Stats().Sinks[1]; !s.Failing || s.Contradicted {
		t.Errorf("the witness that is away: %+v", s)
	}
	stop(w)
}
