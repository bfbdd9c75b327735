package audit_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/consent"
)

// cosigner signs whatever it is given, each time anew, as a witness does: with the time.
type cosigner struct {
	times    uint64
	at, last audit.Checkpoint // the first and the last that it was given
}

func (*cosigner) Name() string                                { return "the witness witness.example" }
func (*cosigner) Holds(context.Context) (uint64, bool, error) { return 0, false, nil }
func (s *cosigner) Extend(_ context.Context, c audit.Checkpoint, _ func(context.Context, uint64) ([][32]byte, error)) ([]byte, error) {
	if s.times == 0 {
		s.at = c
	}
	s.times, s.last = s.times+1, c
	return line("witness.example", s.times), nil
}

// line is a signature of nobody's, another for each number.
func line(name string, n uint64) []byte {
	raw := binary.BigEndian.AppendUint64(make([]byte, 4), n)
	return []byte("— " + name + " " + base64.StdEncoding.EncodeToString(append(raw, make([]byte, 64)...)) + "\n")
}

// once starts a ledger where p's was, and ends it.
func once(t *testing.T, p *audittest.Place, do func(*audit.Ledger, audit.Store)) error {
	t.Helper()
	store, err := sqlite.Open(ctx, sqlite.Config{Path: p.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	c := p.Config
	c.Store = store
	l, err := audit.Open(ctx, c)
	if err != nil {
		return err
	}
	do(l, store)
	end, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return l.Shutdown(end)
}

// A ledger that starts again and again while nothing is recorded is given a signature of the same checkpoint each time, and keeps the first.
func TestStartsDoNotPileUpCosignatures(t *testing.T) {
	witness := &cosigner{}
	p := audittest.New(t, audit.Config{Sinks: []audit.Sink{witness}})
	p.Close(t)
	var first audit.Checkpoint
	for n := range 5 {
		if err := once(t, p, func(l *audit.Ledger, _ audit.Store) {
			deadline := time.Now().Add(5 * time.Second)
			for {
				c, err := l.Checkpoint(ctx, 0)
				if err != nil {
					t.Fatal(err)
				}
				lines := bytes.Count(c.Note, []byte("\n— witness.example "))
				if lines > 1 {
					t.Fatalf("start %d: %d signatures of one witness", n+2, lines)
				}
				if lines == 1 && first.Note == nil {
					first = c
				}
				if lines == 1 && bytes.Equal(c.Note, first.Note) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("start %d: the checkpoint has no signature of the witness, or not its first", n+2)
				}
				time.Sleep(5 * time.Millisecond)
			}
		}); err != nil {
			t.Fatalf("start %d: %v", n+2, err)
		}
	}
	if witness.times < 6 {
		t.Fatalf("the witness signed %d times, want one for each start", witness.times)
	}
}

// What strangers put beside a checkpoint's own signature cannot unmake it: a ledger on which lines had piled up, whole or torn, starts, and gives its witness no more
// than a checker takes.
func TestStrangersLinesDoNotUnmakeACheckpoint(t *testing.T) {
	for name, junk := range map[string]func(uint64) []byte{
		"one witness's, again and again": func(n uint64) []byte { return line("witness.example", n) },
		"of many names":                  func(n uint64) []byte { return line("w"+base64.RawURLEncoding.EncodeToString([]byte{byte(n)}), n) },
		"that are no signatures":         func(uint64) []byte { return []byte("— x y\n") },
	} {
		t.Run(name, func(t *testing.T) {
			witness := &cosigner{}
			p := audittest.New(t, audit.Config{Sinks: []audit.Sink{witness}})
			verifiers, err := p.Keys.Verifiers(p.Ledger.Origin())
			if err != nil {
				t.Fatal(err)
			}
			v, err := note.NewVerifier(verifiers[0])
			if err != nil {
				t.Fatal(err)
			}
			p.Close(t)
			spoil := func(change func([]byte) []byte) {
				t.Helper()
				store, err := sqlite.Open(ctx, sqlite.Config{Path: p.Path})
				if err != nil {
					t.Fatal(err)
				}
				err = store.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
					c, _, err := tx.LastCheckpoint()
					if err != nil {
						return err
					}
					c.Note = change(c.Note)
					return tx.PutCheckpoint(c)
				})
				if err := errors.Join(err, store.Close()); err != nil {
					t.Fatal(err)
				}
			}
			spoil(func(b []byte) []byte {
				for n := range uint64(110) {
					b = append(b, junk(n)...)
				}
				return b
			})
			*witness = cosigner{}
			if err := once(t, p, func(*audit.Ledger, audit.Store) {}); err != nil {
				t.Fatalf("with 110 lines beside its own: %v", err)
			}
			if _, err := note.Open(witness.at.Note, note.VerifierList(v)); err != nil {
				t.Errorf("what the witness was given: %v", err)
			}
			spoil(func(b []byte) []byte {
				return bytes.ReplaceAll(b, []byte("— "+p.Config.Origin+" "), []byte("— y "))
			})
			if err := once(t, p, func(*audit.Ledger, audit.Store) {}); !errors.Is(err, audit.ErrDamaged) {
				t.Errorf("without the ledger's own signature: %v, want ErrDamaged", err)
			}
		})
	}
}

// broken is a witness whose answers are more than its own code can read.
type broken struct{ cosigner }

func (s *broken) Extend(ctx context.Context, c audit.Checkpoint, prove func(context.Context, uint64) ([][32]byte, error)) ([]byte, error) {
	if s.times > 0 {
		panic("CANARY")
	}
	return s.cosigner.Extend(ctx, c, prove)
}

// A sink that panics is one that fails, and the ledger serves on.
func TestASinkThatPanicsFails(t *testing.T) {
	p := audittest.New(t, audit.Config{Sinks: []audit.Sink{&broken{}}})
	a := ask{subject: number(t, "9990000018")}
	access := a.access(time.Now(), consent.Decision{Outcome: consent.Refused, Reason: consent.ReasonRole})
	if _, err := p.Ledger.Refuse(ctx, access); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !p.Ledger.Stats().Sinks[0].Failing; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not said that the sink fails")
		}
	}
	if _, err := p.Ledger.Refuse(ctx, a.access(time.Now(), consent.Decision{Outcome: consent.Refused, Reason: consent.ReasonRole})); err != nil {
		t.Error(err)
	}
}
