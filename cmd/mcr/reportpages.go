package main

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"

	"github.com/go-pdf/fpdf"
)

// The page is one file that needs nothing else: no script, no address outside itself.
var reportPage = template.Must(template.New("report").Parse(`<!DOCTYPE html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{.Title}}</title>
<style>
body{font:1.05rem/1.5 Arial,Helvetica,sans-serif;color:#212b32;max-width:50rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.8rem;line-height:1.2}h2{margin-top:2.5rem;border-bottom:2px solid #005eb8}
.one{border:1px solid #aeb7bd;border-radius:4px;padding:.8rem 1rem;margin:1rem 0;break-inside:avoid}
.one h3{margin:0 0 .3rem;font-size:1.1rem}.urgent{border-left:8px solid #d5281b}
dl{display:grid;grid-template-columns:9.5rem 1fr;gap:.1rem 1rem;margin:.5rem 0}dt{font-weight:bold}dd{margin:0}
dd ul{margin:0;padding-left:1.1rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .75rem .3rem 0;border-bottom:1px solid #d8dde0;vertical-align:top}td.n,th.n{text-align:right}@media (min-width:36rem){td.d{white-space:nowrap}}
@media (max-width:36rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}
@media print{body{margin:0;max-width:none}h2,h3{break-after:avoid}}
code{font-size:.75rem;overflow-wrap:anywhere}
</style>
</head>
<body>
<h1>{{.Title}}</h1>
<p>NHS number {{.About}}. Made on {{.Made}}.{{if .From}} From {{.From}}.{{end}}{{if .Until}} Until {{.Until}}.{{end}}</p>
<p>This report covers {{.Covers}}{{if .Numbers}} {{.Numbers}}{{end}}{{if .Names}} {{.Names}}{{end}}</p>
<p>{{range .Summary}}{{.}} {{end}}</p>
{{if .InShort}}<table>
<tr><th scope="col">Who</th><th scope="col">Where from</th><th scope="col" class="n">Times</th><th scope="col">First</th><th scope="col">Last</th></tr>
{{range .InShort}}<tr><td>{{.Who}}</td><td>{{.Organisation}}</td><td class="n">{{.Times}}</td><td class="d">{{.First}}</td><td class="d">{{.Last}}</td></tr>
{{end}}</table>{{end}}
{{define "accesses"}}{{range .}}<div class="one{{if .Emergency}} urgent{{end}}">
<h3>{{.When}}</h3>
<dl><dt>Who</dt><dd>{{if .Name}}{{.Name}}, {{end}}{{.Role}}</dd>
<dt>Where from</dt><dd>{{.Organisation}}</dd>
{{if .Why}}<dt>Why</dt><dd>{{.Why}}</dd>
{{end}}{{if .Emergency}}<dt>Emergency</dt><dd>{{.Emergency}} {{.Review}}</dd>{{end}}
<dt>What happened</dt><dd>{{.Ended}}</dd>
{{if .Parts}}<dt>Shown</dt><dd><ul>{{range .Parts}}<li><strong>{{.Of}}</strong>: {{.Kinds}} ({{.Count}} {{if eq .Count 1}}entry{{else}}entries{{end}})</li>{{end}}</ul></dd>{{end}}
<dt>Receipt</dt><dd><code>{{.Receipt}}</code></dd></dl></div>
{{else}}<p>None.</p>{{end}}{{end}}
{{define "choices"}}{{range .}}<div class="one"><h3>{{.When}}</h3><p>{{.What}}{{if .Times}} ({{.Times}} times){{end}}</p><p>By: {{.By}}</p>{{if .Receipt}}<p>Receipt <code>{{.Receipt}}</code></p>{{end}}</div>{{else}}<p>None.</p>{{end}}{{end}}
<h2>Who opened your record</h2>
{{template "accesses" .Looked}}
<h2>Requests that were refused</h2>
{{template "accesses" .Refused}}
<h2>Your carers</h2>
{{template "accesses" .Carers}}
<h2>When you looked yourself</h2>
{{template "accesses" .Own}}
<h2>Your choices, and who recorded them</h2>
{{template "choices" .Choices}}
<h2>Who asked who had looked</h2>
{{template "choices" .Asked}}
<h2>How to check this report</h2>
{{range .HowCheck}}<p>{{.}}</p>{{end}}
<p>The ledger is called {{.Ledger}}{{if .Entries}} and held {{.Entries}} entries when this was made{{end}}.</p>
</body>
</html>
`))

func reportHTML(r *toldPerson) ([]byte, error) {
	var b bytes.Buffer
	if err := reportPage.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("filling the page: %w", err)
	}
	return b.Bytes(), nil
}

// reportPDF writes the same on paper of A4.
func reportPDF(r *toldPerson) ([]byte, error) {
	const width, margin, line, labels = 0.0, 18.0, 5.2, 32.0 // millimetres; a width of 0 reaches to the margin
	p := fpdf.New("P", "mm", "A4", "")
	latin := p.UnicodeTranslatorFromDescriptor("") // the fonts that every reader has know Latin letters only; others become a full stop
	p.SetTitle(r.Title, true)
	p.SetLang("en-GB")
	p.SetMargins(margin, margin, margin)
	p.SetAutoPageBreak(true, margin)
	p.AliasNbPages("{pages}")
	p.SetFooterFunc(func() {
		p.SetY(-12)
		p.SetFont("Helvetica", "", 8)
		p.CellFormat(0, 5, fmt.Sprintf("Page %d of {pages}", p.PageNo()), "", 0, "C", false, 0, "")
	})
	p.AddPage()
	text := func(style string, size float64, s string) {
		p.SetFont("Helvetica", style, size)
		p.MultiCell(width, line*size/10.5, latin(s), "", "L", false)
	}
	// keep begins a new page where what comes next, so many lines of it, would be torn apart; of what is long only its beginning is kept together, or pages would stand half empty.
	keep := func(lines float64) {
		if lines > 14 {
			lines = 7
		}
		if _, height := p.GetPageSize(); height-margin-p.GetY() < lines*line {
			p.AddPage()
		}
	}
	lines := func(width float64, s string) float64 {
		if s == "" {
			return 0
		}
		p.SetFont("Helvetica", "", 10)
		return float64(max(1, len(p.SplitLines([]byte(latin(s)), width))))
	}
	head := func(s string) {
		keep(8)
		p.Ln(4)
		text("B", 13, s)
		p.Ln(1)
	}
	field := func(label, s string) {
		if s == "" {
			return
		}
		p.SetFont("Helvetica", "B", 10)
		p.CellFormat(labels, line, latin(label), "", 0, "L", false, 0, "")
		p.SetFont("Helvetica", "", 10)
		p.MultiCell(width, line, latin(s), "", "L", false)
	}
	text("B", 18, r.Title)
	p.Ln(2)
	text("", 10.5, "NHS number "+r.About+". Made on "+r.Made+".")
	if r.From != "" || r.Until != "" {
		text("", 10.5, "From "+nameOr(r.From, "the beginning")+" until "+nameOr(r.Until, "now")+".")
	}
	text("", 10.5, "This report covers "+r.Covers)
	for _, s := range []string{r.Numbers, r.Names} {
		if s != "" {
			text("", 10.5, s)
		}
	}
	for _, s := range r.Summary {
		text("B", 10.5, s)
	}
	if len(r.InShort) > 0 {
		p.Ln(3)
		columns := []float64{53, 57, 14, 25, 25}
		row := func(style string, cells ...string) {
			p.SetFont("Helvetica", style, 9)
			most := 1
			split := make([][][]byte, len(cells))
			for i, s := range cells {
				split[i] = p.SplitLines([]byte(latin(s)), columns[i]-2)
				most = max(most, len(split[i]))
			}
			keep(float64(most) * 4.4 / line)
			x, y := p.GetXY()
			for i := range cells {
				for j, s := range split[i] {
					p.SetXY(x, y+4.4*float64(j))
					p.CellFormat(columns[i], 4.4, string(s), "", 0, "L", false, 0, "")
				}
				x += columns[i]
			}
			p.SetXY(margin, y+4.4*float64(most)+0.8)
		}
		row("B", "Who", "Where from", "Times", "First", "Last")
		for _, w := range r.InShort {
			row("", w.Who, w.Organisation, fmt.Sprint(w.Times), w.First, w.Last)
		}
	}
	accesses := func(title string, list []reportAccess) {
		head(title)
		if len(list) == 0 {
			text("", 10.5, "None.")
		}
		for _, x := range list {
			who := x.Role
			if x.Name != "" {
				who = x.Name + ", " + x.Role
			}
			var shown []string
			for _, part := range x.Parts {
				shown = append(shown, fmt.Sprintf("%s: %s (%s)", part.Of, part.Kinds, count(int(part.Count), "entry")))
			}
			tall := 3.0 // when, and the receipt
			for _, s := range append([]string{who, x.Organisation, x.Why, x.Ended, strings.TrimSpace(x.Emergency + " " + x.Review)}, shown...) {
				tall += lines(174-labels, s)
			}
			keep(tall)
			text("B", 10.5, x.When)
			field("Who", who)
			field("Where from", x.Organisation)
			field("Why", x.Why)
			if x.Emergency != "" {
				field("Emergency", x.Emergency+" "+x.Review)
			}
			field("What happened", x.Ended)
			for i, s := range shown {
				field(map[bool]string{true: "Shown", false: ""}[i == 0], s)
			}
			p.SetFont("Courier", "", 7)
			p.MultiCell(width, 3.6, "Receipt "+x.Receipt, "", "L", false)
			p.Ln(3)
		}
	}
	choices := func(title string, list []reportChoice) {
		head(title)
		if len(list) == 0 {
			text("", 10.5, "None.")
		}
		for _, x := range list {
			keep(3 + lines(174, x.What))
			text("B", 10.5, x.When)
			what := x.What
			if x.Times > 0 {
				what += fmt.Sprintf(" (%d times)", x.Times)
			}
			text("", 10.5, what)
			text("", 10.5, "By: "+x.By)
			if x.Receipt != "" {
				p.SetFont("Courier", "", 7)
				p.MultiCell(width, 3.6, "Receipt "+x.Receipt, "", "L", false)
			}
			p.Ln(2)
		}
	}
	accesses("Who opened your record", r.Looked)
	accesses("Requests that were refused", r.Refused)
	accesses("Your carers", r.Carers)
	accesses("When you looked yourself", r.Own)
	choices("Your choices, and who recorded them", r.Choices)
	choices("Who asked who had looked", r.Asked)
	head("How to check this report")
	for _, s := range r.HowCheck {
		text("", 10.5, s)
		p.Ln(1)
	}
	text("", 10.5, fmt.Sprintf("The ledger is called %s and held %d entries when this was made.", r.Ledger, r.Entries))
	var b bytes.Buffer
	if err := p.Output(&b); err != nil {
		return nil, fmt.Errorf("making the PDF: %w", err)
	}
	return b.Bytes(), nil
}
