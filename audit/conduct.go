package audit

import (
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// What an alert is about is somebody's conduct, not judged yet. Nobody sees of their own what others do about it; and whose record it was learns nothing of it.

// staff is the user id of an asker about whom there may be alerts, "" for people with a token of their own.
func staff(by Actor) string {
	if by.Requester.Kind == record.Person {
		return ""
	}
	return by.Requester.User
}

// alert is the position of the alert that an entry is, handles or looks at, 0 for none.
func (f *Found) alert() uint64 {
	switch {
	case f.Alert != nil:
		return f.Position
	case f.Handled != nil:
		return f.Handled.Alert
	}
	return f.ofAlert
}

// others leaves out of a list what is about the conduct of a user: alerts, what was done to them, and that somebody looked at one. Where the alert is erased, nobody
// can tell whom it was about, and what is left of it goes too.
func (a *answering) others(list []sized, user string) ([]sized, error) {
	if user == "" {
		return list, nil
	}
	var positions []uint64
	for i := range list {
		if p := list[i].alert(); p != 0 && !slices.Contains(positions, p) {
			positions = append(positions, p)
		}
	}
	alerts, err := a.entries(positions)
	if err != nil {
		return nil, err
	}
	shown := map[uint64]bool{0: true}
	for _, f := range alerts {
		shown[f.Position] = f.Alert != nil && f.Alert.Requester.User != user
	}
	return slices.DeleteFunc(list, func(f sized) bool { return !shown[f.alert()] }), nil
}

// Plain is what the person sees of a look at an alert about their record: that somebody asked the ledger about them. The reason goes, which may tell of the alert.
func (f Found) Plain() Found {
	if f.ofAlert == 0 {
		return f
	}
	f.Asked, f.Reason, f.ofAlert = questionLedger, "", 0
	if f.Actor != nil {
		a := *f.Actor
		a.Reason = ""
		f.Actor = &a
	}
	return f
}
