package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

func invoke(args ...string) (int, string) {
	var out bytes.Buffer
	code := run(context.Background(), args, &out, &out)
	return code, out.String()
}

// An export is sound by the public key alone; with the payload keys consent is replayed; receipts of it are proved; custodians' logs agree with it.
func TestExport(t *testing.T) {
	w := write(t, 60)
	var live bytes.Buffer
	if _, err := w.Ledger.Export(ctx, by(), false, func(b []byte) error { live.Write(b); return nil }); err != nil {
		t.Fatal(err)
	}
	path := file(t, "export.jsonl", live.Bytes())
	for _, marker := range []string{"9990000018", "9990000026", "Dr Test Example", "mental-health", "unconscious", "555000000001"} {
		if bytes.Contains(live.Bytes(), []byte(marker)) {
			t.Errorf("a sealed export holds a marker in clear")
		}
	}
	w.settle(t)
	w.Close(t)
	b, err := exported(t, w, copyOf(t, w), false)
	if err != nil {
		t.Fatal(err)
	}
	later := file(t, "later.jsonl", b)
	kept, err := filepath.Glob(filepath.Join(audittest.Checkpoints(w.Path), "*.txt"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("%v: no file of checkpoints", err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		say  string
	}{
		"by the public key alone":       {[]string{"export", path, "-key", w.key}, 0, "consent not replayed"},
		"with the payload keys":         {[]string{"export", path, "-key", w.key, "-keys", w.keysDir}, 0, "0 violations"},
		"against what was kept":         {[]string{"export", later, "-key", w.key, "-checkpoint", kept[0]}, 0, "kept elsewhere"},
		"older than what was kept":      {[]string{"export", path, "-key", w.key, "-checkpoint", kept[0]}, 1, "entries were cut off"},
		"flags first":                   {[]string{"export", "-key", w.key, path}, 0, "sound"},
		"with another key":              {[]string{"export", path, "-key", otherKey(t)}, 1, "not signed by a key that is trusted"},
		"a witness that never cosigned": {[]string{"export", path, "-key", w.key, "-witness", witnessOf(t).key().String()}, 1, "has cosigned none"},
		"without a key":                 {[]string{"export", path}, 2, "-key is missing"},
		"a key that is none":            {[]string{"export", path, "-key", "x+y+z"}, 2, "a key is a name"},
		"no such file":                  {[]string{"export", path + "x", "-key", w.key}, 2, "cannot be opened"},
		"not an export":                 {[]string{"export", kept[0], "-key", w.key}, 1, "not an export"},
		"no such command":               {[]string{"frobnicate", path, "-key", w.key}, 2, "no command"},
		"nothing":                       {nil, 2, "usage"},
	} {
		code, out := invoke(c.args...)
		if code != c.code || !strings.Contains(out, c.say) {
			t.Errorf("%s: exit %d, said %q; want %d, %q", name, code, strings.ReplaceAll(out, path, "FILE"), c.code, c.say)
		}
	}
	_, out := invoke("export", path, "-key", w.key, "-keys", w.keysDir)
	t.Logf("%s", out)

	// in clear, for whoever has no keys
	clear, err := exported(t, w, copyOf(t, w), true)
	if err != nil {
		t.Fatal(err)
	}
	if code, out := invoke("export", file(t, "clear.jsonl", clear), "-key", w.key); code != 0 || !strings.Contains(out, "0 violations") {
		t.Errorf("an export in clear: exit %d, %s", code, out)
	}
}

func copyOf(t testing.TB, w *written) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	audittest.CopyFiles(t, path, w.Path)
	return path
}

// idleWitness is that of a witness that has cosigned nothing.
func idleWitness(t testing.TB) string {
	t.Helper()
	public := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	return key{"witness.example", keyID("witness.example", typeCosignature, public), typeCosignature, public}.String()
}

func otherKey(t testing.TB) string {
	t.Helper()
	k, err := audit.CreateKeys(filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := k.Verifiers("mycarerecord.example/test")
	if err != nil {
		t.Fatal(err)
	}
	return v[0]
}

// Receipts, in the form of each face, are proved by an export that was made later and by a proof; what is not so is not.
func TestReceipt(t *testing.T) {
	w := write(t, 20)
	early := w.receipts[3]
	proof, err := w.Ledger.Inclusion(ctx, early, 0)
	if err != nil {
		t.Fatal(err)
	}
	var m proofFile
	m.Checkpoint.Note = proof.Checkpoint.Note
	for _, h := range proof.Proof {
		m.Proof = append(m.Proof, h[:])
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	proofPath := file(t, "proof.json", text)
	for i := range 20 {
		w.access(t, 100+i, number(t, "9990000042"), false)
	}
	w.settle(t)
	b, err := exported(t, w, copyOf(t, w), false)
	if err != nil {
		t.Fatal(err)
	}
	exportPath := file(t, "export.jsonl", b)
	wrong := early
	wrong.Leaf[0] ^= 1
	elsewhere := early
	elsewhere.Origin = "elsewhere.example"
	beyond := early
	beyond.Position = 1 << 30
	for name, c := range map[string]struct {
		r  audit.Receipt
		ok bool
	}{"the receipt": {early, true}, "another leaf": {wrong, false}, "another ledger": {elsewhere, false}, "beyond the end": {beyond, false}} {
		tag := fmt.Sprintf("%d.%x", c.r.Position, c.r.Leaf)
		grpc, err := json.Marshal(map[string]any{"origin": c.r.Origin, "position": fmt.Sprint(c.r.Position), "leaf": c.r.Leaf[:]})
		if err != nil {
			t.Fatal(err)
		}
		forms := []string{"X-Access-Receipt: " + tag + `; origin="` + c.r.Origin + `"`, tag + `; origin="` + c.r.Origin + `"`, string(grpc)}
		if c.r.Origin == early.Origin {
			forms = append(forms, tag)
		}
		for _, form := range forms {
			for _, with := range []string{"-export", "-proof"} {
				path := exportPath
				if with == "-proof" {
					path = proofPath
				}
				code, out := invoke("receipt", form, "-key", w.key, with, path)
				if (code == 0) != c.ok || strings.HasPrefix(out, "proved") != c.ok {
					t.Errorf("%s by %s: exit %d, %s", name, with, code, out)
				}
			}
		}
	}
	// What was kept elsewhere counts for a receipt too, whichever way it is proved.
	if proof.Checkpoint.Note == nil {
		t.Fatal("the proof has no checkpoint")
	}
	is, err := parseCheckpoint(proof.Checkpoint.Note)
	if err != nil {
		t.Fatal(err)
	}
	past := is.root
	past[0] ^= 1
	unlike := func(size uint64) string {
		return file(t, "kept.txt", fmt.Appendf(nil, "%s\n%d\n%s\n\n— %s AAAAAAAA\n", is.origin, size, base64.StdEncoding.EncodeToString(past[:]), is.origin))
	}
	same := file(t, "kept.txt", proof.Checkpoint.Note)
	for name, c := range map[string]struct {
		kept, with, path string
		code             int
		say              string
	}{
		"the same, a proof":               {same, "-proof", proofPath, 0, "proved"},
		"the same, an export":             {same, "-export", exportPath, 0, "proved"},
		"another past, a proof":           {unlike(is.size), "-proof", proofPath, 1, "is not what was kept elsewhere"},
		"another past, an export":         {unlike(is.size), "-export", exportPath, 1, "NOT PROVED"},
		"of another size alone, a proof":  {unlike(is.size + 1), "-proof", proofPath, 1, "is of as many entries as the proof's"},
		"of another size, an export":      {unlike(is.size + 1), "-export", exportPath, 1, "NOT PROVED"},
		"beside one that is not, a proof": {same + " -checkpoint " + unlike(is.size), "-proof", proofPath, 1, "is not what was kept elsewhere"},
	} {
		args := append([]string{"receipt", fmt.Sprintf("%d.%x", early.Position, early.Leaf), "-key", w.key, c.with, c.path, "-checkpoint"}, strings.Fields(c.kept)...)
		if code, out := invoke(args...); code != c.code || !strings.Contains(out, c.say) {
			t.Errorf("%s: exit %d, %s", name, code, out)
		}
	}
	if code, out := invoke("receipt", fmt.Sprintf("%d.%x", early.Position, early.Leaf), "-key", w.key, "-proof", proofPath, "-witness", idleWitness(t)); code != 1 || !strings.Contains(out, "has not cosigned") {
		t.Errorf("a witness who did not cosign: exit %d, %s", code, out)
	}
	if code, _ := invoke("receipt", "nonsense", "-key", w.key, "-export", exportPath); code != 2 {
		t.Errorf("what is no receipt: exit %d", code)
	}
	if code, _ := invoke("receipt", "1.00", "-key", w.key); code != 2 {
		t.Errorf("neither export nor proof: exit %d", code)
	}
	if code, out := invoke("receipt", fmt.Sprintf("%d.%x", early.Position, early.Leaf), "-key", otherKey(t), "-proof", proofPath); code != 1 {
		t.Errorf("a proof under another key: exit %d, %s", code, out)
	}
}

// What custodians logged and no entry accounts for is found.
func TestReconcile(t *testing.T) {
	w := write(t, 25)
	b, err := exported(t, w, copyOf(t, w), false)
	if err != nil {
		t.Fatal(err)
	}
	exportPath := file(t, "export.jsonl", b)
	var log bytes.Buffer
	line := func(at time.Time, custodian, id string) {
		if err := json.NewEncoder(&log).Encode(map[string]any{"time": at, "custodian": custodian, "requestId": id, "status": 200}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range w.requests {
		line(r.at, r.custodian, r.id)
	}
	code, out := invoke("export", exportPath, "-key", w.key, "-keys", w.keysDir, "-log", file(t, "log", log.Bytes()))
	if code != 0 || !strings.Contains(out, fmt.Sprintf("%d requests, 0 without an entry; 0 accesses", len(w.requests))) {
		t.Errorf("logs that agree: exit %d, %s", code, out)
	}
	r := w.requests[2]
	for name, add := range map[string]func(){
		"an id that nobody recorded":  func() { line(r.at, r.custodian, "00000000-0000-4000-8000-000000000000") },
		"a custodian not to be asked": func() { line(r.at, "pharmacy", r.id) },
	} {
		size := log.Len()
		add()
		empty, bad := file(t, "other", nil), file(t, "log", log.Bytes())
		code, out := invoke("export", exportPath, "-key", w.key, "-keys", w.keysDir, "-log", empty, "-log", bad)
		if code != 1 || !strings.Contains(out, bad+", line") || !strings.Contains(out, "1 without an entry") || !strings.Contains(out, fmt.Sprintf("line %d:", len(w.requests)+1)) {
			t.Errorf("%s: exit %d, %s", name, code, out)
		}
		log.Truncate(size)
	}
	size := log.Len()
	line(r.at.Add(-time.Hour), r.custodian, "00000000-0000-4000-8000-000000000000") // before the ledger began, or of one that it continues
	line(r.at.Add(time.Hour), r.custodian, "00000000-0000-4000-8000-000000000000")
	code, out = invoke("export", exportPath, "-key", w.key, "-keys", w.keysDir, "-log", file(t, "log", log.Bytes()))
	if code != 0 || !strings.Contains(out, fmt.Sprintf("%d requests, 0 without an entry", len(w.requests))) {
		t.Errorf("requests before the first and after the last entry: exit %d, %s", code, out)
	}
	log.Truncate(size)
	if code, _ := invoke("export", exportPath, "-key", w.key, "-log", file(t, "log", log.Bytes())); code != 1 {
		t.Errorf("without payload keys: exit %d", code)
	}
	unread := file(t, "unread", []byte("no JSON\n"))
	if code, out := invoke("export", exportPath, "-key", w.key, "-keys", w.keysDir, "-log", file(t, "log", log.Bytes()), "-log", unread); code != 1 || !strings.Contains(out, "line 1 of "+unread) {
		t.Errorf("a log that cannot be read: exit %d, %s", code, out)
	}
}

// A request is accounted for by an access that may have made it: about its time, give or take the clocks. Those that the ledger's time does not reach are not judged.
func TestRequestsAreHeldAgainstTheirTime(t *testing.T) {
	began := time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)
	id := "11111111-1111-4111-8111-111111111111"
	for name, c := range map[string]struct {
		after           time.Duration // the beginning of the ledger
		judged, matched int
	}{
		"before the ledger, over the skew":   {-skew - time.Second, 0, 0},
		"before the ledger, within the skew": {-skew + time.Second, 1, 0},
		"before its access":                  {time.Hour - skew - time.Second, 1, 0},
		"with its access":                    {time.Hour - skew + time.Second, 1, 1},
		"when its access may still ask":      {time.Hour + window, 1, 1},
		"long after its access":              {time.Hour + window + skew, 1, 0},
		"at the end, within the skew":        {2*time.Hour + skew, 1, 0},
		"after the ledger":                   {2*time.Hour + skew + time.Second, 0, 0},
	} {
		check := newChecker(nil, payloadKeys{})
		check.began, check.time = began.UnixMicro(), began.Add(2*time.Hour).UnixMicro()
		check.replay.begins = []*begun{{7, began.Add(time.Hour), &accessBody{RequestID: id, Asked: []string{"gp"}}, 0, map[string]int{}}}
		log := fmt.Sprintf(`{"time":%q,"custodian":"gp","requestId":%q}`, began.Add(c.after).Format(time.RFC3339Nano), id)
		r, err := check.replay.reconcile([]requestLog{{"a log", strings.NewReader(log)}})
		if err != nil || r.lines != c.judged || r.matched != c.matched || len(r.unentered) != c.judged-c.matched {
			t.Errorf("%s: %v: %d judged, %d matched, %d unentered, want %d, %d, %d", name, err, r.lines, r.matched, len(r.unentered), c.judged, c.matched, c.judged-c.matched)
		}
	}
}

// An erased payload leaves every proof whole, and is accounted for.
func TestErasedExport(t *testing.T) {
	w := write(t, 30)
	before, err := w.Ledger.Checkpoint(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	done, err := w.Ledger.Erase(ctx, by(), audit.Erasure{Basis: audit.BasisErasure, Reference: "decision 1", Subjects: []record.NHSNumber{number(t, "9990000018")}})
	if err != nil || done.Entries == 0 {
		t.Fatalf("%v: %d erased", err, done.Entries)
	}
	w.settle(t)
	b, err := exported(t, w, copyOf(t, w), false)
	if err != nil {
		t.Fatal(err)
	}
	path, seen := file(t, "export.jsonl", b), file(t, "seen.txt", append(bytes.Clone(before.Note), '\n'))
	code, out := invoke("export", path, "-key", w.key, "-keys", w.keysDir, "-checkpoint", seen)
	if code != 0 || !strings.Contains(out, fmt.Sprintf("%d erased", done.Entries)) || !strings.Contains(out, "0 violations") {
		t.Errorf("exit %d, %s", code, out)
	}
	for _, r := range w.receipts {
		if code, out := invoke("receipt", fmt.Sprintf("%d.%x", r.Position, r.Leaf), "-key", w.key, "-export", path); code != 0 {
			t.Errorf("the receipt of entry %d: %s", r.Position, out)
		}
	}
	// and one that nobody accounts for is found
	lines := bytes.Split(b, []byte("\n"))
	for i, line := range lines {
		if at := bytes.Index(line, []byte(`","sealed":"`)); at > 0 {
			lines[i] = append(bytes.Clone(line[:at]), `"}`...)
			break
		}
	}
	code, out = invoke("export", file(t, "gone.jsonl", bytes.Join(lines, []byte("\n"))), "-key", w.key, "-keys", w.keysDir)
	if code != 1 || !strings.Contains(out, "no entry says that it was erased") {
		t.Errorf("a payload that is gone without a word: exit %d, %s", code, out)
	}
}

// A ledger whose keys were changed while it ran is followed from the first public key on.
func TestChangedKeysAreFollowed(t *testing.T) {
	w := write(t, 10)
	if _, err := audit.AddSigningKey(w.keysDir); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.AddEpoch(w.keysDir); err != nil {
		t.Fatal(err)
	}
	reload := func() {
		t.Helper()
		keys, err := audit.LoadKeys(w.keysDir)
		if err == nil {
			err = w.Ledger.Reload(ctx, keys)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Keys = keys
	}
	reload()
	w.access(t, 500, number(t, "9990000018"), false)
	w.settle(t)
	earlier, err := exported(t, w, copyOf(t, w), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.keysDir, "signing-0001.key")); err != nil {
		t.Fatal(err)
	}
	reload()
	w.access(t, 501, number(t, "9990000018"), false)
	w.settle(t)
	b, err := exported(t, w, copyOf(t, w), false)
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, "export.jsonl", b)
	if code, out := invoke("export", path, "-key", w.key, "-keys", w.keysDir); code != 0 {
		t.Errorf("from the first key: exit %d, %s", code, out)
	}
	second, err := w.Keys.Verifiers(w.Ledger.Origin())
	if err != nil {
		t.Fatal(err)
	}
	if code, out := invoke("export", path, "-key", second[0]); code != 1 || !strings.Contains(out, "not signed by a key that is trusted") {
		t.Errorf("from the second key, which did not sign the first checkpoints: exit %d, %s", code, out)
	}

	// What was kept elsewhere counts whichever key of the ledger signed it: the newest is signed by the second alone.
	kept, err := filepath.Glob(filepath.Join(audittest.Checkpoints(w.Path), "*.txt"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("%v: no file of checkpoints", err)
	}
	if code, out := invoke("export", path, "-key", w.key, "-checkpoint", kept[len(kept)-1]); code != 0 || !strings.Contains(out, "kept elsewhere") {
		t.Errorf("against all that was kept: exit %d, %s", code, out)
	}
	if code, out := invoke("export", file(t, "earlier.jsonl", earlier), "-key", w.key, "-checkpoint", kept[len(kept)-1]); code != 1 || !strings.Contains(out, "entries were cut off") {
		t.Errorf("an export without the newest entries, against a checkpoint that only the new key signed: exit %d, %s", code, out)
	}
}

// A ledger that showed different people different pasts is found by whoever has what both of them kept, in whatever order they give it; what nobody known signed
// says nothing.
func TestTwoPastsAreFound(t *testing.T) {
	w := write(t, 10)
	w.settle(t)
	w.Close(t)
	b, err := exported(t, w, copyOf(t, w), false)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := filepath.Glob(filepath.Join(audittest.Checkpoints(w.Path), "*.txt"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("%v: no file of checkpoints", err)
	}
	text, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	checkpoints := parseCheckpoints(string(text))
	newest := checkpoints[len(checkpoints)-1]
	other := newest.root
	other[0] ^= 1
	forked := fmt.Sprintf("%s\n%d\n%s\n", newest.origin, newest.size, base64.StdEncoding.EncodeToString(other[:]))
	seed, err := os.ReadFile(filepath.Join(w.keysDir, "signing-0001.key"))
	if err != nil {
		t.Fatal(err)
	}
	private := ed25519.NewKeyFromSeed(seed)
	signed := func(private ed25519.PrivateKey) string {
		id := binary.BigEndian.AppendUint32(nil, keyID(newest.origin, typeSignature, private.Public().(ed25519.PublicKey)))
		return "\n— " + newest.origin + " " + base64.StdEncoding.EncodeToString(append(id, ed25519.Sign(private, []byte(forked))...)) + "\n\n"
	}
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	stranges := func(origin string, size uint64, root hash) string {
		text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
		id := binary.BigEndian.AppendUint32(nil, keyID(origin, typeSignature, stranger.Public().(ed25519.PublicKey)))
		return file(t, "stranger.txt", []byte(text+"\n— "+origin+" "+base64.StdEncoding.EncodeToString(append(id, ed25519.Sign(stranger, []byte(text))...))+"\n\n"))
	}
	fits := stranges(newest.origin, checkpoints[0].size, checkpoints[0].root)
	further, foreign := stranges(newest.origin, newest.size+5, other), stranges("elsewhere.example", newest.size, other)
	path, good := file(t, "export.jsonl", b), kept[0]
	fork, forged := file(t, "fork.txt", []byte(forked+signed(private))), file(t, "forged.txt", []byte(forked+signed(stranger)))
	for name, c := range map[string]struct {
		files []string
		code  int
		say   string
	}{
		"what is so":             {[]string{good}, 0, "held against"},
		"the other past":         {[]string{fork}, 1, "are not those that a checkpoint kept elsewhere was signed for"},
		"the other past first":   {[]string{fork, good}, 1, "are not those that a checkpoint kept elsewhere was signed for"},
		"the other past last":    {[]string{good, fork}, 1, "are not those that a checkpoint kept elsewhere was signed for"},
		"beside a stranger's":    {[]string{good, forged}, 1, "does not fit, and no key that this ledger names signed it"},
		"a stranger's beyond":    {[]string{good, further}, 1, "entries were cut off, with the one that names its key"},
		"a stranger's that fits": {[]string{good, fits}, 0, "held against"},
		"another ledger's":       {[]string{good, foreign}, 0, "1 more say nothing"},
		"a stranger's alone":     {[]string{forged}, 1, "none is signed by a key that is trusted"},
		"a file that holds none": {[]string{path}, 2, "holds none"},
	} {
		args := []string{"export", path, "-key", w.key}
		for _, f := range c.files {
			args = append(args, "-checkpoint", f)
		}
		if code, out := invoke(args...); code != c.code || !strings.Contains(out, c.say) {
			t.Errorf("%s: exit %d, %s", name, code, out)
		}
	}
}
