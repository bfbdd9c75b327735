package cohort

// Manifest says which resource of a set of whole-patient bundles went to which custodian. It holds no content: types, ids and
// SHA-256 digests. Written as JSON, it is what an answer of the broker can be compared with.
type Manifest struct {
	About  string           `json:"about"`  // how to read it
	Source string           `json:"source"` // name of the folder
	People []ManifestPerson `json:"people"` // in the order of the file names
}

// ManifestPerson is one Bundle. Its resources are all accounted for:
// Input = 1 (the Patient) + clinical ones at custodians + shared ones of the Bundle at custodians, each counted once + LeftOut + Unreferenced.
type ManifestPerson struct {
	NHSNumber     string                       `json:"nhsNumber"`
	Bundle        string                       `json:"bundle"`        // file name
	SourcePatient string                       `json:"sourcePatient"` // the Patient's id in the file
	Input         int                          `json:"input"`         // resources in the file
	Custodians    map[string]ManifestCustodian `json:"custodians"`    // by custodian key; who is not here holds nothing of this person
	LeftOut       map[string]int               `json:"leftOut"`       // financial resources, by type
	Unreferenced  []string                     `json:"unreferenced"`  // Type/id of shared resources that nothing kept refers to
}

// ManifestCustodian is what one custodian was given about one person.
type ManifestCustodian struct {
	Patient   string             `json:"patient"`   // id of the Patient there
	Resources []ManifestResource `json:"resources"` // in the order given, the Patient first; each Type/id once
}

// ManifestResource is one resource as it was given.
type ManifestResource struct {
	Type   string `json:"type"`
	ID     string `json:"id"`
	SHA256 string `json:"sha256"` // of the bytes that the custodian serves, in hexadecimal
}

const aboutManifest = "Which resource of each whole-patient bundle went to which custodian. Clinical resources stand at exactly one custodian; " +
	"the Patient stands at every custodian that holds anything, under its own id and with the NHS number added; Practitioner, PractitionerRole, " +
	"Organization, Location and Medication stand at every custodian whose resources refer to them. leftOut counts financial resources " +
	"(Claim, ClaimResponse, ExplanationOfBenefit, Coverage). unreferenced lists shared resources that nothing refers to once those are gone. " +
	"sha256 is of the bytes that the custodian serves. People who have died are reported as living by the demographics service, so that all can be asked for."
