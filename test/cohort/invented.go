package cohort

import "time"

// NHS numbers of invented people whom tests and the README name.
const (
	Margaret   = "9990000018" // known to all nine custodians; every section
	Dev        = "9990000026" // a short history at one practice
	Aisha      = "9990000034" // objects to mental health being shown
	Thomas     = "9990000042" // objects to all sharing
	Eleanor    = "9990000050" // objects to the county council's record being shown
	George     = "9990000069" // the same letter at two custodians
	Sofia      = "9990000077" // appointments to come
	Callum     = "9990000085" // a child
	Winifred   = "9990000093" // partial and zone-less dates
	Idris      = "9990000107" // urgent care, again and again
	Grace      = "9990000115" // entries in two sections
	Harold     = "9990000123" // plans, alerts and a carer
	Nia        = "9990000131" // resource ids that two custodians share
	Arthur     = "9990000158" // died ten days ago
	UnknownOne = "9990000166" // a number that the demographics service does not know
	OldNumber  = "9990000174" // superseded by Nia's
	Withdrawn  = "9990000182" // invalidated
	Rosemary   = "9990000190" // restricted
	Edwin      = "9990000204" // died long ago, record closed
	Felix      = "9990000212" // live, held by nobody
)

// Invented returns the invented people, as they are on the day of now in London. The same day gives the same people.
func Invented(now time.Time) []Person {
	t := newTown(now)
	t.margaret()
	t.dev()
	t.aisha()
	t.thomas()
	t.eleanor()
	t.george()
	t.sofia()
	t.callum()
	t.winifred()
	t.idris()
	t.grace()
	t.harold()
	t.nia()
	t.arthur()
	t.neutral()
	out := make([]Person, len(t.people))
	for i, p := range t.people {
		out[i] = *p
	}
	return out
}

// neutral are the people of the six neutral classes. Whoever may be held by somebody is, so that a wrong answer has something to show.
func (t *town) neutral() {
	p := t.someone(UnknownOne, "Nobody", "Knownhere", "unknown", "1980-01-01", "not known to the demographics service; the practice has a record under this number")
	p.Standing, p.Patient = Unknown, nil
	t.at(p, "gp").condition("2020-02-02", said("Neutral-class entry of an unknown number"))

	p = t.someone(OldNumber, "Nia", "Frost", "female", "1952-08-30", "superseded by another number; the practice has old notes under this one")
	p.Standing, p.Patient, p.By = Superseded, nil, Nia
	t.at(p, "gp").condition("1999-05-05", said("Neutral-class entry of a superseded number"))

	p = t.someone(Withdrawn, "Made", "Inerror", "unknown", "1975-03-03", "invalidated: the number was given out in error")
	p.Standing, p.Patient = Invalidated, nil
	t.at(p, "acute").condition("2018-01-09", said("Neutral-class entry of an invalidated number"))

	p = t.someone(Rosemary, "Rosemary", "Sheltered", "female", "1990-10-12", "restricted (sensitive) at the demographics service")
	p.Standing = Restricted
	t.at(p, "gp").condition("2021-06-06", said("Neutral-class entry of a restricted person"))
	t.at(p, "socialcare").plan("2024-02-01", "Refuge support plan", "Neutral-class entry of a restricted person")

	p = t.someone(Edwin, "Edwin", "Longago", "male", "1930-04-17", "died in 2019: the record is closed")
	p.died("2019-11-23")
	t.at(p, "gp").condition("2011-09-01", said("Neutral-class entry of a person who died long ago"))

	t.someone(Felix, "Felix", "Freshfield", "male", "2001-07-07", "live, and no custodian holds anything")
}
