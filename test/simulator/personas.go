package simulator

// Audience is the aud of the tokens that the demo's issuer signs.
const Audience = "https://mycarerecord.example/demo"

// EngineClient is the client_id of the engine that the issuer knows, and EngineODS the organisation for which it may name people.
const (
	EngineClient = "demo-engine"
	EngineODS    = "X9B01"
)

// Persona is somebody invented who can ask for a token.
type Persona struct {
	Name         string // as=
	Kind         string // staff, person or system
	Display      string // the name in the token; "" for person and system
	Title        string // what they are, for people
	User         string // SDS user id, or the subject
	RoleProfile  string // SDS role profile id; "" for no role
	Organisation string // ODS code
	JobRole      string // R code
	Role         string // its name
	Client       string // client_id: the system that they use
	Purpose      string // the purpose of use that fits what they do
}

// The kinds of persona.
const (
	KindStaff  = "staff"
	KindPerson = "person"
	KindSystem = "system"
)

// Personas lists all of them. Job role codes are those of the demo's policy table.
func Personas() []Persona {
	const epr = "demo-epr"
	return []Persona{
		{"gp", KindStaff, "Dr Rosalind Hartwell", "GP at Rivermead Surgery", "555000000101", "555000010101", "X9A01", "R0260", "General Medical Practitioner", epr, "TREAT"},
		{"ed-doctor", KindStaff, "Dr Kofi Asante-Lloyd", "emergency department doctor", "555000000102", "555000010102", "X9B01", "R8000", "Clinical Practitioner Access Role", epr, "ETREAT"},
		{"mh-nurse", KindStaff, "Bronwen Tregarth", "mental health nurse", "555000000103", "555000010103", "X9C01", "R8001", "Nurse Access Role", epr, "TREAT"},
		{"social-worker", KindStaff, "Farida Quayle", "social worker at the county council", "555000000104", "555000010104", "X9E01", "R8003", "Health Professional Access Role", epr, "TREAT"},
		{"pharmacist", KindStaff, "Lucian Oyelaran", "community pharmacist", "555000000105", "555000010105", "X9G01", "R1290", "Pharmacist", epr, "TREAT"},
		{"front-desk", KindStaff, "Maureen Pickersgill", "receptionist at Rivermead Surgery", "555000000106", "555000010106", "X9A01", "R8010", "Medical Secretary Access Role", epr, ""},
		{"ig-officer", KindStaff, "Tobias Ravenscroft", "information governance officer of the acute trust", "555000000107", "555000010107", "X9B01", "R8024", "Information Officer Access Role", "demo-console", ""},
		{"engine", KindSystem, "", "integration engine of the acute trust", EngineClient, "", EngineODS, "", "", EngineClient, "TREAT"},
		{"patient", KindPerson, "", "the person themselves (give nhs_number)", "", "", "", "", "", "demo-app", "PATRQT"},
		{"stranger", KindStaff, "Nobody Inparticular", "a member of staff without a role", "555000000199", "", "", "", "", epr, ""},
	}
}

// persona finds one by name.
func persona(name string) (Persona, bool) {
	for _, p := range Personas() {
		if p.Name == name {
			return p, true
		}
	}
	return Persona{}, false
}
