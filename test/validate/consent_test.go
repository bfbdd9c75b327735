package validate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// consents validates the Consents that we author: of the gateway, of each kind of objection in each status that one can get at a desk, and of both FHIR
// formats of an export. The published examples of IHE PCF go through the same validator first: it must know a Consent when it sees one.
func consents(t *testing.T, n *neighbourhood.Neighbourhood) {
	v := validator(t)
	published, err := filepath.Glob(filepath.Join(neighbourhood.Data(t, "ihe-pcf-consent"), "Consent-*.json"))
	if err != nil || len(published) != 9 {
		t.Fatalf("%d published examples, want 9", len(published))
	}
	for _, f := range published {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal("an example cannot be read")
		}
		if _, err := v.UnmarshalR4(text); err != nil {
			t.Errorf("%s: the validator rejects it: %s", filepath.Base(f), where(err))
		}
		bad := bytes.Replace(text, []byte(`"status": "active"`), []byte(`"status": "in-force"`), 1)
		if _, err := v.UnmarshalR4(bad); err == nil {
			t.Errorf("%s: the validator accepts a status that FHIR does not know", filepath.Base(f))
		}
	}

	person := n.People[0].NHSNumber
	own := n.Token(t, "patient", "nhs_number="+person)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	as := func(token string) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	client := v1.NewConsentServiceClient(n.Dial(t))
	ended := ""
	for _, in := range []*v1.RecordObjectionRequest{
		{Scope: v1.ObjectionScope_OBJECTION_SCOPE_ALL, Status: v1.ObjectionStatus_OBJECTION_STATUS_REQUESTED},
		{Scope: v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, Custodian: "gp", Until: "2099-12-31", Responsible: "mother <parental responsibility> & \"others\""},
		{Scope: v1.ObjectionScope_OBJECTION_SCOPE_SECTION, Section: v1.Section_SECTION_MENTAL_HEALTH, Absolute: true, From: "2026-01", Source: "form 7"},
		{Scope: v1.ObjectionScope_OBJECTION_SCOPE_SECTION, Section: v1.Section_SECTION_RESULTS},
	} {
		in.Method = v1.ObjectionMethod_OBJECTION_METHOD_ONLINE
		out, err := client.RecordObjection(as(own), in)
		if err != nil {
			t.Fatalf("recording an objection: %v", err)
		}
		ended = out.GetObjection().GetId()
	}
	if _, err := client.WithdrawObjection(as(own), &v1.WithdrawObjectionRequest{ObjectionId: ended}); err != nil {
		t.Fatalf("withdrawing one: %v", err)
	}
	header := http.Header{"Authorization": {"Bearer " + own}}
	res := n.Get(t, "/fhir/Consent", header)
	var bundle struct {
		Total int `json:"total"`
		Entry []struct {
			Resource json.RawMessage `json:"resource"`
		} `json:"entry"`
	}
	if res.Status != 200 || json.Unmarshal(res.Body, &bundle) != nil || bundle.Total < 4 || len(bundle.Entry) != bundle.Total {
		t.Fatalf("searching: %v, %d of %d Consents", res, len(bundle.Entry), bundle.Total)
	}
	if _, err := v.UnmarshalR4(res.Body); err != nil {
		t.Errorf("the validator rejects the Bundle: %s", where(err))
	}
	statuses := map[string]int{}
	for i, e := range bundle.Entry {
		if _, err := v.UnmarshalR4(e.Resource); err != nil {
			t.Errorf("Consent %d: the validator rejects it: %s", i+1, where(err))
		}
		var c struct{ ID, Status string }
		if json.Unmarshal(e.Resource, &c) != nil {
			t.Fatal("not a Consent")
		}
		statuses[c.Status]++
		one := n.Get(t, "/fhir/Consent/"+c.ID, header)
		if _, err := v.UnmarshalR4(one.Body); one.Status != 200 || err != nil {
			t.Errorf("Consent %d by its id: %v, %s", i+1, one, where(errors.Join(err, errors.New("read"))))
		}
	}
	if statuses["proposed"] == 0 || statuses["active"] < 2 || statuses["inactive"] == 0 {
		t.Errorf("statuses %v, want proposed, active and inactive among them", statuses)
	}

	exported := 0
	for _, format := range []v1.ListFormat{v1.ListFormat_LIST_FORMAT_NDJSON, v1.ListFormat_LIST_FORMAT_BUNDLE} {
		stream, err := client.ExportObjections(as(n.Token(t, "ig-officer")), &v1.ExportObjectionsRequest{Format: format, Reason: "a trial of the validator"})
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("exporting: %v", err)
			}
			text.Write(m.GetData())
		}
		resources := [][]byte{text.Bytes()}
		if format == v1.ListFormat_LIST_FORMAT_NDJSON {
			resources = bytes.Split(bytes.TrimSpace(text.Bytes()), []byte{'\n'})
			exported = len(resources)
		}
		for i, r := range resources {
			if _, err := v.UnmarshalR4(r); err != nil {
				t.Errorf("%s, %d: the validator rejects it: %s", format, i+1, where(err))
			}
		}
	}
	t.Logf("%d Consents of the gateway, %d of an export and %d published ones accepted", len(bundle.Entry), exported, len(published))
}
