package main

import (
	"bufio"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

func TestGetAsTimeline(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	d.broker.record = &v1.GetRecordResponse{Bundle: bundle(t), Custodians: statuses(), Receipt: receipt()}
	for _, c := range []struct {
		golden string
		width  int
		colour bool
	}{{"timeline-100.golden", 100, false}, {"timeline-56.golden", 56, false}, {"timeline-colour.golden", 80, true}} {
		d.columns, d.colour = c.width, c.colour
		code, out, errs := d.do(t, "record", "get", "999 000 0050", "-purpose", "TREAT", "--permission", "asked-yes")
		if code != exitDone || errs != "" {
			t.Fatalf("got exit code %d, %q", code, errs)
		}
		golden(t, c.golden, out)
		if !c.colour && strings.ContainsAny(out, "\x1b\x07") || strings.Contains(out, "\u202e") {
			t.Error("an escape sequence of the content reached the terminal")
		}
		if strings.Contains(out, "NARRATIVE") || strings.Contains(out, "<script>") {
			t.Error("a narrative is shown")
		}
		for line := range strings.Lines(out) {
			if n := cells(strings.TrimSuffix(line, "\n")); !c.colour && n > c.width {
				t.Errorf("a line is %d columns wide, want %d", n, c.width)
			}
		}
	}
	if in := d.broker.asked.(*v1.GetRecordRequest); in.GetNhsNumber() != eleanor || in.GetPurpose() != v1.Purpose_PURPOSE_TREAT ||
		in.GetPermission().GetKind() != v1.PermissionKind_PERMISSION_KIND_ASKED_YES {
		t.Error("the broker was asked something else")
	}
	if got := d.broker.header.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+token {
		t.Error("the token was not sent once")
	}
}

// A stream tells its progress, and shows in the end what get shows.
func TestStreamShowsTheSame(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	d.broker.record = &v1.GetRecordResponse{Bundle: bundle(t), Custodians: statuses(), Receipt: receipt()}
	d.broker.stream = messages(t)
	_, whole, _ := d.do(t, "record", "get", eleanor)
	code, out, errs := d.do(t, "record", "stream", eleanor)
	if code != exitDone || out != whole {
		t.Errorf("got exit code %d and\n%s\nwant\n%s", code, out, whole)
	}
	golden(t, "progress.golden", errs)
	d.lively = true
	if _, _, errs := d.do(t, "record", "stream", eleanor); strings.Count(errs, "\r\x1b[K") != 11 || strings.Contains(errs, "\n") {
		t.Errorf("got %q, want one line that is rewritten ten times and cleared", errs)
	}
	if _, _, errs := d.do(t, "record", "stream", "-quiet", eleanor); errs != "" {
		t.Errorf("got %q, want no progress", errs)
	}
}

func TestBrokenStreamSaysSoFirst(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	for name, cut := range map[string]int{"without summary": 2, "half a summary": 1} {
		all := messages(t)
		d.broker.stream = all[:len(all)-cut]
		code, out, errs := d.do(t, "record", "stream", eleanor)
		if code != exitFault || !strings.Contains(errs, "the answer is not whole") || !strings.Contains(out, "THE ANSWER BROKE OFF") || !strings.Contains(out, "Penicillin") {
			t.Errorf("%s: got exit code %d, %q", name, code, errs)
		}
	}
	d.broker.stream = messages(t)[:6]
	d.broker.err = status.Error(codes.Unavailable, "no answer can be given now")
	code, out, _ := d.do(t, "record", "stream", eleanor)
	if code == exitDone || !strings.Contains(out, "THE ANSWER BROKE OFF") || !strings.Contains(out, "had not answered yet") {
		t.Errorf("broken by an error: got exit code %d\n%s", code, out)
	}
	d.broker.stream = nil
	if code, out, _ := d.do(t, "record", "stream", eleanor); code == exitDone || out != "" {
		t.Errorf("refused: got exit code %d and\n%s", code, out)
	}
	d.broker.err = nil
	all := messages(t)
	d.broker.stream = append(all[:1:1], all[2:]...) // the first part of a large entry is lost
	if code, _, errs := d.do(t, "record", "stream", eleanor); code != exitFault || !strings.Contains(errs, "do not fit together") {
		t.Errorf("a lost part: got exit code %d, %q", code, errs)
	}
}

func TestJSONForMachines(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	odd := `{"resourceType":"Bundle", "total":1.500, "note":"a<b&c"}`
	d.broker.record = &v1.GetRecordResponse{Bundle: []byte(odd), Custodians: statuses(), Receipt: receipt()}
	code, out, _ := d.do(t, "record", "get", eleanor, "-o", "json")
	var got struct {
		Custodians []struct{ State string }
		Receipt    struct{ Position string }
		Bundle     json.RawMessage
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitDone {
		t.Fatalf("got exit code %d, %v", code, err)
	}
	if len(got.Custodians) != 9 || got.Custodians[5].State != "CUSTODIAN_STATE_TIMED_OUT" || got.Receipt.Position != "812" || string(got.Bundle) != odd {
		t.Error("custodians, receipt or bundle are not as they came")
	}
	d.broker.stream = messages(t)
	code, out, _ = d.do(t, "record", "stream", eleanor, "-o", "json", "-quiet")
	kinds := map[string]int{}
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
		var line map[string]json.RawMessage
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatal("a line is not JSON")
		}
		for k, v := range line {
			if string(v) == "null" {
				t.Errorf("%s is null", k)
			}
			kinds[k]++
		}
	}
	if code != exitDone || kinds["plan"] != 1 || kinds["entry"] != 17 || kinds["resource"] != 17 || kinds["custodian"] != 9 || kinds["summary"] != 2 {
		t.Errorf("got exit code %d, lines %v", code, kinds)
	}
}

func TestWholeIsAVerdict(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	d.broker.record = &v1.GetRecordResponse{Bundle: []byte(`{"resourceType":"Bundle"}`), Custodians: statuses()}
	if code, _, _ := d.do(t, "record", "get", eleanor, "-whole"); code != exitNotWhole {
		t.Errorf("got exit code %d, want %d", code, exitNotWhole)
	}
	d.broker.record.Custodians = []*v1.CustodianStatus{statuses()[0], statuses()[3]}
	code, out, _ := d.do(t, "record", "get", eleanor, "-whole", "-type", "Flag,Goal", "-start", "2019-05")
	if code != exitDone || !strings.Contains(out, "All 2 custodians answered in full.") || !strings.Contains(out, "You asked for a part only: types Flag, Goal; from May 2019.") {
		t.Errorf("got exit code %d\n%s", code, out)
	}
}

func TestEveryFieldReachesTheBroker(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	d.broker.record = &v1.GetRecordResponse{Bundle: []byte(`{}`)}
	d.in = strings.NewReader("999-000-0050\n")
	if code, _, errs := d.do(t, "record", "get", "-", "-birth-date", "1958-11-02", "--break-glass=unconscious, nobody known", "-relationship", `admission; ref="W 7; bed 2"`,
		"-type", "Flag", "-type=Goal,Task", "-start", "2019", "-end", "2020", "-since", "2021-01-01T00:00:00Z"); code != exitDone {
		t.Fatalf("got exit code %d, %q", code, errs)
	}
	in := d.broker.asked.(*v1.GetRecordRequest)
	if in.GetNhsNumber() != eleanor || in.GetBirthDate() != "1958-11-02" || in.GetPurpose() != v1.Purpose_PURPOSE_BTG || in.GetBreakGlassReason() != "unconscious, nobody known" ||
		in.GetRelationship().GetRef() != "W 7; bed 2" || strings.Join(in.GetTypes(), " ") != "Flag Goal Task" || in.GetStart() != "2019" || in.GetEnd() != "2020" ||
		in.GetSince() != "2021-01-01T00:00:00Z" || in.GetPermission() != nil {
		t.Error("a field is missing or wrong")
	}
	for text, want := range map[string]*v1.Permission{
		"asked-earlier; on=2026-01-31":       {Kind: v1.PermissionKind_PERMISSION_KIND_ASKED_EARLIER, On: "2026-01-31"},
		`implied-by-referral; ref="a; b"`:    {Kind: v1.PermissionKind_PERMISSION_KIND_IMPLIED_BY_REFERRAL, Ref: "a; b"},
		"cannot-ask; reason=not awake":       {Kind: v1.PermissionKind_PERMISSION_KIND_CANNOT_ASK, Reason: "not awake"},
		`best-interests; reason="see notes"`: {Kind: v1.PermissionKind_PERMISSION_KIND_BEST_INTERESTS, Reason: "see notes"},
	} {
		got, err := readPermission(text)
		if err != nil || got.GetKind() != want.GetKind() || got.GetOn() != want.GetOn() || got.GetRef() != want.GetRef() || got.GetReason() != want.GetReason() {
			t.Errorf("%s is read otherwise", text)
		}
	}
	if code, _, _ := d.do(t, "record", "get", eleanor, "-self"); code != exitDone || d.broker.asked.(*v1.GetRecordRequest).GetPermission().GetKind() != v1.PermissionKind_PERMISSION_KIND_PATIENT_SELF {
		t.Error("-self does not state patient-self")
	}
}

// What was said at sign-in is stated where the call says nothing, and the user is told. It never goes with broken glass.
func TestStatedAtSignIn(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{Stated: stated{"TREAT", "asked-yes", "registered"}})
	d.broker.record = &v1.GetRecordResponse{Bundle: []byte(`{}`)}
	_, _, errs := d.do(t, "record", "get", eleanor, "-relationship", "referral")
	in := d.broker.asked.(*v1.GetRecordRequest)
	if in.GetPurpose() != v1.Purpose_PURPOSE_TREAT || in.GetPermission().GetKind() != v1.PermissionKind_PERMISSION_KIND_ASKED_YES ||
		in.GetRelationship().GetKind() != v1.RelationshipKind_RELATIONSHIP_KIND_REFERRAL || errs != "Stating, as at sign-in: purpose TREAT, permission asked-yes.\n" {
		t.Errorf("got %q", errs)
	}
	_, _, errs = d.do(t, "record", "get", eleanor, "-break-glass", "unconscious, alone")
	if in = d.broker.asked.(*v1.GetRecordRequest); in.GetPurpose() != v1.Purpose_PURPOSE_BTG || in.GetPermission() != nil || errs != "" {
		t.Error("a permission was stated beside broken glass")
	}
}

func TestWrongUseIsExplained(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	for _, c := range []struct{ args, want string }{
		{"record get", "takes an NHS number and flags"}, {"record get 1 2", "takes an NHS number and flags"}, {"record get 1 -nope", "-help lists the flags"},
		{"record get 1 -purpose treat", "TREAT (direct care)"}, {"record get 1 -permission yes", "asked-yes"}, {"record get 1 -permission asked-yes;x=1", "asked-yes"},
		{"record get 1 -relationship friend", "registered"}, {"record get 1 -o xml", "text or json"}, {"record get 1 -self -purpose BTG", "-self goes with no"},
		{"record get 1 -break-glass abcdefghijk -purpose TREAT", "-break-glass goes with no"}, {"record get 1 -server nowhere", "host:port"},
		{"record get 1 -server example.com:443 -plaintext", "only for this machine"}, {"record get 1 -ca missing.pem", "cannot be opened"},
		{"record get 1 -timeout 0s", "-timeout"}, {"record get 1 -token-file missing", "cannot be opened"},
		{"consent object 1", "-all, -custodian KEY or -section CODE"}, {"consent object 1 -all -section history -method form", "one of the three"},
		{"consent object 1 -section moods -method form", "mental-health"}, {"consent object 1 -all", "-method"}, {"consent withdraw 1", "-id"},
		{"audit search -entry-type x", "begin"}, {"audit search -limit 0", "1 to 1000"}, {"audit search 1", "takes flags only"}, {"login", "-as PERSONA or -token-file"},
		{"login -as gp -token-file x", "one of the two"}, {"login -as gp -issuer ftp://x", "address such as"}, {"login -as gp -issuer http://example.com", "this machine only"},
		{"nonsense", "mcr record get"}, {"", "mcr record get"},
	} {
		code, out, errs := d.do(t, strings.Fields(c.args)...)
		if code != exitUse || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("%q: got exit code %d, %q; want %d and %q", c.args, code, errs, exitUse, c.want)
		}
	}
	if d.broker.asked != nil {
		t.Error("the broker was asked")
	}
	for _, args := range []string{"help", "record get -help", "consent object --help", "login -h"} {
		if code, out, _ := d.do(t, strings.Fields(args)...); code != exitDone || !strings.Contains(out, "mcr") {
			t.Errorf("%s: got exit code %d", args, code)
		}
	}
}

func refused(t *testing.T, code codes.Code, text string, details ...protoadapt.MessageV1) error {
	t.Helper()
	s, err := status.New(code, text).WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func info(reason string, pairs ...string) protoadapt.MessageV1 {
	m := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return &errdetails.ErrorInfo{Domain: "mycarerecord", Reason: reason, Metadata: m}
}

// Each refusal has an exit code, and words that say what to do.
func TestRefusals(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	var all strings.Builder
	for _, c := range []struct {
		name string
		err  error
		code int
	}{
		{"bad fields", refused(t, codes.InvalidArgument, "x", info("INVALID"), &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "nhs_number", Description: "ten digits that are an NHS number"}, {Field: "birth_date", Description: "the date\x1b[2J"}, {Field: "purpose", Description: "PURPOSE_TREAT"}}}), exitUse},
		{"no token", refused(t, codes.Unauthenticated, "x", info("UNAUTHENTICATED")), exitSignIn},
		{"expired", refused(t, codes.Unauthenticated, "x", info("EXPIRED")), exitSignIn},
		{"no permission", refused(t, codes.PermissionDenied, "x", info("FORBIDDEN", "rule", "C-2.8", "why", "permission"), protoadapt.MessageV1Of(receipt())), exitRefused},
		{"an objection to all", refused(t, codes.PermissionDenied, "the person has objected", info("SUPPRESSED", "rule", "C-2.7", "why", "objection"),
			protoadapt.MessageV1Of(&v1.CustodianStatuses{Custodians: statuses()[2:3], LeftOut: 2})), exitRefused},
		{"nothing to show", refused(t, codes.NotFound, "no record can be shown for these details", info("NOT_FOUND")), exitNothing},
		{"custodians in trouble", refused(t, codes.Unavailable, "no answer can be given now", info("TRANSIENT"), protoadapt.MessageV1Of(&v1.CustodianStatuses{Custodians: statuses()[5:8]}),
			&errdetails.RetryInfo{RetryDelay: statuses()[0].GetTook()}), exitLater},
		{"too large", refused(t, codes.ResourceExhausted, "x", info("USE_STREAM", "why", "use-stream")), exitLarge},
		{"throttled", refused(t, codes.ResourceExhausted, "too many requests", info("THROTTLED")), exitLater},
		{"too little time", refused(t, codes.DeadlineExceeded, "too little time", info("TIMEOUT")), exitLater},
		{"their fault", refused(t, codes.Internal, "a fault of ours", info("INTERNAL")), exitFault},
		{"another server", status.Error(codes.Unimplemented, "unknown service"), exitFault},
	} {
		d.broker.err = c.err
		code, out, errs := d.do(t, "record", "get", eleanor)
		if code != c.code || out != "" {
			t.Errorf("%s: got exit code %d, want %d", c.name, code, c.code)
		}
		all.WriteString("-- " + c.name + "\n" + errs)
	}
	if strings.Contains(all.String(), "\x1b") {
		t.Error("an escape sequence of the server reached the terminal")
	}
	golden(t, "refusals.golden", all.String())
	if code, _, errs := d.do(t, "record", "get", eleanor, "-server", "127.0.0.1:1", "-timeout", "5s"); code != exitFault || !strings.Contains(errs, "cannot be reached") {
		t.Errorf("nobody there: got exit code %d, %q", code, errs)
	}
}
