package simulator_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/simulator"
)

const engineMan = "9990000034"

func engine(t *testing.T, change ...func(*simulator.EngineConfig)) (*simulator.Engine, net.Conn) {
	t.Helper()
	cfg := simulator.EngineConfig{PageSize: 2, People: map[string][]json.RawMessage{engineMan: {
		json.RawMessage(`{"resourceType":"Patient","id":"p1","name":[{"family":"O|Neill","given":["Ann"]}],"birthDate":"1950-01-02"}`),
		json.RawMessage(`{"resourceType":"Encounter","id":"e1","status":"finished","class":{"code":"EMER"},"period":{"start":"2024-03-01T10:00:00+00:00"}}`),
		json.RawMessage(`{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"Hb"},"effectiveDateTime":"2024-03-01","valueQuantity":{"value":1.50,"unit":"10^9/L"}}`),
		json.RawMessage(`{"resourceType":"Observation","id":"o2","status":"final","code":{"text":"TSH"},"valueQuantity":{"value":0.01,"comparator":"<"}}`),
		json.RawMessage(`{"resourceType":"Observation","id":"o3","status":"final","code":{"text":"Film"},"valueString":"Normal"}`),
		json.RawMessage(`{"resourceType":"AllergyIntolerance","id":"a1","category":["food"]}`),
	}}}
	for _, f := range change {
		f(&cfg)
	}
	e, err := simulator.NewEngine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.ServeMLLP(ln)
	t.Cleanup(e.Close)
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return e, conn
}

// say sends bytes and returns the answer's message, "" if the connection ends instead.
func say(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte(text)); err != nil {
		return ""
	}
	r := bufio.NewReader(conn)
	out, err := r.ReadString(0x1c)
	if err != nil {
		return ""
	}
	if c, err := r.ReadByte(); err != nil || c != '\r' || out[0] != 0x0b {
		t.Fatal("the answer is no MLLP")
	}
	return strings.Trim(out, "\x0b\x1c")
}

const (
	qMSH = `MSH|^~\&|ASKER|X9Z01|||20260101120000+0000||QBP^Q11^QBP_Q11|C1|P|2.5.1|||||GBR|UNICODE UTF-8` + "\r"
	qQPD = "QPD|" + simulator.QueryResults + "|T1|" + engineMan + "^^^NHS^NH\r"
	qRCP = "RCP|I|50^RD\r"
)

func inBlock(text string) string { return "\x0b" + text + "\x1c\r" }

// A good query is answered in pages, and the pieces say what they must.
func TestEngineAnswers(t *testing.T) {
	e, conn := engine(t)
	first := say(t, conn, inBlock(qMSH+qQPD+qRCP))
	for _, want := range []string{"|RSP^K11^RSP_K11|", "\rMSA|AA|C1\r", "\rQAK|T1|OK|" + simulator.QueryResults + "|3|2|1\r", "\r" + strings.TrimSuffix(qQPD, "\r") + "\r",
		"\rPID|1||" + engineMan + `^^^NHS^NH~p1^^^X9B01^MR||O\F\Neill^Ann||19500102`, "|NM|^Hb^^^^^^^Hb||1.50|10\\S\\9/L|", "|SN|^TSH^^^^^^^TSH||<^0.01|", "\rDSC|"} {
		if !strings.Contains(first, want) {
			t.Errorf("the answer does not have %q", want)
		}
	}
	_, dsc, _ := strings.Cut(first, "\rDSC|")
	pointer, _, _ := strings.Cut(dsc, "|")
	second := say(t, conn, inBlock(strings.Replace(qMSH, "|C1|", "|C2|", 1)+qQPD+qRCP+"DSC|"+pointer+"|I\r"))
	if !strings.Contains(second, "|TX|") || strings.Contains(second, "DSC|") || !strings.Contains(second, "|3|1|0\r") {
		t.Error("the second page is not the last")
	}
	if got := e.Requests(); got != (simulator.Counts{Record: 2}) || e.LeftOut()["AllergyIntolerance"] != 1 {
		t.Errorf("counted %+v, left out %v", got, e.LeftOut())
	}
	if none := say(t, conn, inBlock(strings.Replace(qMSH, "|C1|", "|C3|", 1)+strings.Replace(qQPD, engineMan, "9990000050", 1)+qRCP)); !strings.Contains(none, "|NF|") || strings.Contains(none, "PID|") {
		t.Error("somebody unknown is not NF")
	}
}

// What a strict engine refuses, with the standard's code; what is no MLLP ends the connection.
func TestEngineRefuses(t *testing.T) {
	swap := func(from, to string) string {
		all := qMSH + qQPD + qRCP
		if !strings.Contains(all, from) {
			t.Fatal("nothing to swap: the case would be a good question")
		}
		return inBlock(strings.Replace(all, from, to, 1))
	}
	for name, c := range map[string]struct{ text, want string }{
		"no block":                  {qMSH + qQPD + qRCP, ""},
		"two starts":                {"\x0b" + inBlock(qMSH+qQPD+qRCP), ""},
		"no carriage return":        {"\x0b" + qMSH + "\x1cX", ""},
		"a message of another kind": {swap("QBP^Q11^QBP_Q11", "ADT^A01^ADT_A01"), "MSA|AR|C1\rERR||MSH^1^9|200^"},
		"another event":             {swap("QBP^Q11^QBP_Q11", "QBP^Q22^QBP_Q21"), "|201^"},
		"no structure":              {swap("QBP^Q11^QBP_Q11", "QBP^Q11"), "|102^"},
		"no control id":             {swap("|C1|", "||"), "|101^"},
		"a long control id":         {swap("|C1|", "|123456789012345678901|"), "|104^"},
		"another processing id":     {swap("|P|2.5.1", "|X|2.5.1"), "|202^"},
		"another version":           {swap("|2.5.1|", "|2.1|"), "|203^"},
		"no time":                   {swap("|20260101120000+0000|", "||"), "|101^"},
		"no sender":                 {swap("|ASKER|", "||"), "MSH^1^3|103^"},
		"enhanced mode":             {swap("|2.5.1|||||GBR", "|2.5.1|||AL|AL|GBR"), "|207^"},
		"a line feed":               {swap("\rQPD", "\nQPD"), "|100^"},
		"no QPD":                    {inBlock(qMSH + qRCP), "|100^"},
		"no RCP":                    {inBlock(qMSH + qQPD), "|100^"},
		"not closed":                {inBlock(qMSH + qQPD + strings.TrimSuffix(qRCP, "\r")), "|100^"},
		"another query":             {swap("Z71", "Z99"), "QPD^1^1|103^"},
		"no tag":                    {swap("|T1|", "||"), "QPD^1^2|101^"},
		"no authority":              {swap("^^^NHS^NH", ""), "QPD^1^3|102^"},
		"a wrong check digit":       {swap(engineMan, "9990000035"), "QPD^1^3|102^"},
		"deferred":                  {swap("RCP|I", "RCP|D"), "RCP^1^1|103^"},
		"no quantity":               {swap("|50^RD", "|"), "RCP^1^2|102^"},
		"a segment too many":        {inBlock(qMSH + qQPD + qRCP + "PID|1\r"), "DSC^1|100^"},
		"a pointer of nobody's":     {inBlock(qMSH + qQPD + qRCP + "DSC|x|I\r"), "DSC^1^1|204^"},
	} {
		t.Run(name, func(t *testing.T) {
			_, conn := engine(t)
			got := say(t, conn, c.text)
			if c.want == "" && got != "" || !strings.Contains(got, c.want) || strings.Contains(got, "PID|") {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}

// A control id is for one message.
func TestEngineControlIDs(t *testing.T) {
	_, conn := engine(t)
	if got := say(t, conn, inBlock(qMSH+qQPD+qRCP)); !strings.Contains(got, "MSA|AA|") {
		t.Fatal("a good query is refused")
	}
	if got := say(t, conn, inBlock(qMSH+qQPD+qRCP)); !strings.Contains(got, "|205^") {
		t.Error("the same control id is taken twice")
	}
}

// An engine that knows its senders refuses others.
func TestEngineSenders(t *testing.T) {
	_, conn := engine(t, func(c *simulator.EngineConfig) { c.Senders = []string{"SOMEBODY"} })
	if got := say(t, conn, inBlock(qMSH+qQPD+qRCP)); !strings.Contains(got, "MSH^1^3|103^") {
		t.Error("any sender is taken")
	}
}

// The control surface is the same as every simulator's.
func TestEngineControlSurface(t *testing.T) {
	e, conn := engine(t)
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	if status, text := set(t, s.URL, `{"fault":"no-record","after":0,"ms":0}`); status != http.StatusOK {
		t.Fatalf("got %d %s", status, text)
	}
	if got := say(t, conn, inBlock(qMSH+qQPD+qRCP)); !strings.Contains(got, "|NF|") {
		t.Error("the fault does not befall it")
	}
	for _, fault := range []string{"gzip-bomb", "deep", "throttle429", "page-elsewhere"} {
		if status, _ := set(t, s.URL, `{"fault":"`+fault+`","after":0,"ms":0}`); status != http.StatusBadRequest {
			t.Errorf("%s is taken: HL7 v2 cannot have it", fault)
		}
	}
	resp, err := http.Get(s.URL + "/_sim/requests") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var c simulator.Counts
	if json.NewDecoder(resp.Body).Decode(&c) != nil || c.Record != 1 {
		t.Errorf("counted %+v", c)
	}
}
