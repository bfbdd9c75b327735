package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// The whole way: a doctor opens a colleague's record through the daemon; the alert arrives, by position alone, and in the day's mail; the officer of their organisation looks at
// it, takes it and closes it; the person's report shows who looked, from where, and that an officer looked into it, and not what is held against the doctor; nobody
// without the right saw anything of it; whatever anybody was told on the way holds nothing of the record; and every entry is proved.
func TestASnooperIsFound(t *testing.T) {
	t.Parallel()
	cohortDir := t.TempDir()
	for _, key := range []string{"gp", "acute", "mentalhealth", "community", "socialcare", "ambulance", "pharmacy", "nhs111", "outofhours"} {
		if err := os.MkdirAll(filepath.Join(cohortDir, key), 0o700); err != nil {
			t.Fatal(err)
		}
		for i, number := range markedNumbers {
			if err := os.WriteFile(filepath.Join(cohortDir, key, fmt.Sprintf("p%d.json", i)), markedBundle(key, number, i), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := neighbourhood.Start(t, neighbourhood.Options{State: t.TempDir(), Flags: []string{"-cohort", cohortDir}})
	arrived := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(io.LimitReader(r.Body, 10_000))
		arrived <- string(text)
	}))
	t.Cleanup(hook.Close)
	mails := newPost(t)
	said := &told{t: t}
	colleague := markedNumbers[1]
	var config string
	p := startProduct(t, n, freeAddress(t), func(p *product, path string, doc *yaml.Node) {
		config = path
		sheet, list := filepath.Join(p.state, "staff.csv"), filepath.Join(p.state, "staff.list")
		rows := "user,organisation,nhs_number,surname,postcode,address,kin\n555000000102,X9B01,9990000093,Asante-Lloyd,XX1 1AA,1 Invented Way,\n555000000188,X9B01," + colleague + "," + markFamily + ",ZQ9 9ZQ,1 " + markStreet + ",\n"
		if err := os.WriteFile(sheet, []byte(rows), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(neighbourhood.Program(t, "broker"), "staff", "list", "-config", path, "-kind", "staff", "-from", sheet, "-out", list).CombinedOutput(); err != nil {
			t.Fatalf("broker staff list: %s", out)
		}
		if err := os.Remove(sheet); err != nil {
			t.Fatal(err)
		}
		set(doc, list, "worklist", "staff")
		set(doc, hook.URL, "alerts", "webhook")
		set(doc, "true", "alerts", "allowPlainHTTP")
		for key, value := range map[string]string{"server": mails.address, "tls": "none", "from": "record@trust.example", "at": nextMail()} {
			set(doc, value, "alerts", "mail", key)
		}
		recipient(doc, "X9B01", "officers@trust.example")
	})
	conn, err := grpc.NewClient("passthrough:///"+p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // nothing is in flight then
	as := func(persona string, more ...string) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), neighbourhood.CallTime)
		t.Cleanup(cancel)
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+n.Token(t, persona, more...))
	}
	records, list, ledger := v1.NewRecordServiceClient(conn), v1.NewWorklistServiceClient(conn), v1.NewAuditServiceClient(conn)
	look := func(persona, number string) *v1.Receipt {
		t.Helper()
		got, err := records.GetRecord(as(persona), &v1.GetRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT, Permission: &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_ASKED_YES}})
		if err != nil {
			t.Fatalf("%s is not shown a record: %v", persona, err)
		}
		return got.GetReceipt()
	}
	look("ed-doctor", markedNumbers[0]) // somebody else: no alert
	shown := look("ed-doctor", colleague)
	at := time.Now()
	var alert struct{ Position uint64 }
	select {
	case text := <-arrived:
		took := time.Since(at)
		if json.Unmarshal([]byte(text), &alert) != nil || alert.Position == 0 || text != fmt.Sprintf(`{"position":%d}`, alert.Position) {
			t.Fatalf("the webhook was sent %q", text)
		}
		t.Logf("the alert arrived %.1f s after the answer", took.Seconds())
		said.say("the webhook", text)
	case <-time.After(time.Minute):
		t.Fatal("no alert arrived within a minute")
	}

	// Who has no right to it sees nothing: neither care staff, nor whoever it is about, nor the person.
	for _, persona := range []string{"ed-doctor", "gp", "mh-nurse", "front-desk", "engine", "stranger"} {
		for what, err := range map[string]error{
			"list":  second(list.ListAlerts(as(persona), &v1.ListAlertsRequest{Reason: "x"})),
			"show":  second(list.GetAlert(as(persona), &v1.GetAlertRequest{Position: alert.Position, Reason: "x"})),
			"take":  second(list.TakeAlert(as(persona), &v1.TakeAlertRequest{Position: alert.Position})),
			"close": second(list.CloseAlert(as(persona), &v1.CloseAlertRequest{Position: alert.Position, Outcome: v1.ReviewOutcome_REVIEW_OUTCOME_JUSTIFIED, Note: "x"})),
			"sum":   second(list.Summarise(as(persona), &v1.SummariseRequest{From: "2026-01-01", Until: "2026-01-02", Reason: "x"})),
		} {
			if status.Code(err) != grpccodes.PermissionDenied {
				t.Errorf("%s, %s: %v", persona, what, err)
			}
		}
	}
	if _, err := list.ListAlerts(as("patient", "nhs_number="+colleague), &v1.ListAlertsRequest{Reason: "x"}); status.Code(err) != grpccodes.PermissionDenied {
		t.Errorf("the person: %v", err)
	}

	if _, err := ledger.Ask(as("ed-doctor"), &v1.AskRequest{Question: v1.Question_QUESTION_LEDGER_READS, NhsNumber: colleague, Reason: "x"}); status.Code(err) != grpccodes.PermissionDenied {
		t.Errorf("who it is about asks who looked at the log: %v", err)
	}
	other := newDesk(t, p.grpc, n.Token(t, "patient", "nhs_number="+markedNumbers[2]))
	page, paper, data := other.personReport(markedNumbers[2])
	said.say("somebody else's page", page, markedNumbers[2])
	said.say("somebody else's paper", paper, markedNumbers[2])
	if said.say("somebody else's data", data, markedNumbers[2]); len(receiptsOf(t, data)) != 0 {
		t.Error("somebody else's report shows an access that was not to their record")
	}

	// The day's mail names where it stands, and nothing else.
	select {
	case text := <-mails.arrived:
		if said.say("the mail", text); !strings.Contains(text, fmt.Sprintf("\r\n  %d\r\n", alert.Position)) || !strings.Contains(text, "To: <officers@trust.example>") {
			t.Errorf("the mail does not name the alert:\n%s", text)
		}
	case <-time.After(3 * time.Minute):
		t.Fatal("no mail came")
	}

	// The officer works on it.
	officer := "ig-officer"
	office := newDesk(t, p.grpc, n.Token(t, officer, "ttl=10m"))
	at2 := fmt.Sprint(alert.Position)
	said.say("mcr audit worklist list", office.do("audit", "worklist", "list", "-reason", "daily"))
	said.say("mcr audit worklist list -o json", office.do("audit", "worklist", "list", "-reason", "daily", "-o", "json"))
	said.say("mcr audit worklist show", office.do("audit", "worklist", "show", at2, "-reason", "daily"), colleague)
	said.say("mcr audit who", office.do("audit", "who", colleague, "-reason", "daily"), colleague)
	said.say("mcr audit who -total", office.do("audit", "who", colleague, "-reason", "daily", "-total"), colleague)
	said.say("mcr audit user", office.do("audit", "user", "555000000102", "-reason", "daily"), markedNumbers[0], colleague) // whose records their own staff looked at, officers may know
	said.say("mcr audit staff -total", office.do("audit", "staff", "X9B01", "-reason", "daily", "-total"))
	said.say("mcr audit view", office.do("audit", "view", fmt.Sprint(shown.GetPosition()), "-reason", "daily"), colleague)
	events, err := n.Do(t.Context(), http.MethodPost, p.rest+"/fhir/AuditEvent/_search", http.Header{"Authorization": {"Bearer " + n.Token(t, officer)}, "X-Audit-Reason": {"daily"},
		"Content-Type": {"application/x-www-form-urlencoded"}}, []byte("patient.identifier="+url.QueryEscape(nhsNumberSystem+"|"+colleague)))
	if err != nil || events.Status != http.StatusOK {
		t.Fatalf("AuditEvents: %v %v", events, err)
	}
	said.say("AuditEvents", string(events.Body), colleague)
	listed, err := list.ListAlerts(as(officer), &v1.ListAlertsRequest{Reason: "daily"})
	if err != nil || len(listed.GetAlerts()) != 1 || listed.GetAlerts()[0].GetPosition() != alert.Position || listed.GetAlerts()[0].GetRequester().GetUser() != "555000000102" {
		t.Fatalf("the officer's list: %v", err)
	}
	one, err := list.GetAlert(as(officer), &v1.GetAlertRequest{Position: alert.Position, Reason: "daily"})
	if err != nil || one.GetAccess().GetNhsNumber() != colleague || one.GetClosing().GetPosition() != shown.GetPosition() || !one.GetEvidence().GetColleague() || !one.GetEvidence().GetRecordSeen() {
		t.Fatalf("the alert: %v", err)
	}
	taken, err := list.TakeAlert(as(officer), &v1.TakeAlertRequest{Position: alert.Position})
	if err != nil {
		t.Fatal(err)
	}
	closed, err := list.CloseAlert(as(officer), &v1.CloseAlertRequest{Position: alert.Position, Outcome: v1.ReviewOutcome_REVIEW_OUTCOME_NOT_JUSTIFIED, Note: "he was curious"})
	if err != nil {
		t.Fatal(err)
	}
	after, err := list.ListAlerts(as(officer), &v1.ListAlertsRequest{Reason: "daily"})
	if err != nil || len(after.GetAlerts()) != 0 || len(after.GetPrecision()) != 1 || after.GetPrecision()[0].GetNotJustified() != 1 {
		t.Errorf("after it was closed: %d on the list, %v", len(after.GetAlerts()), err)
	}
	day := time.Now().UTC().Format(time.DateOnly)
	sum, err := list.Summarise(as(officer), &v1.SummariseRequest{From: time.Now().AddDate(0, 0, -1).UTC().Format(time.DateOnly), Until: day, Reason: "weekly"})
	if err != nil || sum.GetAccesses() < 2 || len(sum.GetAlerts()) != 1 || len(sum.GetCustodians()) == 0 {
		t.Errorf("the summary counts %d accesses: %v", sum.GetAccesses(), err)
	}

	for what, m := range map[string]proto.Message{"the list": listed, "the list after": after, "the summary": sum} {
		said.say(what, protojson.Format(m))
	}
	said.say("the alert", protojson.Format(one), colleague)
	office.do("audit", "report", "-organisation", "-reason", "weekly", "-from", day, "-html", "week.html", "-csv", "week.csv")
	said.say("the organisation's page", office.file("week.html"))
	said.say("the organisation's sheet", office.file("week.csv"))
	page, paper, data = office.personReport(colleague, "-reason", "they asked for it")
	said.say("the officer's report for the person, the page", page, colleague)
	said.say("the officer's report for the person, the paper", paper, colleague)
	said.say("the officer's report for the person, the data", data, colleague)

	// The person finds who looked, and that an officer looked into it, and nothing of the alert.
	own, err := ledger.SearchAccesses(as("patient", "nhs_number="+colleague), &v1.SearchAccessesRequest{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	types := map[v1.EntryType]int{}
	for _, e := range own.GetEntries() {
		types[e.GetType()]++
	}
	if types[v1.EntryType_ENTRY_TYPE_RELEASED] != 1 || types[v1.EntryType_ENTRY_TYPE_READ] == 0 || types[v1.EntryType_ENTRY_TYPE_ALERT]+types[v1.EntryType_ENTRY_TYPE_HANDLED] != 0 {
		t.Errorf("the person finds %v", types)
	}

	// Their report shows all of it in words: who looked, when, from where, why, and what kinds of things they saw; that an officer looked into it; and nothing of what is
	// held against the doctor, nor who anybody is.
	home := newDesk(t, p.grpc, n.Token(t, "patient", "nhs_number="+colleague))
	page, paper, data = home.personReport(colleague)
	said.say("the person's page", page, colleague)
	said.say("the person's paper", paper, colleague)
	said.say("the person's data", data, colleague)
	for form, text := range map[string]string{"page": page, "paper": paper, "data": data} {
		for _, want := range []string{"Staff opened your record once.", "clinical practitioner", "Ashford Vale University Hospitals", "for your care", "letters", "They asked who had looked at your record",
			"officer for information governance", "They looked at one of the accesses to your record more closely", fmt.Sprintf("%d.%x", shown.GetPosition(), shown.GetLeaf())} {
			if !strings.Contains(text, want) {
				t.Errorf("the person's %s does not say %q", form, want)
			}
		}
		lower := strings.ToLower(text)
		for _, hidden := range []string{"alert ", "snoop", "curious", "justified", "daily", "worklist", "asante", "ravenscroft", "555000000102"} {
			if strings.Contains(lower, hidden) {
				t.Errorf("the person's %s says %q", form, hidden)
			}
		}
	}
	said.say("the log of the daemon", p.out.text())
	said.check()

	// Each entry is proved, one by one and all together, by a program that knows nothing of ours.
	time.Sleep(1200 * time.Millisecond) // an entry is under a checkpoint within a second
	for what, r := range map[string]*v1.Receipt{"the answer": shown, "taking": taken.GetReceipt(), "closing": closed.GetReceipt(), "the question": one.GetReceipt(), "the summary": sum.GetReceipt()} {
		if proof, err := ledger.ProveInclusion(as(officer), &v1.ProveInclusionRequest{Receipt: r}); err != nil || proof.GetCheckpoint().GetSize() <= r.GetPosition() {
			t.Errorf("%s is not proved: %v", what, err)
		}
	}
	stream, err := ledger.ExportEntries(as(officer), &v1.ExportEntriesRequest{Reason: "yearly"})
	if err != nil {
		t.Fatal(err)
	}
	export := filepath.Join(t.TempDir(), "export")
	f, err := os.Create(export)
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(m.GetData()); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	keys, err := exec.Command(neighbourhood.Program(t, "broker"), "keys", "public", "-config", config).Output()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"export", export, "-keys", filepath.Join(p.state, "keys")}
	for _, k := range strings.Fields(string(keys)) {
		args = append(args, "-key", k)
	}
	out, err := exec.Command(neighbourhood.Program(t, "verify"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("verify export: %v\n%s", err, out)
	}
	receipts := receiptsOf(t, data)
	for _, r := range []*v1.Receipt{shown, taken.GetReceipt(), closed.GetReceipt(), one.GetReceipt(), sum.GetReceipt(), listed.GetReceipt(), after.GetReceipt()} {
		receipts = append(receipts, fmt.Sprintf("%d.%x", r.GetPosition(), r.GetLeaf()))
	}
	for _, r := range receipts {
		args := []string{"receipt", r, "-export", export}
		for _, k := range strings.Fields(string(keys)) {
			args = append(args, "-key", k)
		}
		if out, err := exec.Command(neighbourhood.Program(t, "verify"), args...).CombinedOutput(); err != nil {
			t.Errorf("verify receipt: %v\n%s", err, out)
		}
	}
	t.Logf("%d receipts proved one by one, and the whole export", len(receipts))
}

// nextMail is a minute that begins in 70 to 130 seconds, in London: when the day's mail is due.
func nextMail() string {
	zone, err := time.LoadLocation("Europe/London")
	if err != nil {
		panic("the zone database lacks Europe/London")
	}
	return time.Now().Add(70 * time.Second).Truncate(time.Minute).Add(time.Minute).In(zone).Format("15:04")
}

// recipient adds who gets the mail.
func recipient(doc *yaml.Node, organisation, address string) {
	var list yaml.Node
	if err := yaml.Unmarshal([]byte("- {organisation: "+organisation+", address: "+address+"}"), &list); err != nil {
		panic("a recipient is no YAML")
	}
	set(doc, "x", "alerts", "mail", "to")
	n := doc.Content[0]
	for _, key := range []string{"alerts", "mail", "to"} {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				n = n.Content[i+1]
				break
			}
		}
	}
	*n = *list.Content[0]
}

func second[T any](_ T, err error) error { return err }
