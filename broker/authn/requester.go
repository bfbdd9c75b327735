package authn

import (
	"slices"
	"strconv"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Longest texts of claims, in bytes.
const (
	maxID   = 128
	maxName = 200
)

// maxRoles bounds the roles of one person.
const maxRoles = 256

// caller reads verified claims. The result's second part is the name of the check that failed, "" for none.
func (v *Verifier) caller(is *issuer, c claims) (Caller, string) {
	r := record.Requester{Issuer: is.URL}
	var ok bool
	subject, ok := c.required("sub", maxID)
	if !ok {
		return Caller{}, "subject"
	}
	if r.Client, ok = c.required("client_id", maxID); !ok {
		return Caller{}, "client"
	}
	if r.TokenID, ok = c.required("jti", maxID); !ok {
		return Caller{}, "token id"
	}
	staff := c.has("nhsid_useruid", "nhsid_nrbac_roles", "selected_roleid")
	person := c.has("vot", "vtm", "birthdate")
	var check string
	switch {
	case staff && person:
		return Caller{}, "kind" // nobody is both in one session
	case staff:
		r.Kind = record.Professional
		check = v.staff(is, c, &r)
	case person:
		r.Kind, r.User = record.Person, subject
		check = readPerson(is, c, &r)
	case subject == r.Client && !c.has("nhs_number"):
		r.Kind, r.User = record.System, subject
	default:
		check = "kind"
	}
	if check == "" && !slices.Contains(is.VouchesFor, r.Kind) {
		check = "kind"
	}
	if check != "" {
		return Caller{}, check
	}
	stated, check := readStated(c)
	if check != "" {
		return Caller{}, check
	}
	if r.Kind == record.Person {
		stated.Subject = record.NHSNumber{} // it is the person's own number there, and says nothing of the question
	}
	return Caller{Requester: r, Stated: stated}, ""
}

// staff reads the claims of CIS2. The role in use is the entry whose person_roleid is selected_roleid, and no other: rights are never
// added up over roles. A person without a selected role keeps none, and the policy gives that role nothing.
func (v *Verifier) staff(is *issuer, c claims, r *record.Requester) string {
	var ok bool
	if r.User, ok = c.required("nhsid_useruid", maxID); !ok || !isOnePerson(r.User) || r.User == r.Client {
		return "user"
	}
	if r.Name, ok = c.text("name", maxName); !ok {
		return "name"
	}
	if !level(c, "id_assurance_level", is.Identity) || !level(c, "authentication_assurance_level", is.Assurance) {
		return "assurance"
	}
	selected, ok := c.text("selected_roleid", maxID)
	if !ok {
		return "role"
	}
	var list []any
	if roles, there := c["nhsid_nrbac_roles"]; there {
		if list, ok = roles.([]any); !ok || len(list) > maxRoles {
			return "role"
		}
	}
	found := false
	for _, one := range list {
		role, ok := one.(map[string]any)
		if !ok {
			return "role"
		}
		id, ok := claims(role).required("person_roleid", maxID)
		if !ok {
			return "role"
		}
		if selected == "" || id != selected {
			continue
		}
		if found {
			return "role" // two entries with the id of the selected one: which one is in use cannot be told
		}
		found = true
		code, okCode := claims(role).required("role_code", maxID)
		organisation, okOrganisation := claims(role).required("org_code", 10)
		r.RoleProfile, r.JobRole, r.Organisation = id, code[strings.LastIndexByte(code, ':')+1:], record.ODSCode(organisation)
		if !okCode || !isJobRole(r.JobRole) || !okOrganisation || !r.Organisation.Valid() {
			return "role"
		}
	}
	// A registered system speaks for its own organisations only, also through the tokens of people who use it (T-05).
	if c := v.clients[r.Client]; c != nil && r.Organisation != "" && !slices.Contains(c.Organisations, r.Organisation) {
		return "organisation"
	}
	return ""
}

// level reports whether an assurance level, "1" to "3", is at least what is asked for.
func level(c claims, name string, least int) bool {
	s, ok := c.text(name, 1)
	if !ok {
		return false
	}
	if s == "" {
		return least == 0
	}
	n, err := strconv.Atoi(s)
	return err == nil && n >= least && n <= 3
}

// readPerson reads the claims of NHS login. Only identity level P9 counts, of this session (vot): at P5 the NHS number is merely
// claimed, and identity_proofing_level tells the best level ever reached (nhsconnect/nhslogin, vectors of trust).
func readPerson(is *issuer, c claims, r *record.Requester) string {
	vot, ok := c.required("vot", maxID)
	if !ok || vot != "P9" && !strings.HasPrefix(vot, "P9.") {
		return "identity level"
	}
	vtm, ok := c.required("vtm", 512)
	if !ok || is.TrustMark != "" && vtm != is.TrustMark {
		return "trust mark"
	}
	digits, ok := c.required("nhs_number", 10)
	number, err := record.ParseNHSNumber(digits)
	if !ok || err != nil {
		return "nhs number"
	}
	r.Own = number
	if !isOnePerson(r.User) || r.User == r.Client {
		return "user"
	}
	if r.Name, ok = c.text("family_name", maxName); !ok {
		return "name"
	}
	return ""
}

// isJobRole reports whether s has the form of a job role code: a letter and 4 digits, as in R8000 (NHS England, National RBAC Database).
func isJobRole(s string) bool {
	if len(s) != 5 || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
