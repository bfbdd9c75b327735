package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever a file or a request holds, the checker says what it thinks of it, and takes nothing for proved.
func FuzzInputs(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("..", "..", "audit", "testdata", "tree.golden"))
	if err != nil {
		f.Fatal(err)
	}
	_, note, _ := strings.Cut(string(golden), "checkpoint\n")
	f.Add([]byte(note))
	f.Add([]byte("old 3\n" + strings.Repeat("A", 43) + "=\n\n" + note))
	f.Add([]byte(`{"ledger":"a","version":1}` + "\n" + `{"position":0,"version":1,"type":14,"time":1,"epoch":1,"commitment":"` + strings.Repeat("00", 32) + `","leaf":"` +
		strings.Repeat("00", 32) + `","opened":"AAAA"}` + "\n" + `{"checkpoint":"x"}` + "\n" + `{"end":1}` + "\n"))
	f.Add([]byte("12." + strings.Repeat("ab", 32) + `; origin="x"`))
	f.Add([]byte(`{"origin":"x","position":"3","leaf":"` + strings.Repeat("A", 43) + `="}`))
	f.Add([]byte("a+00000001+AQ=="))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newChecker(nil, payloadKeys{1: {}})
		if c.read(bytes.NewReader(b)) == nil && c.found == 0 && c.tree.size > 0 {
			t.Error("an export is sound without a key that is trusted")
		}
		if s, err := parseCheckpoint(b); err == nil {
			if s.signedBy(nil) {
				t.Error("signed by nobody")
			}
			if again, err := parseCheckpoint(append(bytes.Clone(s.text), "\n— a AAAAAAA=\n"...)); err != nil || again.root != s.root || again.size != s.size {
				t.Errorf("its own text is read as another: %v", err)
			}
		}
		if r, err := parseReceipt(string(b)); err == nil && r.position > 1<<63-1 {
			t.Error("a position beyond any ledger")
		}
		if _, proof, _, err := parseRequest(b); err == nil && len(proof) > maxProof {
			t.Error("a proof without end")
		}
		if k, err := parseKey(string(b)); err == nil {
			if again, err := parseKey(k.String()); err != nil || again.id != k.id {
				t.Error("a key is written as another")
			}
		}
		_ = parseCheckpoints(string(b))
	})
}
