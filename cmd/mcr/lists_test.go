package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// said is what the broker says of a list: two rows of three refused.
func said(outcome v1.ImportOutcome) []*v1.ImportObjectionsResponse {
	return []*v1.ImportObjectionsResponse{
		{Message: &v1.ImportObjectionsResponse_Progress{Progress: &v1.ImportProgress{Stage: v1.ImportStage_IMPORT_STAGE_CHECKING, Done: 1, Of: 3}}},
		{Message: &v1.ImportObjectionsResponse_Rows{Rows: &v1.RowReports{Rows: []*v1.RowReport{{Row: 1, Verdict: v1.RowVerdict_ROW_VERDICT_NEW, Untraced: true}, {Row: 2, Verdict: v1.RowVerdict_ROW_VERDICT_REFUSED,
			Problems: []*v1.RowProblem{{Field: "nhs_number", Want: "ten \"digits\"\x1b[2J"}, {Field: "method", Want: "form, phone"}}}, {Row: 3, Verdict: v1.RowVerdict_ROW_VERDICT_PRESENT}}}}},
		{Message: &v1.ImportObjectionsResponse_Summary{Summary: &v1.ImportSummary{Outcome: outcome, Rows: 198_003, NewRows: 198_001, Present: 1, Refused: 1, Untraced: 1, Receipt: receipt()}}}}
}

func TestConsentImport(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	path := filepath.Join(t.TempDir(), "list.csv")
	text := strings.Repeat("nhs_number,birth_date\n", 10_000)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, c := range []struct {
		outcome v1.ImportOutcome
		code    int
	}{{v1.ImportOutcome_IMPORT_OUTCOME_APPLIED, exitDone}, {v1.ImportOutcome_IMPORT_OUTCOME_CHECKED, exitDone}, {v1.ImportOutcome_IMPORT_OUTCOME_REFUSED, exitRefused}} {
		d.broker.imported = said(c.outcome)
		code, out, errs := d.do(t, "consent", "import", path, "-reason", "the region's list", "-dry-run", "-leave-out", "-accept-untraced")
		if code != c.code || errs != "" {
			t.Errorf("%s: got exit code %d, %q", c.outcome, code, errs)
		}
		all.WriteString("-- " + c.outcome.String() + "\n" + out)
		h, ok := d.broker.asked.(*v1.ImportHeader)
		if !ok || h.GetFormat() != v1.ListFormat_LIST_FORMAT_CSV || !h.GetDryRun() || !h.GetLeaveOut() || !h.GetAcceptUntraced() || h.GetReason() != "the region's list" || d.broker.listed != text {
			t.Error("the list is not as it was given")
		}
	}
	d.broker.imported = said(v1.ImportOutcome_IMPORT_OUTCOME_APPLIED)
	d.broker.imported[2].GetSummary().NewRows = 0
	_, out, _ := d.do(t, "consent", "import", path, "-reason", "r")
	golden(t, "import.golden", all.String()+"-- again\n"+out)

	report := filepath.Join(t.TempDir(), "report.csv")
	if code, out, _ := d.do(t, "consent", "import", path, "-reason", "r", "-report", report, "-o", "json"); code != exitDone || !strings.Contains(out, `"IMPORT_OUTCOME_APPLIED"`) {
		t.Errorf("got exit code %d, %q", code, out)
	}
	got, err := os.ReadFile(report)
	want := "row,verdict,untraced,field,want\r\n1,new,true,\"\",\"\"\r\n2,refused,false,\"nhs_number\",\"ten \"\"digits\"\"\uFFFD[2J\"\r\n2,refused,false,\"method\",\"form, phone\"\r\n3,present,false,\"\",\"\"\r\n"
	if err != nil || string(got) != want {
		t.Errorf("the report is %q (%v)", got, err)
	}
	if code, _, errs := d.do(t, "consent", "import", path, "-reason", "r", "-report", report); code != exitUse || !strings.Contains(errs, "-report") {
		t.Errorf("a report that is there already: %d, %q", code, errs)
	}
	// Many refused rows do not flood a terminal.
	many := &v1.RowReports{}
	for range 1000 {
		many.Rows = append(many.Rows, &v1.RowReport{Row: 7, Verdict: v1.RowVerdict_ROW_VERDICT_REFUSED, Problems: []*v1.RowProblem{{Field: "scope", Want: "all"}}})
	}
	d.broker.imported[1].Message = &v1.ImportObjectionsResponse_Rows{Rows: many}
	if _, out, _ := d.do(t, "consent", "import", path, "-reason", "r"); strings.Count(out, "row 7, scope") != shownRows || !strings.Contains(out, "and 980 more rows") {
		t.Errorf("%d refused rows are shown", strings.Count(out, "row 7, scope"))
	}
}

func TestConsentImportThatGoesWrong(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	path := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {path}, {path, "-format", "xml", "-reason", "r"}, {path, "-format", "csv"}, {path, "-format", "csv", "-reason", " "}, {path + ".csv", "-reason", "r"},
		{path, "-format", "csv", "-reason", "r", "-o", "xml"}} {
		if code, _, errs := d.do(t, append([]string{"consent", "import"}, args...)...); code != exitUse || errs == "" {
			t.Errorf("%v: got exit code %d, %q", args, code, errs)
		}
	}
	if d.broker.asked != nil {
		t.Error("the broker was asked")
	}
	if code, _, errs := d.do(t, "consent", "import", path, "-format", "csv", "-reason", "r"); code != exitFault || !strings.Contains(errs, "last word") {
		t.Errorf("a stream without a summary: %d, %q", code, errs)
	}
	d.broker.err = status.Error(codes.PermissionDenied, "x")
	if code, _, _ := d.do(t, "consent", "import", path, "-format", "ndjson", "-reason", "r"); code != exitRefused {
		t.Errorf("refused: got exit code %d", code)
	}
	d.broker.err = nil
	d.in = io.MultiReader(strings.NewReader(strings.Repeat("x", 100)), brokenReader{})
	if code, _, errs := d.do(t, "consent", "import", "-", "-format", "csv", "-reason", "r"); code != exitFault || !strings.Contains(errs, "read to its end") {
		t.Errorf("a list that breaks off: %d, %q", code, errs)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestConsentExport(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	dir := t.TempDir()
	path := filepath.Join(dir, "list.ndjson")
	d.broker.exported = []*v1.ExportObjectionsResponse{{Data: []byte("one\n"), Objections: 1, Receipt: receipt()}, {Data: []byte("two\n"), Objections: 2, Untraced: 1, Receipt: receipt(), Last: true}}
	code, out, errs := d.do(t, "consent", "export", path, "-reason", "a move", "-no-birth-dates")
	if in, ok := d.broker.asked.(*v1.ExportObjectionsRequest); code != exitDone || errs != "" || !ok || in.GetFormat() != v1.ListFormat_LIST_FORMAT_NDJSON || in.GetReason() != "a move" || !in.GetWithoutBirthDates() {
		t.Fatalf("got exit code %d, %q", code, errs)
	}
	if !strings.Contains(out, "2 objections") || !strings.Contains(out, "1 of them have no date of birth") || !strings.Contains(out, "entry 812") {
		t.Errorf("it says %q", out)
	}
	text, err := os.ReadFile(path)
	if info, _ := os.Stat(path); err != nil || string(text) != "one\ntwo\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("the file holds %q (%v)", text, err)
	}
	if code, out, _ := d.do(t, "consent", "export", "-", "-format", "csv", "-reason", "a move"); code != exitDone || out != "one\ntwo\n" {
		t.Errorf("to standard output: %d, %q", code, out)
	}
	if code, _, errs := d.do(t, "consent", "export", path, "-reason", "a move"); code != exitUse || !strings.Contains(errs, "there already") {
		t.Errorf("over a file: %d, %q", code, errs)
	}
	d.broker.exported = d.broker.exported[:1]
	if code, _, errs := d.do(t, "consent", "export", filepath.Join(dir, "cut.csv"), "-reason", "a move"); code != exitFault || !strings.Contains(errs, "not whole") {
		t.Errorf("a list that breaks off: %d, %q", code, errs)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("%d files are left, want the one list", len(left))
	}
	if code, _, _ := d.do(t, "consent", "export", filepath.Join(dir, "x.csv")); code != exitUse {
		t.Errorf("without a reason: %d", code)
	}
}
