package test

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // looked for, not used
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// footprint is a byte string by which something that must stand nowhere is found.
type footprint struct {
	kind  string
	bytes []byte
}

// inClear are the markers and the people's numbers, in each form in which a store, a dump or a log may write them down.
var inClear = sync.OnceValue(func() (out []footprint) {
	marks := append([]string{markFamily, markGiven, markStreet, markText, markWritten, markBad, markValue, "ZQ9 9ZQ"}, markedNumbers...)
	for _, n := range markedNumbers {
		marks = append(marks, n[:3]+" "+n[3:6]+" "+n[6:], n[:3]+"-"+n[3:6]+"-"+n[6:])
	}
	for _, m := range marks {
		kind := m[:6]
		forms := []string{m, strings.ToLower(m), hex.EncodeToString([]byte(m)), strings.ToUpper(hex.EncodeToString([]byte(m)))}
		for shift := range 3 { // wherever it begins in what was put into base64
			text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), m...))
			first, whole := (shift*8+5)/6, (shift+len(m))*8/6
			forms = append(forms, text[first:whole])
		}
		for _, form := range forms {
			out = append(out, footprint{kind, []byte(form)})
		}
	}
	return out
})

// spellings are the ways in which a number may go into a hash.
func spellings(number string) []string {
	const system = "https://fhir.nhs.uk/Id/nhs-number"
	n, _ := strconv.ParseUint(number, 10, 64) // a number of this test
	wide := []byte{byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	return []string{number, number + "\n", `"` + number + `"`, number[:3] + " " + number[3:6] + " " + number[6:], system + "|" + number, "Patient/" + number, "nhs:" + number,
		"urn:nhs:" + number, string(wide)}
}

// withoutKey are hashes of the people's numbers that need no key: whoever holds one tries all numbers that there are in minutes. The first eight bytes of each are
// looked for, so that one that was cut short is found as well.
var withoutKey = sync.OnceValue(func() (out []footprint) {
	hashes := map[string]func(b []byte) []byte{
		"MD5":      func(b []byte) []byte { s := md5.Sum(b); return s[:] },  //nolint:gosec // looked for
		"SHA-1":    func(b []byte) []byte { s := sha1.Sum(b); return s[:] }, //nolint:gosec // likewise
		"SHA-224":  func(b []byte) []byte { s := sha256.Sum224(b); return s[:] },
		"SHA-256":  func(b []byte) []byte { s := sha256.Sum256(b); return s[:] },
		"SHA-384":  func(b []byte) []byte { s := sha512.Sum384(b); return s[:] },
		"SHA-512":  func(b []byte) []byte { s := sha512.Sum512(b); return s[:] },
		"SHA-3":    func(b []byte) []byte { s := sha3.Sum256(b); return s[:] },
		"twice":    func(b []byte) []byte { s := sha256.Sum256(b); s = sha256.Sum256(s[:]); return s[:] },
		"the tree": func(b []byte) []byte { s := sha256.Sum256(append([]byte{0}, b...)); return s[:] }, // a leaf, RFC 6962
		"FNV":      func(b []byte) []byte { h := fnv.New128a(); _, _ = h.Write(b); return h.Sum(nil) },
	}
	for _, number := range markedNumbers {
		for _, spelt := range spellings(number) {
			for name, hash := range hashes {
				h := hash([]byte(spelt))[:8]
				low := hex.EncodeToString(h)
				for _, form := range [][]byte{h, []byte(low), []byte(strings.ToUpper(low)), []byte(base64.StdEncoding.EncodeToString(h)[:10]), []byte(base64.URLEncoding.EncodeToString(h)[:10]),
					[]byte(base32.StdEncoding.EncodeToString(h)[:12])} {
					out = append(out, footprint{name, form})
				}
			}
		}
	}
	return out
})

// searched is how much was looked at.
type searched struct {
	places, bytes, clear, hashes int
}

// looker finds footprints in what it is given. Places may be long: it goes through each of them once.
type looker struct {
	byStart map[[4]byte][]int
	prints  []footprint
	clear   int // of prints, how many are words in clear
}

func newLooker() *looker {
	l := &looker{byStart: map[[4]byte][]int{}, prints: append(append([]footprint(nil), inClear()...), withoutKey()...), clear: len(inClear())}
	for i, p := range l.prints {
		start := [4]byte(p.bytes)
		l.byStart[start] = append(l.byStart[start], i)
	}
	return l
}

// find returns the kinds of what stands in text.
func (l *looker) find(text []byte) (clear, hashes []string) {
	var starts [1 << 16]bool // most places begin nothing
	for start := range l.byStart {
		starts[int(start[0])<<8|int(start[1])] = true
	}
	for at := 0; at+4 <= len(text); at++ {
		if !starts[int(text[at])<<8|int(text[at+1])] {
			continue
		}
		for _, i := range l.byStart[[4]byte(text[at:])] {
			if !bytes.HasPrefix(text[at:], l.prints[i].bytes) {
				continue
			}
			where := fmt.Sprintf("%s at byte %d of %d", l.prints[i].kind, at, len(text))
			if i < l.clear {
				clear = append(clear, where)
			} else {
				hashes = append(hashes, where)
			}
		}
	}
	return clear, hashes
}

// search fails the test if anything that must not stand there does.
func (s *searched) search(t *testing.T, l *looker, where string, text []byte) {
	t.Helper()
	s.places++
	s.bytes += len(text)
	clear, hashes := l.find(text)
	s.clear, s.hashes = s.clear+len(clear), s.hashes+len(hashes)
	for _, what := range clear[:min(5, len(clear))] {
		t.Errorf("%s holds a marker of kind %s", where, what)
	}
	for _, what := range hashes[:min(5, len(hashes))] {
		t.Errorf("%s holds a hash without a key, %s", where, what)
	}
}

// folder searches every file below a folder.
func (s *searched) folder(t *testing.T, l *looker, when, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path) //nolint:gosec // of the test's own
		if os.IsNotExist(err) {
			return nil // a server that runs takes files away
		}
		s.search(t, l, when+" "+filepath.Base(path), b)
		return err
	})
	if err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

// report prints the figures.
func (s *searched) report(t *testing.T, of string) {
	t.Helper()
	more := fmt.Sprintf("%d bytes searched for %d forms", s.bytes, len(inClear())+len(withoutKey()))
	figure.Report(t, figure.Figure{Name: "markers and NHS numbers in clear, " + of, Seen: s.clear, Of: s.places, What: "files, dumps and answers", More: more})
	figure.Report(t, figure.Figure{Name: "hashes of NHS numbers without a key, " + of, Seen: s.hashes, Of: s.places, What: "files, dumps and answers", More: more})
}

// The search finds what it is for, in whatever form, and nothing in other text.
func TestLooker(t *testing.T) {
	l := newLooker()
	number := markedNumbers[1]
	sum, short := sha256.Sum256([]byte(number)), sha1.Sum([]byte("https://fhir.nhs.uk/Id/nhs-number|"+number)) //nolint:gosec // looked for
	for name, c := range map[string]struct {
		text          string
		clear, hashes bool
	}{
		"nothing":              {strings.Repeat("nothing of anybody 9990000000 ", 100), false, false},
		"a number":             {"x" + number, true, false},
		"with blanks":          {"999 000 0026", true, false},
		"a dump's hex":         {`\x00` + hex.EncodeToString([]byte("{"+number)), true, false},
		"base64":               {base64.StdEncoding.EncodeToString([]byte("{\"n\":\"" + markFamily + "\"}")), true, false},
		"base64, one further":  {base64.StdEncoding.EncodeToString([]byte("{\"no\":\"" + markFamily + "\"}")), true, false},
		"base64, two further":  {base64.StdEncoding.EncodeToString([]byte("{\"non\":\"" + markFamily + "\"}")), true, false},
		"a hash":               {"....." + string(sum[:]), false, true},
		"a hash in hex":        {fmt.Sprintf("key:%X", sum), false, true},
		"a hash in base64":     {base64.URLEncoding.EncodeToString(sum[:]), false, true},
		"a hash that is short": {hex.EncodeToString(short[:8]), false, true},
	} {
		clear, hashes := l.find([]byte(c.text))
		if len(clear) > 0 != c.clear || len(hashes) > 0 != c.hashes {
			t.Errorf("%s: %d in clear, %d hashes", name, len(clear), len(hashes))
		}
	}
}
