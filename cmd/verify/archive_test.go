package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// turn begins the next key epoch.
func (w *written) turn(t testing.TB) {
	t.Helper()
	_, err := audit.AddEpoch(w.keysDir)
	if err == nil {
		if w.Keys, err = audit.LoadKeys(w.keysDir); err == nil {
			err = w.Ledger.Reload(ctx, w.Keys)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// archived is the archive of an epoch.
func (w *written) archived(t testing.TB, epoch uint32) ([]byte, audit.Archived) {
	t.Helper()
	w.settle(t)
	var b bytes.Buffer
	of, _, err := w.Ledger.Archive(ctx, by(), epoch, &b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), of
}

// turned is a ledger of three epochs.
func turned(t testing.TB, accesses int) *written {
	t.Helper()
	w := write(t, accesses)
	people := []record.NHSNumber{number(t, "9990000018"), number(t, "9990000026")}
	for epoch := range 2 {
		w.turn(t)
		for i := range accesses {
			w.access(t, 10_000*(epoch+1)+i, people[i%2], i%9 == 8)
		}
		w.settle(t)
	}
	return w
}

// An archive is sound by the public key alone, with the payload keys, against what was kept elsewhere and against the living ledger; it holds nothing of a person in clear; its receipts are
// proved; the same ledger writes the same file; and what is not so is told.
func TestArchive(t *testing.T) {
	w := turned(t, 30)
	b, of := w.archived(t, 2)
	if again, _ := w.archived(t, 2); !bytes.Equal(b, again) {
		t.Error("written again it is another file")
	}
	for _, marker := range []string{"9990000018", "9990000026", "Dr Test Example", "mental-health", "unconscious", "555000000001", "request-"} {
		if bytes.Contains(b, []byte(marker)) {
			t.Error("an archive holds a marker in clear")
		}
	}
	if !bytes.Contains(b, []byte("X9J01")) {
		t.Error("an archive does not hold what it should: the search above proves nothing")
	}
	path := file(t, "epoch-2.mcra", b)
	first, firstOf := w.archived(t, 1)
	firstPath := file(t, "epoch-1.mcra", first)
	var live bytes.Buffer
	if _, err := w.Ledger.Export(ctx, by(), false, func(b []byte) error { live.Write(b); return nil }); err != nil {
		t.Fatal(err)
	}
	export := file(t, "export.jsonl", live.Bytes())
	kept, err := filepath.Glob(filepath.Join(filepath.Dir(w.Path), "checkpoints", "*.txt"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("%v: no file of checkpoints", err)
	}
	text, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	var strange, far []byte // a checkpoint of the archive's range that does not fit, which a stranger made; and one of another time
	for _, k := range parseCheckpoints(string(text)) {
		if k.size > of.From && k.size <= of.Until && strange == nil {
			root := k.root
			root[0] ^= 1
			strange = fmt.Appendf(nil, "%s\n%d\n%s\n\n— %s AAAAAAA=\n\n", k.origin, k.size, base64.StdEncoding.EncodeToString(root[:]), k.origin)
		}
		if k.size < of.From {
			far = append(bytes.Clone(k.text), "\n"...)
			for _, l := range k.lines {
				far = fmt.Appendf(far, "— %s %s\n", l.name, base64.StdEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, l.id), l.raw...)))
			}
			far = append(far, '\n')
		}
	}
	if strange == nil || far == nil {
		t.Fatal("no checkpoint of the archive's range, or none in front of it")
	}
	strangePath, farPath := file(t, "strange.txt", strange), file(t, "far.txt", far)
	other := write(t, 10)
	other.settle(t)
	live.Reset()
	if _, err := other.Ledger.Export(ctx, by(), false, func(b []byte) error { live.Write(b); return nil }); err != nil {
		t.Fatal(err)
	}
	elsewhere := file(t, "other.jsonl", live.Bytes())
	for name, c := range map[string]struct {
		args []string
		code int
		say  string
	}{
		"by the public key alone":            {[]string{"archive", path, "-key", w.key}, 0, fmt.Sprintf("key epoch 2, entries %d to %d", of.From, of.Until-1)},
		"the first epoch":                    {[]string{"archive", firstPath, "-key", w.key}, 0, fmt.Sprintf("key epoch 1, entries 0 to %d", firstOf.Until-1)},
		"with the payload keys":              {[]string{"archive", path, "-key", w.key, "-keys", w.keysDir}, 0, fmt.Sprintf("payloads: %d opened, 0 erased", of.Until-of.From)},
		"against what was kept":              {[]string{"archive", path, "-key", w.key, "-checkpoint", kept[0]}, 0, "kept elsewhere"},
		"against what does not fit":          {[]string{"archive", path, "-key", w.key, "-checkpoint", strangePath}, 1, "does not fit"},
		"against another time":               {[]string{"archive", path, "-key", w.key, "-checkpoint", farPath}, 1, "can be held against none"},
		"against another time, by an export": {[]string{"archive", path, "-key", w.key, "-checkpoint", farPath, "-export", export}, 0, "sound"},
		"against the living ledger":          {[]string{"archive", path, "-key", w.key, "-export", export}, 0, "0 of the archive's were erased since"},
		"against another ledger":             {[]string{"archive", path, "-key", w.key, "-export", elsewhere}, 1, "NOT SOUND"},
		"with another key":                   {[]string{"archive", path, "-key", otherKey(t)}, 1, "not signed by a key that is trusted"},
		"a witness that never cosigned":      {[]string{"archive", path, "-key", w.key, "-witness", witnessOf(t).key().String()}, 1, "has not cosigned"},
		"an export for an archive":           {[]string{"archive", export, "-key", w.key}, 1, "not an archive"},
		"an archive for an export":           {[]string{"export", path, "-key", w.key}, 1, "not an export"},
		"an archive's statement as a ledger": {[]string{"archive", kept[0], "-key", w.key}, 1, "not an archive"},
	} {
		if code, out := invoke(c.args...); code != c.code || !strings.Contains(out, c.say) {
			t.Errorf("%s: exit %d, said %q; want %d, %q", name, code, out, c.code, c.say)
		}
	}
	_, out := invoke("archive", path, "-key", w.key, "-keys", w.keysDir, "-checkpoint", kept[0])
	t.Logf("%s", out)
	proved := 0
	for _, r := range w.receipts {
		want := 1
		if r.Position >= of.From && r.Position < of.Until {
			want = 0
			proved++
		}
		if code, out := invoke("receipt", fmt.Sprintf("%d.%x", r.Position, r.Leaf), "-key", w.key, "-archive", path); code != want {
			t.Errorf("the receipt of entry %d: exit %d, %s", r.Position, code, out)
		}
		r.Leaf[3] ^= 1
		if code, _ := invoke("receipt", fmt.Sprintf("%d.%x", r.Position, r.Leaf), "-key", w.key, "-archive", path); code != 1 {
			t.Errorf("a receipt with another leaf is proved")
		}
	}
	if proved < 20 {
		t.Errorf("%d receipts proved: too few to tell", proved)
	}

	// What was erased since is told, and is not in an archive that is written anew.
	done, err := w.Ledger.Erase(ctx, by(), audit.Erasure{Basis: audit.BasisErasure, Reference: "decision 1", Subjects: []record.NHSNumber{number(t, "9990000018")}})
	if err != nil || done.Entries == 0 {
		t.Fatalf("%v: %d erased", err, done.Entries)
	}
	w.settle(t)
	live.Reset()
	if _, err := w.Ledger.Export(ctx, by(), false, func(b []byte) error { live.Write(b); return nil }); err != nil {
		t.Fatal(err)
	}
	later := file(t, "later.jsonl", live.Bytes())
	if code, out := invoke("archive", path, "-key", w.key, "-export", later); code != 0 || !strings.Contains(out, "is to be written anew") {
		t.Errorf("an archive of what was erased since: exit %d, %s", code, out)
	}
	anew, now := w.archived(t, 2)
	if now.Erased == 0 || len(anew) >= len(b) {
		t.Errorf("written anew: %d erased, %d bytes of %d", now.Erased, len(anew), len(b))
	}
	path = file(t, "anew.mcra", anew)
	if code, out := invoke("archive", path, "-key", w.key, "-keys", w.keysDir, "-export", later); code != 0 || !strings.Contains(out, fmt.Sprintf("%d erased before", now.Erased)) {
		t.Errorf("written anew: exit %d, %s", code, out)
	}
	if code, out := invoke("archive", path, "-key", w.key, "-export", export); code != 1 { // that export has what is gone from the archive, and nobody would know
		t.Errorf("an archive without what the ledger has: exit %d, %s", code, out)
	}
}

// layout says where each block of an archive stands, and of which entry it is: of a segment's table and index the first.
type piece struct {
	tag      byte
	from, to int
	position uint64
	last     uint64 // of a segment
}

func layout(t testing.TB, b []byte) (out []piece) {
	t.Helper()
	first := uint64(1<<64 - 1)
	for at := len(archiveMagic) + 1; at < len(b); {
		n := 5 + int(binary.BigEndian.Uint32(b[at+1:]))
		p := piece{tag: b[at], from: at, to: at + n}
		if p.tag == 'E' {
			p.position = binary.BigEndian.Uint64(b[at+5:])
			p.last, first = p.position, min(first, p.position)
		} else if len(out) > 0 {
			p.position, p.last = first, out[len(out)-1].last
		}
		out, at = append(out, p), at+n
	}
	return out
}

// Whatever is changed in an archive is found, and where an entry was changed it is named: 1,000 changes of single bits, and pieces deleted, put in, exchanged, cut off; also by somebody who makes
// everything fit again but what only the ledger's keys can sign.
func TestEveryChangeOfAnArchiveIsFound(t *testing.T) {
	times := 1000
	if testing.Short() {
		times = 100
	}
	w := turned(t, 25)
	b, of := w.archived(t, 2)
	pieces := layout(t, b)
	keys, err := parseKeys([]string{w.key})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := loadKeys(w.keysDir)
	if err != nil {
		t.Fatal(err)
	}
	check := func(b []byte, payload payloadKeys) (first uint64, found bool) {
		c := newChecker(keys, payload)
		if _, err := readArchive(bytes.NewReader(b), c); err != nil {
			return 0, true
		}
		if c.found == 0 {
			return 0, false
		}
		return c.problems[0].position, true
	}
	if _, found := check(b, nil); found {
		t.Fatal("it is not sound as it is")
	}
	pieceAt := func(at int) *piece {
		for i := range pieces {
			if at >= pieces[i].from && at < pieces[i].to {
				return &pieces[i]
			}
		}
		return nil
	}
	r := rand.New(rand.NewPCG(1, 2))
	named, tried := 0, map[byte]int{}
	try := func(what string, at int, changed []byte) {
		t.Helper()
		first, found := check(changed, nil)
		for at < min(len(b), len(changed)) && b[at] == changed[at] { // what was taken out may be what follows it, too
			at++
		}
		p := pieceAt(at)
		switch {
		case !found:
			t.Errorf("%s at byte %d is not found", what, at)
		case p == nil:
		case p.tag == 'E' && first != p.position:
			t.Errorf("%s at byte %d, in entry %d: entry %d is named", what, at, p.position, first)
		case (p.tag == 'T' || p.tag == 'I') && (first < p.position || first > p.last+1):
			t.Errorf("%s at byte %d, in what is said of entries %d to %d: entry %d is named", what, at, p.position, p.last, first)
		case p.tag == 'E':
			named++
		}
		if p != nil {
			tried[p.tag]++
		}
	}
	for range times {
		at := r.IntN(len(b))
		if r.IntN(3) == 0 { // in what is small, too
			p := pieces[[]int{0, 1, len(pieces) - 1, len(pieces) - 2, len(pieces) - 3, len(pieces) - 4, len(pieces) - 5}[r.IntN(7)]]
			at = p.from + r.IntN(p.to-p.from)
		}
		c := bytes.Clone(b)
		c[at] ^= 1 << r.IntN(8)
		try("a bit", at, c)
	}
	for range times / 10 {
		at := r.IntN(len(b) - 1)
		n := min(1+r.IntN(2000), len(b)-at)
		try("a cut", at, b[:at])
		try("a deletion", at, append(bytes.Clone(b[:at]), b[at+n:]...))
		more := bytes.Clone(b[at : at+n])
		more[0] ^= 1
		try("an insertion", at, append(append(bytes.Clone(b[:at]), more...), b[at:]...))
	}
	var entries []piece
	for _, p := range pieces {
		if p.tag == 'E' {
			entries = append(entries, p)
		}
	}
	for range times / 20 {
		i := r.IntN(len(entries) - 1)
		j := i + 1 + r.IntN(len(entries)-i-1)
		x, y := entries[i], entries[j]
		try("an exchange of entries", x.from, bytes.Join([][]byte{b[:x.from], b[y.from:y.to], b[x.to:y.from], b[x.from:x.to], b[y.to:]}, nil))
		try("an entry taken away", x.from, append(bytes.Clone(b[:x.from]), b[x.to:]...))
		try("an entry twice", y.from, append(append(bytes.Clone(b[:y.from]), b[x.from:x.to]...), b[y.from:]...))
	}
	if _, found := check(append(bytes.Clone(b), 0), nil); !found {
		t.Error("a byte behind the end is not found")
	}

	// Who can make all fit but the signature: the entry's own hash, the table, the index, the directory, the end.
	forge := func(change func(e *archivedEntry, body []byte) []byte, at uint64) []byte {
		out := bytes.Clone(b[:pieces[1].to])
		var places, directory []byte
		var index [][indexItem]byte
		for _, p := range entries {
			body := bytes.Clone(b[p.from+5 : p.to])
			e, _ := parseArchived(body)
			if p.position == at {
				body = change(&e, body[:len(body)-32])
				own := sha256.Sum256(body)
				body = append(body, own[:]...)
				e, _ = parseArchived(body)
			}
			places = binary.BigEndian.AppendUint64(places, uint64(len(out)))
			for _, m := range append(e.marks, []byte{0, e.Type}) {
				h := sha256.Sum256(m)
				index = append(index, [indexItem]byte(binary.BigEndian.AppendUint16(h[:16:16], uint16(p.position-of.From))))
			}
			out = append(out, blockOf('E', body)...)
		}
		slices.SortFunc(index, func(x, y [indexItem]byte) int { return bytes.Compare(x[:], y[:]) })
		var found []byte
		for _, i := range slices.Compact(index) {
			found = append(found, i[:]...)
		}
		for _, p := range pieces {
			body := b[p.from+5 : p.to]
			switch p.tag {
			case 'T':
				directory = binary.BigEndian.AppendUint64(bytes.Clone(b[pieces[len(pieces)-3].from+5:][:20]), uint64(len(out)))
				body = places
			case 'I':
				directory = binary.BigEndian.AppendUint64(directory, uint64(len(out)))
				h, h2 := sha256.Sum256(places), sha256.Sum256(found)
				directory, body = append(append(directory, h[:]...), h2[:]...), found
			case 'D':
				places, body = binary.BigEndian.AppendUint64(nil, uint64(len(out))), directory
			case 'S':
			case 'Z':
				h := sha256.Sum256(out)
				body = append(places, h[:]...)
			default:
				continue
			}
			out = append(out, blockOf(p.tag, body)...)
		}
		return out
	}
	if same := forge(func(_ *archivedEntry, body []byte) []byte { return body }, of.From+3); !bytes.Equal(same, b) {
		t.Fatal("nothing was forged, and it is another file")
	}
	for range times / 50 {
		at := of.From + 1 + r.Uint64N(of.Until-of.From-1)
		c := forge(func(e *archivedEntry, body []byte) []byte {
			body[entryFixed+4+r.IntN(len(e.sealed))] ^= 1
			return body
		}, at)
		if _, found := check(c, nil); !found {
			t.Errorf("another payload at entry %d, with a hash that fits, is not found", at)
		}
		if first, found := check(c, payload); !found || first != at {
			t.Errorf("another payload at entry %d, with a hash that fits and with the keys at hand: entry %d is named", at, first)
		}
		c = forge(func(e *archivedEntry, body []byte) []byte { // and it was never found by anybody
			rest := body[:entryFixed+4+len(e.sealed)+4+len(e.opened)]
			return binary.BigEndian.AppendUint32(bytes.Clone(rest), 0)
		}, at)
		if _, found := check(c, nil); !found {
			t.Errorf("entry %d without what it is found by is not seen to be another", at)
		}
	}
	t.Logf("%d changes of %d bytes, all found; %d in entries, each named; by kind of block: %s", sum(tried), len(b), named, counts(tried))
	if tried['I'] == 0 || tried['T'] == 0 || tried['D'] == 0 || tried['S'] == 0 || tried['Z'] == 0 || tried['P'] == 0 || tried['H'] == 0 {
		t.Error("some part was never changed")
	}
}

func sum(m map[byte]int) (n int) {
	for _, k := range m {
		n += k
	}
	return n
}

func counts(m map[byte]int) string {
	var out []string
	for _, tag := range []byte("HPETIDSZ") {
		out = append(out, fmt.Sprintf("%c %d", tag, m[tag]))
	}
	return strings.Join(out, ", ")
}

// FuzzArchive holds that whatever a file says of itself, it is not taken for sound without a key, and costs no more room than it is long.
func FuzzArchive(f *testing.F) {
	w := turned(f, 3)
	b, _ := w.archived(f, 2)
	f.Add(b)
	f.Add([]byte(archiveMagic + "\nH\xff\xff\xff\xff"))
	f.Add(append([]byte(archiveMagic+"\n"), blockOf('H', []byte("a\n1\n0\n4611686018427387903\n"))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newChecker(nil, nil)
		if _, err := readArchive(bytes.NewReader(b), c); err == nil && c.found == 0 {
			t.Error("an archive is sound without a key that is trusted")
		}
		for range records(bytes.NewReader(b)) {
			continue
		}
	})
}
