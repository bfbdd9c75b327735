package hl7v2

// The tables of this file say what a code of a message means in FHIR. What is not listed is not guessed: the element says unknown, and the code
// stands beside it as it came.

// resultStatus is HL7 table 0085, OBX-11, as a FHIR Observation status (hl7.org/fhir/R4/valueset-observation-status.html). Left out on purpose: N
// (not asked) and O (order detail only), which are no result, and V (verified), which does not say whether anything is still to come.
var resultStatus = map[string]string{
	"A": "amended",
	"B": "amended", // appended: new information after final, which is what amended says
	"C": "corrected",
	"D": "entered-in-error", // deletes
	"F": "final",
	"I": "registered",       // specimen in the laboratory, result pending
	"P": "preliminary",      //
	"R": "preliminary",      // entered, not verified
	"S": "preliminary",      // partial
	"U": "final",            // became final without being sent again
	"W": "entered-in-error", // posted as wrong, e.g. for the wrong patient
	"X": "cancelled",        // cannot be obtained
}

// reportStatus is HL7 table 0123, OBR-25, as a FHIR DiagnosticReport status. Left out on purpose: M (corrected, not final) and N (procedure
// completed, results pending), for which FHIR has no word; Y and Z are no report at all, see noReport.
var reportStatus = map[string]string{
	"A": "partial", // some results available
	"C": "corrected",
	"F": "final",
	"I": "registered", // specimen received, procedure incomplete
	"O": "registered", // order received
	"P": "preliminary",
	"R": "preliminary", // stored, not verified
	"S": "registered",  // scheduled
	"X": "cancelled",
}

// noReport are the values of OBR-25 that say, in answer to a query, that there is nothing: no such order, no such patient.
var noReport = map[string]bool{"Y": true, "Z": true}

// sections is HL7 table 0074, OBR-24, as far as FHIR's observation categories have a word for it.
var sections = map[string]string{
	"BG": "laboratory", "BLB": "laboratory", "CH": "laboratory", "CP": "laboratory", "HM": "laboratory", "IMM": "laboratory", "LAB": "laboratory",
	"MB": "laboratory", "MCB": "laboratory", "MYC": "laboratory", "SP": "laboratory", "SR": "laboratory", "TX": "laboratory", "VR": "laboratory",
	"GE": "laboratory", "OSL": "laboratory", "PAR": "laboratory", "PAT": "laboratory",
	"CT": "imaging", "IMG": "imaging", "CUS": "imaging", "NMR": "imaging", "NMS": "imaging", "OUS": "imaging", "RAD": "imaging", "RUS": "imaging", "RX": "imaging",
	"VUS": "imaging", "XRC": "imaging",
}

// flags are the codes of HL7 table 0078, OBX-8, that are codes of v3 ObservationInterpretation with the same meaning.
var flags = set("A AA B CAR D DET E EX EXP H HH HU HX I IE IND L LL LU LX N ND NEG NR NS POS R RR S SDD SYN-R SYN-S TOX U W WR < >")

const flagSystem = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"

// genders is HL7 table 0001, PID-8. A (ambiguous) and N (not applicable) have no counterpart.
var genders = map[string]string{"F": "female", "M": "male", "O": "other", "U": "unknown"}

// classes is HL7 table 0004, PV1-2, as v3 ActCode.
var classes = map[string]string{"E": "EMER", "I": "IMP", "O": "AMB", "P": "PRENC"}

// movements say what an event of a message about a visit (EVN-1, or the trigger of MSH-9) makes of the visit's status.
var movements = map[string]string{
	"A01": "in-progress", "A02": "in-progress", "A04": "in-progress", "A06": "in-progress", "A07": "in-progress", "A13": "in-progress",
	"A03": "finished", "A05": "planned", "A14": "planned", "A15": "in-progress", "A16": "in-progress",
	"A11": "cancelled", "A27": "cancelled", "A38": "cancelled",
}

// availability is HL7 table 0273, TXA-19, as a DocumentReference status. UN (unavailable) has no counterpart.
var availability = map[string]string{"AV": "current", "CA": "entered-in-error", "OB": "superseded"}

// completion is HL7 table 0271, TXA-17, as a Composition status.
var completion = map[string]string{"AU": "final", "LA": "final", "DI": "preliminary", "DO": "preliminary", "IN": "preliminary", "IP": "preliminary", "PA": "preliminary"}

// confidentiality is HL7 table 0272, TXA-18, as v3 Confidentiality.
var confidentiality = map[string]string{"R": "R", "U": "N", "V": "V"}

// numberStatus is PID-32 of the NHS: NSTS and the NHS number status indicator code (ITK HL7 v2 message specification, table 0445).
var numberStatus = map[string]string{
	"NSTS01": "01", "NSTS02": "02", "NSTS03": "03", "NSTS04": "04", "NSTS05": "05", "NSTS06": "06", "NSTS07": "07", "NSTS08": "08",
}

// nameUse is HL7 table 0200, XPN-7.
var nameUse = map[string]string{"D": "usual", "L": "official", "M": "maiden", "N": "nickname"}

// addressUse is HL7 table 0190, XAD-7.
var addressUse = map[string]string{"B": "work", "C": "temp", "H": "home", "L": "home", "O": "work"}

// telecomSystem is HL7 table 0202, XTN-3.
var telecomSystem = map[string]string{"BP": "pager", "CP": "phone", "FX": "fax", "Internet": "email", "PH": "phone", "SAT": "phone"}

// telecomUse is HL7 table 0201, XTN-2.
var telecomUse = map[string]string{"PRN": "home", "VHN": "home", "WPN": "work"}

// systems is HL7 table 0396 as far as an address is known for certain. SNM and its like, which is not SNOMED CT, and local names stay names.
var systems = map[string]string{
	"LN": "http://loinc.org", "SCT": "http://snomed.info/sct", "UCUM": "http://unitsofmeasure.org", "I10": "http://hl7.org/fhir/sid/icd-10",
	"CDCREC": "urn:oid:2.16.840.1.113883.6.238",
}

// issuers are the assigning authorities of professionals' numbers.
var issuers = map[string]string{
	"GMC": "https://fhir.hl7.org.uk/Id/gmc-number", "GMP": "https://fhir.hl7.org.uk/Id/gmp-number", "NMC": "https://fhir.hl7.org.uk/Id/nmc-number",
	"GPHC": "https://fhir.hl7.org.uk/Id/gphc-number", "HCPC": "https://fhir.hl7.org.uk/Id/hcpc-number",
}

// treatment says what becomes of a segment that makes no resource of its own.
type treatment uint8

const (
	unconverted treatment = iota // clinical for all we know: kept in a resource of its own, and the answer says that it is not converted
	attached                     // says more about the resource before it, and is kept there
	wrapping                     // of the message, not of the record
	financial                    // no shared care record shows it
)

// treatments lists the segments of HL7 2.8 that make no resource and are not clinical statements of their own. Those with names of the site, which
// begin with Z, are attached; every other is unconverted.
var treatments = map[string]treatment{
	"ACC": attached, "CON": attached, "CTD": attached, "CTI": attached, "DB1": attached, "EVN": attached, "NTE": attached, "ORC": attached,
	"PD1": attached, "PDA": attached, "PRT": attached, "PV2": attached, "ROL": attached, "SAC": attached, "TQ1": attached, "TQ2": attached,
	"NK1": attached, "PAC": attached,
	"BHS": wrapping, "BTS": wrapping, "FHS": wrapping, "FTS": wrapping, "MSH": wrapping, "SFT": wrapping, "UAC": wrapping,
	"ABS": financial, "ADJ": financial, "BLG": financial, "DRG": financial, "FT1": financial, "GP1": financial, "GP2": financial, "GT1": financial,
	"IN1": financial, "IN2": financial, "IN3": financial, "IVC": financial, "PMT": financial, "PSG": financial, "PSL": financial, "PSS": financial,
	"PYE": financial, "UB1": financial, "UB2": financial,
}

func treatmentOf(name string) treatment {
	if name[0] == 'Z' {
		return attached
	}
	return treatments[name]
}

func set(words string) map[string]bool {
	m := map[string]bool{}
	for start := 0; start < len(words); {
		end := start
		for end < len(words) && words[end] != ' ' {
			end++
		}
		m[words[start:end]] = true
		start = end + 1
	}
	return m
}
