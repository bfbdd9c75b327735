package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
)

// An export with payloads in clear in which some stay sealed proves nothing of those: it is not sound, wherever they stand and whatever is in them.
func TestClearExportWithSealedEntries(t *testing.T) {
	w := write(t, 20)
	w.settle(t)
	w.Close(t)
	split := func(unsealed bool) [][]byte {
		t.Helper()
		b, err := exported(t, w, copyOf(t, w), unsealed)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	}
	opened, sealed := split(true), split(false)
	if len(opened) != len(sealed) {
		t.Fatal("the two exports differ in length")
	}
	var first, release int // lines
	for i, line := range opened {
		var e struct{ Type uint8 }
		if json.Unmarshal(line, &e) != nil {
			t.Fatalf("line %d is no JSON", i)
		}
		if e.Type == typeBegin && first == 0 {
			first = i
		}
		if e.Type == typeReleased {
			release = i
		}
	}
	with := func(change map[int][]byte) []byte {
		lines := bytes.Join(opened, []byte("\n"))
		if len(change) > 0 {
			all := append([][]byte(nil), opened...)
			for i, line := range change {
				all[i] = line
			}
			lines = bytes.Join(all, []byte("\n"))
		}
		return append(lines, '\n')
	}
	at := bytes.Index(opened[release], []byte(`,"opened":"`))
	rubbish := append(bytes.Clone(opened[release][:at]), `,"sealed":"`+base64.StdEncoding.EncodeToString(make([]byte, 80))+`"}`...)
	last := map[int][]byte{}
	for i := range opened {
		if i != release && bytes.Contains(opened[i], []byte(`,"opened":"`)) && bytes.Contains(sealed[i], []byte(`"sealed":"`)) {
			last[i] = sealed[i]
		}
	}
	for name, c := range map[string]struct {
		change map[int][]byte
		keys   bool
		say    string // "" if it is sound
	}{
		"all in clear":                        {nil, false, ""},
		"a release that stays sealed":         {map[int][]byte{release: sealed[release]}, false, "stays sealed"},
		"a begin that stays sealed":           {map[int][]byte{first: sealed[first]}, false, "stays sealed"},
		"nothing but one release in clear":    {last, false, "stays sealed"},
		"a release of sealed rubbish":         {map[int][]byte{release: rubbish}, false, "stays sealed"},
		"the same, with the keys":             {map[int][]byte{release: rubbish}, true, "does not open"},
		"some sealed, with keys that open it": {map[int][]byte{release: sealed[release]}, true, ""},
	} {
		args := []string{"export", file(t, "clear.jsonl", with(c.change)), "-key", w.key}
		if c.keys {
			args = append(args, "-keys", w.keysDir)
		}
		code, out := invoke(args...)
		if (code == 0) != (c.say == "") || !strings.Contains(out, c.say) {
			t.Errorf("%s: exit %d, said %q", name, code, out)
		}
		if c.say == "" && !strings.Contains(out, "0 violations") {
			t.Errorf("%s: consent was not replayed", name)
		}
	}
}

// An access that nobody closed is found once more was recorded after it must have been abandoned.
func TestForgottenAccessIsFound(t *testing.T) {
	var later atomic.Int64
	start := time.Now()
	w := &written{Place: audittest.New(t, audit.Config{Sweep: time.Hour, // nobody looks for what was forgotten
		Now: func() time.Time { return start.Add(time.Duration(later.Load())) }})}
	w.keysDir = filepath.Join(filepath.Dir(w.Path), "keys")
	verifiers, err := w.Keys.Verifiers(w.Ledger.Origin())
	if err != nil {
		t.Fatal(err)
	}
	w.key = verifiers[0]
	person := number(t, "9990000018")
	w.begin(t, 1, person, false)
	for i, step := range []struct {
		later time.Duration
		found bool
	}{{0, false}, {2*8*time.Second + time.Minute, false}, {time.Hour, true}} {
		later.Store(int64(step.later))
		w.access(t, 10+i, person, false)
		w.settle(t)
		b, err := exported(t, w, copyOf(t, w), false)
		if err != nil {
			t.Fatal(err)
		}
		code, out := invoke("export", file(t, fmt.Sprintf("%d.jsonl", i), b), "-key", w.key, "-keys", w.keysDir)
		if (code != 0) != step.found || strings.Contains(out, "was never closed") != step.found {
			t.Errorf("%s later: exit %d, said %q; found must be %v", step.later, code, out, step.found)
		}
	}
}
