package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

var update = flag.Bool("update", false, "write testdata anew; an entry's bytes are final, so this is right only for a new type or member")

// goldenKeys are keys that anybody can make: bytes 0x00 to 0x1f, and 0x20 to 0x3f.
func goldenKeys() *Keys {
	e := epoch{number: 1}
	for i := range keySize {
		e.payload[i], e.lookup[i] = byte(i), byte(keySize+i)
	}
	return &Keys{epochs: []epoch{e}}
}

// goldenVerifier is the public half of a signing key that anybody can make: bytes 0x40 to 0x5f.
func goldenVerifier(t testing.TB) string {
	t.Helper()
	k := signingKey{number: 1}
	for i := range k.seed {
		k.seed[i] = byte(2*keySize + i)
	}
	_, text, err := k.signer("mycarerecord.example/golden")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func nhs(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal("a test number is not valid")
	}
	return n
}

// goldenPayloads is one payload of every type, with every member that the type has.
func goldenPayloads(t testing.TB) []struct {
	t EntryType
	p *payload
} {
	subject, old := nhs(t, "9990000018"), nhs(t, "9990000026")
	at := time.Date(2026, 11, 1, 9, 30, 0, 123456789, time.UTC)
	staff := record.Requester{Kind: record.Professional, User: "555000000001", Name: "Dr Zoë \"Q\" Example", RoleProfile: "555000000002", JobRole: "R8000",
		Organisation: "X9B01", Client: "epr-1", Issuer: "https://issuer.example", TokenID: "jti-1"}
	person := record.Requester{Kind: record.Person, User: "login-1", Issuer: "https://login.example", Own: subject}
	decision := consent.Decision{Outcome: consent.Permitted, Reason: consent.ReasonBreakGlass, Rule: "C-2.8", Position: 3, Custodians: []consent.CustodianDecision{
		{Key: "gp", Permitted: record.AllSections, Parts: []consent.Part{{Sections: record.AllSections, Allowed: true, Outcome: consent.Permitted,
			Reason: consent.ReasonBreakGlass, Rule: "C-2.8"}}},
		{Key: "mentalhealth", Parts: []consent.Part{{Sections: record.AllSections, Outcome: consent.Suppressed, Reason: consent.ReasonObjection,
			Rule: "C-2.7", Position: 3}}}}}
	access := Access{Key: "000102030405060708090a0b0c0d0e0f", RequestID: "req-1", Face: "rest", Operation: "everything", Subject: subject,
		Supersedes: []record.NHSNumber{old}, Standing: record.Live, Requester: staff, RoleName: "ed-doctor", Purpose: record.BreakGlass,
		Permission:   record.Permission{Kind: record.AskedEarlier, On: "2026-10-01", Ref: "ref\t1", Reason: "a\\b"},
		Relationship: record.Relationship{Kind: record.Admission, Ref: "adm-1"}, BreakGlassReason: "unconscious, nobody to ask", Filter: "_type=Observation",
		Decision: decision, Asked: []record.CustodianKey{"gp"}, Configuration: "c0ffee", Policy: "b0bb1e", At: at, Budget: 8 * time.Second}
	refused := access
	refused.Requester, refused.Purpose, refused.Reason, refused.Rule, refused.Asked, refused.Decision = person, record.PatientAccess, consent.ReasonNotOwn, "C-2.2", nil, consent.Decision{}
	disclosure := Disclosure{Total: 2, Bytes: 4096, Custodians: []Shown{
		{Key: "gp", State: record.ReturnedInPart, Parts: []record.Part{{Section: "results", Source: "list 2", Reason: record.PartSourceDown, Count: 1}},
			Sections: record.SectionsOf(record.Demographics, record.Medications), Count: 2, Digests: [][32]byte{{1}, {2, 31: 9}}},
		{Key: "mentalhealth", State: record.Withheld, Reason: "objection"}}}
	by := Actor{Requester: staff, RoleName: "front desk", RequestID: "req-2", Reason: "asked at the desk", Face: "grpc"}
	closing := func(reason consent.Reason, d *Disclosure) *payload {
		p := &payload{Opens: 4, Subject: subject.Reveal(), Supersedes: reveal([]record.NHSNumber{old}), Reason: string(reason)}
		if d != nil {
			p.Disclosure = disclosureOut(*d)
		}
		return p
	}
	later := decisionOut(decision)
	chunk, released := closing("", &disclosure), closing("", &disclosure)
	chunk.Preferences, released.Preferences, released.Decision = 3, 7, &later
	o := consent.Objection{ID: "abcdefghijklmnopqrstuvwxyz", Scope: consent.ToSection, Section: record.MentalHealth, Status: consent.InForce, Absolute: true,
		From: at, Until: at.Add(24 * time.Hour), AuthorUser: staff.User, AuthorName: staff.Name, AuthorRole: "front desk", AuthorODS: "X9B01",
		Responsible: "mother, parental responsibility", Method: "form"}
	own := Actor{Requester: person, RoleName: "person", RequestID: "req-3", Face: "grpc", Configuration: "c0ffee", Policy: "b0bb1e"}
	d := consent.Delegation{ID: "zyxwvutsrqponmlkjihgfedcba", Carer: old, Name: "my daughter", Sections: record.SectionsOf(record.Medications, record.Appointments),
		Custodians: []record.CustodianKey{"acute", "gp"}, Status: consent.InForce, From: at, Until: at.Add(24 * time.Hour), AuthorUser: person.User}
	requester := requesterOut(staff)
	evident, told := access, closing("", &Disclosure{Evidence: &Evidence{Record: true, OwnHeard: true, CareTeam: true, Near: []Near{{NearEncounter, 0}, {NearReferral, 12}}}})
	evident.Evidence = &Evidence{Staff: true, Own: true, Kin: true, Colleague: true, SameAddress: true, Surname: 2, Watched: true, DaysDead: 3, Registered: true, BadNumber: true}
	told.Opens = 30
	alike, purposed := access, closing("", &disclosure)
	alike.Purpose, alike.BreakGlassReason = record.Treatment, ""
	alike.Decision.Custodians = []consent.CustodianDecision{decision.Custodians[0], decision.Custodians[0], decision.Custodians[1]}
	alike.Decision.Custodians[1].Key = "acute"
	purposed.Purpose = namedPurpose(access.Purpose)
	list := List{Digest: "c0ffee", Format: "csv", Rows: 6, New: 1, Present: 2, LeftOut: 3, Unconfirmed: 1}
	listed := o
	listed.Source = "form 12"
	question := questionOut(Search{Subjects: []record.NHSNumber{subject}, User: staff.User, Organisation: "X9B01", From: at, Until: at.Add(time.Hour),
		Types: []EntryType{TypeBegin, TypeReleased}, Within: "X9B01", Custodians: []record.CustodianKey{"acute"}, Limit: 100, Before: 99})
	return []struct {
		t EntryType
		p *payload
	}{
		{TypeKey, &payload{Epoch: &epochBody{Origin: "mycarerecord.example/golden", Number: 1, Fingerprint: goldenKeys().epochs[0].fingerprint()}}},
		{TypePolicy, &payload{Policy: &policyBody{"c0ffee", "b0bb1e"}}},
		{TypeObjection, &payload{Subject: subject.Reveal(), Actor: actorOut(by), Key: access.Key, Replaces: 1, Objection: objectionOut(o)}},
		{TypeOverride, &payload{Access: accessOut(access), Expires: stamp(at.Add(time.Hour))}},
		{TypeBegin, &payload{Override: 3, Access: accessOut(access)}},
		{TypeChunk, chunk},
		{TypeReleased, released},
		{TypeRefused, &payload{Access: accessOut(refused)}},
		{TypeRefused, closing(consent.ReasonChanged, &Disclosure{})},
		{TypeNothing, closing(consent.ReasonTrouble, &disclosure)},
		{TypeCancelled, closing(consent.ReasonCancelled, &Disclosure{})},
		{TypeAbandoned, closing("", nil)},
		{TypeReview, &payload{Override: 3, Actor: actorOut(by), Review: &reviewBody{"justified", "ward round"}}},
		{TypeRead, &payload{Actor: actorOut(by), Question: question}},
		{TypeRead, &payload{Actor: actorOut(by), Question: &questionBody{Kind: questionObjections, Subjects: []string{subject.Reveal()}}}},
		{TypeCheck, &payload{Minute: stamp(at.Truncate(time.Minute)), Count: 4, Addresses: []addressBody{{"", 1}, {"192.0.2.1", 3}}}},
		{TypeLimited, &payload{Minute: stamp(at.Truncate(time.Minute)), Count: 3, Requester: &requester}},
		{TypeImport, &payload{Actor: actorOut(by), List: listOut(list)}},
		{TypeObjection, &payload{Subject: subject.Reveal(), Actor: actorOut(by), Key: access.Key, Objection: objectionOut(listed), Import: 17}},
		{TypeImported, &payload{Opens: 17, Actor: actorOut(by), List: listOut(list)}},
		{TypeImported, &payload{Opens: 17, Reason: reasonGivenUp, Actor: actorOut(by), List: listOut(list)}},
		{TypeAdopted, &payload{Actor: actorOut(by), Adopted: 19}},
		{TypeRead, &payload{Actor: actorOut(by), Question: &questionBody{Kind: questionList}, List: listOut(list)}},
		{TypeRead, &payload{Actor: actorOut(by), Question: &questionBody{Kind: questionChanges, Subjects: []string{subject.Reveal()}, Limit: 500, After: 3,
			AfterRow: 2, Through: 19}}},
		{TypeKey, &payload{Epoch: &epochBody{Origin: "mycarerecord.example/golden", Signer: goldenVerifier(t)}}},
		{TypeRedact, &payload{Actor: actorOut(by), Redact: &redactBody{"retention", "schedule 2026, line 12", 3, []rangeBody{{4, 2}, {9, 1}}}}},
		{TypeDelegation, &payload{Subject: subject.Reveal(), Actor: actorOut(own), Key: access.Key, Replaces: 2, Delegation: delegationOut(d)}},
		{TypeReview, &payload{Override: 3, Subject: subject.Reveal(), Supersedes: reveal([]record.NHSNumber{old}), Actor: actorOut(own), Key: access.Key,
			Review: &reviewBody{string(NotJustified), "no reason was found"}}},
		{TypeRead, &payload{Actor: actorOut(by), Question: &questionBody{Kind: questionDelegations, Subjects: []string{subject.Reveal()}}}},
		{TypeRead, &payload{Actor: actorOut(by), Question: &questionBody{Kind: questionOverrides, Within: "X9B01", Custodians: []string{"acute"}, Limit: 100}}},
		{TypeBegin, &payload{Access: accessOut(evident)}},
		{TypeReleased, told},
		{TypeAlert, &payload{Requester: &requester, Alert: alertOut(Alert{Of: 30, Rules: []Fired{{"volume", 60, 87, 12, ""}, {"same-surname", 40, 2, 0, "care-team"}},
			Score: 60, Version: "c0ffee"}, []byte{1, 2, 3})}},
		{TypeHandled, &payload{Actor: actorOut(by), Key: access.Key, Handled: &handledBody{32, string(AlertClosed), string(NotJustified), "they said so", "volume"}}},
		{TypeRead, &payload{Actor: actorOut(by), Question: &questionBody{Kind: questionAlerts, Within: "X9B01", Limit: 100, Before: 33}}},
		{TypeKey, &payload{Epoch: &epochBody{Origin: "mycarerecord.example/golden", Number: 1, Fingerprint: goldenKeys().epochs[0].fingerprint(), Purposes: true}}},
		{TypeBegin, &payload{Access: accessOut(alike)}},
		{TypeReleased, purposed},
		{TypeRefused, &payload{Access: accessOut(refused), Purpose: namedPurpose(refused.Purpose)}},
	}
}

// A custodian that was decided on as the one in front is written as that, and read as it was; what says so and more is no entry of ours.
func TestDecidedAlike(t *testing.T) {
	part := []consent.Part{{Sections: record.AllSections, Allowed: true, Outcome: consent.Permitted, Reason: consent.ReasonPermitted, Rule: "C-2.10"}}
	own := []consent.Part{{Sections: record.AllSections, Allowed: true, Outcome: consent.Permitted, Reason: consent.ReasonOwnRecord, Rule: "C-2.6"}}
	of := func(key string, permitted record.Sections, parts []consent.Part) consent.CustodianDecision {
		return consent.CustodianDecision{Key: record.CustodianKey(key), Permitted: permitted, Parts: parts}
	}
	for _, list := range [][]consent.CustodianDecision{
		{of("a", record.AllSections, own), of("b", record.AllSections, part), of("c", record.AllSections, part), of("d", record.AllSections, part), of("e", 0, nil), of("f", 0, nil), of("g", record.AllSections, part)},
		{of("a", 0, nil), of("b", 0, nil)},
		{of("a", record.AllSections, part), of("b", record.SectionsOf(record.Results), part), of("c", record.SectionsOf(record.Results), part[:0])},
	} {
		d := consent.Decision{Outcome: consent.Permitted, Reason: consent.ReasonPermitted, Rule: "C-2.10", Custodians: list}
		var body decisionBody
		if err := parseCanonical(canonical(decisionOut(d)), &body); err != nil {
			t.Fatal(err)
		}
		r := &reading{}
		got := r.decision(body)
		same := slices.EqualFunc(got.Custodians, list, func(a, b consent.CustodianDecision) bool {
			return a.Key == b.Key && a.Permitted == b.Permitted && slices.Equal(a.Parts, b.Parts)
		})
		if r.bad || !same {
			t.Errorf("written as %s and read as %+v", canonical(decisionOut(d)), got.Custodians)
		}
	}
	for name, list := range map[string][]custodianDecisionBody{"like nothing": {{Key: "a", Like: true}}, "like, and more": {{Key: "a"}, {Key: "b", Permitted: []string{"results"}, Like: true}},
		"like, with parts": {{Key: "a"}, {Key: "b", Parts: []partBody{{Allowed: true}}, Like: true}}} {
		r := &reading{}
		if r.decision(decisionBody{Custodians: list}); !r.bad {
			t.Errorf("%s was read", name)
		}
	}
}

// TestGolden pins the bytes of one entry of every type. If it fails, the ledgers that exist can no longer be read: change the code, not the file.
func TestGolden(t *testing.T) {
	var out strings.Builder
	keys := goldenKeys()
	seen := map[EntryType]bool{}
	for i, g := range goldenPayloads(t) {
		var salt [saltSize]byte
		var nonce [nonceSize]byte
		salt[0], nonce[0] = byte(i), byte(i)
		text := canonical(g.p)
		e, err := draftOf(keys, text, salt, nonce).entry(uint64(i), g.t, time.Date(2026, 11, 1, 9, 30, i, 123456000, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		seen[g.t] = true
		data := e.leafData()
		fmt.Fprintf(&out, "%s\npayload %s\nleaf data %x\nleaf %x\nsealed %x\n\n", g.t, text, data, e.Leaf, e.Sealed)

		got, err := e.open(keys)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: opened as something else: %v", g.t, err)
		}
		p, err := decode(keys, &e)
		if err != nil || !bytes.Equal(canonical(p), text) {
			t.Errorf("%s: decoded as something else: %v", g.t, err)
		}
		if opens := opensOf(text); opens != g.p.Opens {
			t.Errorf("%s: opened by %d, and read as by %d", g.t, g.p.Opens, opens)
		}
		f, err := found(keys, &e)
		if err != nil {
			t.Errorf("%s: not shown: %v", g.t, err)
		}
		// Whatever is about a person is explained to them (C-9).
		if text := f.Explain(); text == "" && !f.Subject.IsZero() || strings.Contains(text, "C-") {
			t.Errorf("%s: explained as %q", g.t, text)
		}
		if !json.Valid(text) {
			t.Errorf("%s: the payload is not JSON", g.t)
		}
	}
	for et := TypeBegin; et <= TypeHandled; et++ {
		if !seen[et] {
			t.Errorf("no golden entry of type %s", et)
		}
	}
	name := filepath.Join("testdata", "entries.golden")
	if *update {
		if err := os.WriteFile(name, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		got, want := strings.Split(out.String(), "\n"), strings.Split(string(want), "\n")
		for i := range got {
			if i >= len(want) || got[i] != want[i] {
				t.Fatalf("line %d differs:\n%s", i+1, got[i])
			}
		}
		t.Fatal("the file has more")
	}
}

// TestSealIsXAES holds the construction against the vectors of its specification (c2sp.org/XAES-256-GCM).
func TestSealIsXAES(t *testing.T) {
	for _, c := range []struct{ fill, associated, want string }{
		{"\x01", "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{"\x03", "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		key := [keySize]byte([]byte(strings.Repeat(c.fill, keySize)))
		nonce := [nonceSize]byte([]byte("ABCDEFGHIJKLMNOPQRSTUVWX"))
		sealed := seal(gcmFor(key, nonce[:]), nonce, []byte("XAES-256-GCM"), []byte(c.associated))
		if got := hex.EncodeToString(sealed[nonceSize:]); got != c.want {
			t.Errorf("%x: %s, want %s", c.fill, got, c.want)
		}
		if plain, ok := unseal(key, sealed, []byte(c.associated)); !ok || string(plain) != "XAES-256-GCM" {
			t.Errorf("%x: does not open", c.fill)
		}
	}
}

// Whatever is changed of an entry, it does not open; not even with everything that an outsider could work out again.
func TestChangedEntriesDoNotOpen(t *testing.T) {
	keys := goldenKeys()
	text := canonical(&payload{Policy: &policyBody{"a", "b"}})
	fresh := func() Entry {
		e, err := newDraft(keys, text).entry(7, TypePolicy, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	other := fresh()
	for name, change := range map[string]func(*Entry){
		"version":       func(e *Entry) { e.Version = 2 },
		"type":          func(e *Entry) { e.Type = TypeRead },
		"position":      func(e *Entry) { e.Position++ },
		"time":          func(e *Entry) { e.Time = e.Time.Add(time.Microsecond) },
		"epoch":         func(e *Entry) { e.Epoch = 2 },
		"commitment":    func(e *Entry) { e.Commitment[0] ^= 1 },
		"leaf":          func(e *Entry) { e.Leaf[31] ^= 1 },
		"nonce":         func(e *Entry) { e.Sealed[0] ^= 1 },
		"payload":       func(e *Entry) { e.Sealed[len(e.Sealed)-1] ^= 1 },
		"cut":           func(e *Entry) { e.Sealed = e.Sealed[:10] },
		"erased":        func(e *Entry) { e.Sealed = nil },
		"other payload": func(e *Entry) { e.Sealed = other.Sealed },
		"type and leaf": func(e *Entry) { e.Type = TypeRead; e.Leaf = e.leaf() },
		"time and leaf": func(e *Entry) { e.Time = e.Time.Add(time.Hour); e.Leaf = e.leaf() },
		"moved":         func(e *Entry) { e.Position = 8; e.Leaf = e.leaf() },
	} {
		e := fresh()
		change(&e)
		if _, err := e.open(keys); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
	a, b := fresh(), fresh()
	if a.Leaf == b.Leaf || a.Commitment == b.Commitment || bytes.Equal(a.Sealed, b.Sealed) {
		t.Errorf("the same payload twice can be told to be the same")
	}
	if _, err := newDraft(keys, make([]byte, maxPayload+1)).entry(0, TypePolicy, time.Now()); !errors.Is(err, ErrInvalid) {
		t.Errorf("a payload over the bound: %v, want ErrInvalid", err)
	}
}

// One text per payload: what is not canonical is not read.
func TestCanonicalFormOnly(t *testing.T) {
	good := `{"reason":"a","count":1}`
	if err := parseCanonical([]byte(good), &payload{}); err != nil {
		t.Fatalf("the canonical text: %v", err)
	}
	for _, bad := range []string{`{"count":1,"reason":"a"}`, `{"reason":"a", "count":1}`, `{"reason":"\u0061","count":1}`, `{"Reason":"a","count":1}`, good + " ", good + "{}",
		`{"reason":"a","reason":"a","count":1}`, `{"reason":"a","count":1,"more":2}`, `{"reason":"a","count":1.0}`, `{"reason":"","count":1}`, `{"reason":null,"count":1}`, ``, `[]`, `null`} {
		if err := parseCanonical([]byte(bad), &payload{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", bad, err)
		}
	}
	for in, want := range map[string]string{"a\"b\\c": `"a\"b\\c"`, "\b\f\n\r\t\x00\x1f\x7f": `"\u0008\u000c\u000a\u000d\u0009\u0000\u001f` + "\x7f\"", "<&>\u2028é😀": "\"<&>\u2028é😀\"",
		"a\xff\xfeb": "\"a\uFFFD\uFFFDb\""} {
		got := appendString(nil, in)
		var back string
		if string(got) != want || json.Unmarshal(got, &back) != nil || back != plain(in) {
			t.Errorf("%q is written as %s, want %s", in, got, want)
		}
	}
}

// sameRead reads a text twice: as payloads are read, and by encoding/json, whose result must be that text when it is written. Both take the same texts, and read the same in them.
func sameRead(t testing.TB, text []byte, p *payload) bool {
	t.Helper()
	err := parseCanonical(text, p)
	other := &payload{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	taken := d.Decode(other) == nil
	if taken {
		_, end := d.Token()
		taken = errors.Is(end, io.EOF) && bytes.Equal(canonical(other), text)
	}
	if (err == nil) != taken || err == nil && !reflect.DeepEqual(p, other) {
		t.Errorf("a text of %d bytes: %v, and by encoding/json it is canonical: %v", len(text), err, taken)
	}
	return err == nil
}

// A text that differs from a canonical one in one place is read just where it is canonical again.
func TestCanonicalReader(t *testing.T) {
	taken := 0
	for _, g := range goldenPayloads(t) {
		text := canonical(g.p)
		if !sameRead(t, text, &payload{}) {
			t.Errorf("%s: what was written is not read", g.t)
		}
		for i := range text {
			all := []string{"", "0", "-", "1", `"`, `\`, `\"`, ",", "}", " ", "\x00", "\x1f", "\x7f", "\xff", "é", "A", "=", `\u0009`, `\u001F`, `\u0041`, `\n`}
			for n := range 2 { // two of them at each place
				b := all[(2*i+n)%len(all)]
				for _, changed := range [][]byte{slices.Concat(text[:i], []byte(b), text[i+1:]), slices.Concat(text[:i], []byte(b), text[i:])} {
					if sameRead(t, changed, &payload{}) {
						taken++
					}
				}
			}
			sameRead(t, text[:i], &payload{})
		}
	}
	if taken == 0 {
		t.Error("no change left a canonical text: nothing was changed inside a word")
	}
}

// What is recorded of an access, a disclosure and an objection can be read again, whole.
func TestBodiesRoundTrip(t *testing.T) {
	numbers := rapid.SampledFrom([]record.NHSNumber{nhs(t, "9990000018"), nhs(t, "9990000026"), nhs(t, "9990000034")})
	text := rapid.StringN(0, 20, 60)
	keys := rapid.SampledFrom([]record.CustodianKey{"gp", "acute", "mentalhealth"})
	sections := rapid.Map(rapid.Uint16Range(0, uint16(record.AllSections)), func(n uint16) record.Sections { return record.Sections(n) })
	instant := rapid.Map(rapid.Int64Range(1, 4e15), func(n int64) time.Time { return time.UnixMicro(n).UTC() })
	list := func(n int) func(*rapid.T, string) int {
		return func(rt *rapid.T, label string) int { return rapid.IntRange(0, n).Draw(rt, label) }
	}
	rapid.Check(t, func(rt *rapid.T) {
		a := Access{Key: text.Draw(rt, "key"), RequestID: text.Draw(rt, "id"), Face: "rest", Subject: numbers.Draw(rt, "subject"), Standing: record.Live,
			Requester: record.Requester{Kind: record.Professional, User: text.Draw(rt, "user"), Name: text.Draw(rt, "name"), Organisation: "X9A01", Own: numbers.Draw(rt, "own")},
			Purpose:   record.Treatment, Permission: record.Permission{Kind: record.AskedYes, Reason: text.Draw(rt, "reason")},
			BreakGlassReason: text.Draw(rt, "glass"), Filter: text.Draw(rt, "filter"), At: instant.Draw(rt, "at"), Budget: time.Duration(rapid.IntRange(0, 99999).Draw(rt, "ms")) * time.Millisecond}
		for range list(3)(rt, "supersedes") {
			a.Supersedes = append(a.Supersedes, numbers.Draw(rt, "old"))
		}
		for range list(3)(rt, "custodians") {
			c := consent.CustodianDecision{Key: keys.Draw(rt, "custodian"), Permitted: sections.Draw(rt, "permitted")}
			for range list(3)(rt, "parts") {
				c.Parts = append(c.Parts, consent.Part{Sections: sections.Draw(rt, "part"), Allowed: rapid.Bool().Draw(rt, "allowed"), Outcome: consent.Suppressed,
					Reason: consent.ReasonObjection, Rule: "C-2.7", Position: rapid.Uint64Range(0, 1<<53).Draw(rt, "position")})
			}
			a.Decision.Custodians = append(a.Decision.Custodians, c)
			a.Asked = append(a.Asked, c.Key)
		}
		d := Disclosure{Total: list(9)(rt, "total"), Bytes: int64(list(99999)(rt, "bytes"))}
		for range list(3)(rt, "shown") {
			s := Shown{Key: keys.Draw(rt, "key"), State: record.ReturnedInPart, Reason: text.Draw(rt, "why"), Sections: sections.Draw(rt, "sections"), Count: list(9)(rt, "count")}
			for range s.Count {
				s.Digests = append(s.Digests, [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "digest")))
			}
			for range list(2)(rt, "missing") {
				s.Parts = append(s.Parts, record.Part{Section: "results", Source: text.Draw(rt, "source"), Reason: record.PartTruncated, Count: list(9)(rt, "n")})
			}
			d.Custodians = append(d.Custodians, s)
		}
		in := &payload{Access: accessOut(a), Disclosure: disclosureOut(d)}
		out := &payload{}
		if err := parseCanonical(canonical(in), out); err != nil {
			rt.Fatalf("reading: %v", err)
		}
		r := &reading{}
		if got := r.access(*out.Access); r.bad || !reflect.DeepEqual(*got, a) {
			rt.Fatalf("an access was read as another")
		}
		if got := r.disclosure(*out.Disclosure); r.bad || !reflect.DeepEqual(*got, d) {
			rt.Fatalf("a disclosure was read as another")
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, g := range goldenPayloads(f) {
		f.Add(canonical(g.p))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p := &payload{}
		if !sameRead(t, text, p) {
			return
		}
		for et := TypeBegin; et <= TypeHandled; et++ {
			e, err := newDraft(goldenKeys(), text).entry(1, et, time.Now())
			if err != nil {
				return
			}
			if p, err := decode(goldenKeys(), &e); err == nil {
				_, _ = found(goldenKeys(), &e)
				_, _ = marksOf(goldenKeys(), &e, p, nil)
			}
		}
	})
}

// Verify finds an end, and a refusal, that says another purpose than its access, and one that says none where it must.
func TestWrongPurposesAreFound(t *testing.T) {
	for _, x := range []struct {
		since bool // entries name purposes
		t     EntryType
		of    record.Purpose
		says  string
		found bool
	}{
		{true, TypeReleased, record.Treatment, "", false}, {true, TypeReleased, record.UrgentCare, "ETREAT", false}, {true, TypeRefused, record.PatientAccess, "PATRQT", false}, {true, TypeChunk, record.UrgentCare, "", false},
		{false, TypeReleased, record.UrgentCare, "", false}, {false, TypeReleased, record.UrgentCare, "ETREAT", false},
		{true, TypeReleased, record.UrgentCare, "", true}, {true, TypeRefused, record.UrgentCare, "", true}, {true, TypeReleased, record.Treatment, "ETREAT", true}, {false, TypeReleased, record.UrgentCare, "BTG", true},
		{true, TypeAbandoned, record.BreakGlass, "ETREAT", true},
	} {
		if stays := (&payload{Purpose: "ETREAT", Opens: 4, Subject: "9990000018", Disclosure: &disclosureBody{}}).fits(x.t); stays != x.t.Closes() {
			t.Errorf("%s with a purpose fits: %t", x.t, stays)
		}
		v := &verifier{report: &Report{}, purposes: x.since}
		v.purpose(&Entry{Position: 9, Type: x.t}, &payload{Purpose: x.says}, &Access{Purpose: x.of})
		if got := v.report.Sound() != nil; got != x.found {
			t.Errorf("%s of an access for %s that says %q: found %t", x.t, x.of, x.says, got)
		}
	}
}
